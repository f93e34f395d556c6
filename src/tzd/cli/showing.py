"""What the commands share that show frames: where they go, how fast, in which colours."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.errors import TzdError, UserError

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --save, --window, --speed and --theme."""
    group = parser.add_argument_group("what is shown")
    group.add_argument("--save", action="append", default=[], type=Path, metavar="FILE",
                       help=".gif, .mp4, .html, .png, .svg or .pdf; may be given several times")  # fmt: skip
    group.add_argument("--window", action="store_true", help="show it in a window instead of in the terminal")
    group.add_argument("--speed", type=float, metavar="N",
                       help="frames a second, every one of them shown; as fast as they come if not given, and files"
                       " of some seconds")  # fmt: skip
    group.add_argument("--theme", choices=("dark", "light"),
                       help="of the window and of files (default dark; a page as its reader's is)")  # fmt: skip
    parser.set_defaults(unsaved=[])


def check(args: argparse.Namespace) -> None:
    """UserError where what is asked for cannot be shown here; called before anything heavy is done."""
    from tzd.viewers.save import check_ending, check_speed

    check_speed(args.speed, "--speed")
    for path in args.save:
        check_ending(path)
    if args.window:
        from tzd.viewers.window import check_screen

        check_screen()


def panel_of(model: Model, title: str = "", columns: int | None = None) -> Panel:
    """What is shown of a model's runs; UserError where nothing says what its tokens mean."""
    from tzd.viewers.panel import Panel

    if model.tokenizer is None:
        raise UserError("this model has no tokenizer, so that it cannot write text: put its tokenizer.json beside it")
    return Panel.of(model.tokenizer, title, columns)


def title_of(sampler: str, settings: Mapping[str, Any]) -> str:
    """What stands above a run: the sampler, and the settings that were given."""
    return " · ".join([sampler, *(f"{key} {value}" for key, value in settings.items())])


def show(
    args: argparse.Namespace,
    panels: Sequence[Panel],
    moments: Iterable[tuple[Frame, ...]],
    *,
    pace: float | None = None,
) -> tuple[Frame, ...]:
    """Shows moments where the flags say; returns the last one. Takes what `passing` takes."""
    shown = passing(args, panels, moments, pace=pace)
    with closing(shown):  # whatever happens, the terminal is whole again before anything is said about it
        last = deque(shown, maxlen=1)
    if not last:
        raise UserError("there are no frames to show")
    return last[0]


def passing(
    args: argparse.Namespace,
    panels: Sequence[Panel],
    moments: Iterable[tuple[Frame, ...]],
    *,
    pace: float | None = None,
) -> Generator[tuple[Frame, ...]]:
    """Shows moments where the flags say, as they pass.

    On a terminal they are drawn in place, and the drawing is gone when the last one has been shown; where there is none
    nothing is drawn: the caller prints what it has. Files are written at the end. Whoever closes the window before it
    has interrupted the command. A file that cannot be written is said by `settle`, when all else is done.

    Args:
        args: the flags of `add_arguments`; with `quiet`, if there is such a flag, the terminal stays as it is.
        panels: what is shown, side by side.
        moments: a frame for each panel, one after the other.
        pace: frames a second on a screen, where no --speed is given; as fast as they come if None.

    Yields:
        The same moments.
    """
    moments, record = iter(moments), []
    for moment in _drawn(args, panels, moments, args.speed or pace):
        if args.save:
            record.append(moment)
        yield moment
    if next(moments, None) is not None:
        raise KeyboardInterrupt
    for path in args.save:
        from tzd.viewers.save import save

        try:
            save(panels, iter(record), path, speed=args.speed, theme=args.theme)
            print(f"wrote {path}", file=sys.stderr)
        except TzdError as error:  # the run cannot be had again for nothing: the text and the other files are kept
            args.unsaved.append(error)


def settle(args: argparse.Namespace) -> None:
    """Says that a file could not be written, after the command has printed and kept what it has."""
    for error in args.unsaved:
        raise error


def _drawn(
    args: argparse.Namespace, panels: Sequence[Panel], moments: Iterable[tuple[Frame, ...]], speed: float | None
) -> Iterable[tuple[Frame, ...]]:
    """The moments, drawn as they pass."""
    if args.window:
        from tzd.viewers.window import window

        return window(panels, moments, speed=speed, theme=args.theme or "dark")
    if sys.stdout.isatty() and not getattr(args, "quiet", False):
        from tzd.viewers.terminal import in_place

        return in_place(panels, moments, speed=speed)
    return moments
