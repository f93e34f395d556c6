"""Frames as HTML: a snippet of one frame, which needs no script."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from tzd.viewers.looks import ALIVE, BLANK, FRESH, GIVEN, STATES, THEMES, WRITTEN, Colour, Looks

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

ROWS = 8  # of a batch that are shown
_LINE = 72  # columns of a line, where the text may choose
_BOX = "display:inline-block;height:1.4em;vertical-align:top;overflow:hidden;width:"
_FONT = "font:13px/1.4 ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-variant-ligatures:none"


def frame_html(
    panel: Panel,
    frame: Frame,
    looks: np.ndarray | None = None,
    theme: str | None = None,
    *,
    steps: np.ndarray | None = None,
    caption: str | None = None,
) -> str:
    """A frame as an element of a page, with its styles in it and no script.

    Every cell has its width whatever it shows, so that one frame in another's place moves nothing.

    Args:
        panel: whose frame it is.
        frame: what to show; of a batch, the first `ROWS` rows.
        looks: (B, T) uint8, what `Looks.of` says; by confidence alone if None.
        theme: "dark" or "light"; as the reader's system is set if None.
        steps: (B, T) int, when each token was written; said where the pointer rests, as confidence always is.
        caption: the line below; step, NFE and what is left if None, no line if empty.
    """
    if looks is None:  # nothing tells what was given: all text counts as written
        looks = Looks().of(replace(frame, revealed=~frame.masked), fresh=frame.revealed)
    rows = [_row(panel, frame, looks, steps, row) for row in range(min(len(frame.tokens), ROWS))]
    width = f"width:{panel.columns * panel.width}ch" if panel.columns else f"max-width:{_LINE}ch"
    style = f"{width};white-space:break-spaces;line-break:anywhere;margin:0 0 .8em"
    texts = "".join(f'<div style="{style}">{row}</div>' for row in rows)
    title = f'<div style="color:var(--faint);margin:0 0 .4em">{escape(panel.title)}</div>' if panel.title else ""
    says = status(panel, frame) if caption is None else caption
    hidden = len(frame.tokens) - len(rows)
    says += f" · {hidden} more not shown" if says and hidden else f"{hidden} more not shown" if hidden else ""
    below = f'<div style="color:var(--faint)">{escape(says)}</div>' if says else ""
    return (
        f'<div dir="ltr" style="{_variables(theme)};background:var(--ground);color:var(--level3);{_FONT};'
        f'padding:12px 14px;border-radius:8px;overflow-x:auto;text-align:left">{title}{texts}{below}</div>'
    )


def status(panel: Panel, frame: Frame) -> str:
    """Where a run is, in a line."""
    left = int(frame.masked.sum())
    generation = "" if frame.generation is None else f"generation {frame.generation} · "
    return f"{generation}step {frame.step} · NFE {frame.nfe} · {left} {panel.unit} left"


def colour_variables(theme: str) -> dict[str, str]:
    """A theme's colours by the names that styles call them."""
    chosen = THEMES[theme]
    named = {"ground": chosen.ground, "faint": chosen.faint, "text": chosen.text, "blank": chosen.blank}
    levels = {f"level{i}": colour for i, colour in enumerate(chosen.levels)}
    return {name: _hex(colour) for name, colour in {**named, **levels, "alive": chosen.alive}.items()}


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _variables(theme: str | None) -> str:
    if theme is not None:
        return ";".join(f"--{name}:{colour}" for name, colour in colour_variables(theme).items())
    light, dark = colour_variables("light"), colour_variables("dark")
    pairs = (f"--{name}:light-dark({light[name]},{dark[name]})" for name in light)
    return "color-scheme:light dark;" + ";".join(pairs)


def _row(panel: Panel, frame: Frame, looks: np.ndarray, steps: np.ndarray | None, row: int) -> str:
    """The cells of one row of a batch."""
    length = int(frame.lengths[row])
    glyphs = panel.glyphs[panel.cells(frame)[row, :length]]
    parts = []
    for column, (glyph, look) in enumerate(zip(glyphs, looks[row, :length].tolist(), strict=True)):
        style = _STYLES[look]
        if panel.width > 1 or not glyph.isascii():  # another font may stand in, of another width
            style += f"{_BOX}{panel.width}ch"
        title = "" if frame.masked[row, column] else _title(frame, look, steps, row, column)
        attributes = (f' style="{style}"' if style else "") + (f' title="{title}"' if title else "")
        parts.append(f"<span{attributes}>{escape(glyph)}</span>")
    return "".join(parts)


def _title(frame: Frame, look: int, steps: np.ndarray | None, row: int, column: int) -> str:
    """What is said of a token where the pointer rests."""
    if look % STATES == GIVEN:
        return "given"
    when = "" if steps is None else f"step {steps[row, column]} · "
    return f"{when}confidence {frame.confidence[row, column]:.2f}"


def _style(look: int) -> str:
    """A cell's colours; a fresh one's are turned round, a living one has a ground of its own."""
    state = look % STATES
    name = "blank" if state == BLANK else "faint" if state == GIVEN else f"level{state - WRITTEN}"
    if look % ALIVE >= FRESH:
        return f"background:var(--{name});color:var(--ground);"
    ground = "background:var(--alive);" if look >= ALIVE else ""
    return f"{ground}color:var(--{name});"


_STYLES = [_style(look) for look in range(2 * ALIVE)]
