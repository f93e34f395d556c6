"""What `tzd watch` and `tzd compare` share that replay traces instead of sampling."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tzd.errors import UserError

if TYPE_CHECKING:
    from tzd.viewers.trace import Trace

SHOWING = {"checkpoint", "save", "window", "speed", "theme", "quiet", "json"}  # what a replay heeds
_SLOWEST = 4.0  # frames a second


def read(args: argparse.Namespace, path: str, add_arguments: Callable[[argparse.ArgumentParser], None]) -> Trace:
    """A trace, after a look at what else was asked for.

    Args:
        args: what was given.
        path: of the trace.
        add_arguments: adds the command's flags.

    Raises:
        UserError: a flag says how to sample.
        CheckpointError: the trace cannot be read.
    """
    from tzd.viewers.trace import read_trace

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for action in parser._actions:
        if action.dest not in SHOWING and getattr(args, action.dest, action.default) != action.default:
            flag = action.option_strings[0]
            raise UserError(f"{flag} is for a model, and {path} is a trace, which has been sampled: leave {flag} out")
    return read_trace(Path(path))


def pace(frames: int) -> float:
    """Frames a second at which a replay on a screen takes about as long as an animation."""
    from tzd.viewers.timeline import SECONDS

    return max(_SLOWEST, math.ceil(frames / SECONDS))
