"""Frames into a file: an animation, a page, or a picture of when each cell was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tzd.errors import UserError

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

SECONDS = 8.0  # that an animation takes, if it may


def check_ending(path: Path) -> None:
    """UserError unless a file of that name can be written."""
    raise UserError(f"cannot write {path}")


def save(
    panels: Sequence[Panel],
    moments: Iterator[tuple[Frame, ...]],
    path: Path,
    *,
    speed: float | None = None,
    theme: str = "dark",
) -> tuple[Frame, ...]:
    """Writes what frames show into a file, as its ending says.

    Args:
        panels: what is shown, side by side.
        moments: a frame for each panel, one after the other; all are drawn.
        path: the file: .gif, .mp4, .html, .png, .svg or .pdf.
        speed: frames a second; what makes it `SECONDS` long if None.
        theme: "dark" or "light".

    Returns:
        The last moment.
    """
    raise UserError(f"cannot write {path}")
