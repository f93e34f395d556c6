"""Frames into a file: an animation, a page, or a picture of when each cell was written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tzd.errors import UserError

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

SLOWEST, FASTEST = 0.01, 1000.0  # frames a second
ANIMATIONS, PAGES, PICTURES = (".gif", ".mp4"), (".html",), (".png", ".svg", ".pdf")


def check_ending(path: Path) -> None:
    """Says before anything heavy is done whether a file of that name can be written.

    Args:
        path: the file.

    Raises:
        UserError: the ending is none that can be written, there is no such folder, or one may not write there.
        MissingExtraError: an MP4 without ffmpeg.
    """
    ending = path.suffix.lower()
    known = ANIMATIONS + PAGES + PICTURES
    if ending not in known:
        raise UserError(f"cannot write {path}: a file that shows frames ends in {', '.join(known[:-1])} or {known[-1]}")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    check_folder(path)
    if ending == ".mp4":
        from tzd.viewers.animation import ffmpeg

        ffmpeg()


def check_folder(path: Path) -> None:
    """UserError where a file's folder does not exist, or may not be written to."""
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: you may not write to {path.parent}; choose another folder")


def check_speed(speed: float | None, name: str = "speed") -> None:
    """UserError unless a speed, called `name`, is one that can be shown; None is."""
    if speed is not None and not SLOWEST <= speed <= FASTEST:
        raise UserError(f"{name} must lie in {SLOWEST:g}..{FASTEST:g} frames a second, not {speed:g}")


def save(
    panels: Sequence[Panel],
    moments: Iterator[tuple[Frame, ...]],
    path: Path,
    *,
    speed: float | None = None,
    theme: str | None = None,
) -> tuple[Frame, ...]:
    """Writes what frames show into a file, as its ending says; the file is whole, or as it was.

    Args:
        panels: what is shown, side by side.
        moments: a frame for each panel, one after the other; all are drawn.
        path: the file: .gif, .mp4, .html, .png, .svg or .pdf.
        speed: frames a second; that of `tzd.viewers.timeline.pace` if None. A picture of when does not need it.
        theme: "dark" or "light"; if None, dark, and a page as its reader's system is set.

    Returns:
        The last moment.

    Raises:
        UserError: there are no moments, or they make too large a picture; and see `check_ending`, `check_speed`.
        TzdError: the file cannot be written.
    """
    check_ending(path)
    check_speed(speed)
    first = next(moments, None)
    if first is None:
        raise UserError(f"cannot write {path}: there are no frames to show")
    moments, ending = chain([first], moments), path.suffix.lower()
    if ending in PICTURES:
        from tzd.viewers.reveal import write_reveal

        return write_reveal(panels, moments, path, theme=theme or "dark")
    if ending in PAGES:
        from tzd.viewers.html import write_html

        return write_html(panels, moments, path, speed=speed, theme=theme)
    from tzd.viewers.animation import write_animation

    return write_animation(panels, moments, path, speed=speed, theme=theme or "dark")
