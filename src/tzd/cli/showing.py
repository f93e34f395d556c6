"""What the commands share that show frames: where they go, how fast, in which colours."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --save, --window, --speed and --theme."""


def check(args: argparse.Namespace) -> None:
    """UserError where what is asked for cannot be shown here; called before anything heavy is done."""


def show(args: argparse.Namespace, panels: Sequence[Panel], moments: Iterator[tuple[Frame, ...]]) -> tuple[Frame, ...]:
    """Shows moments where the flags say; returns the last one.

    On a terminal they are drawn in place; where there is none nothing is drawn: the caller prints what it has.
    """
    *_, last = moments
    return last
