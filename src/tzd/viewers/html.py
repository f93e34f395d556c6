"""Frames as HTML: one as a snippet without a script, many as a page that plays them and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.checkpoint.durable import replace_file
from tzd.errors import UserError
from tzd.viewers.film import Recorder
from tzd.viewers.looks import ALIVE, BLANK, FRESH, GIVEN, STATES, THEMES, WRITTEN, Colour, Looks
from tzd.viewers.timeline import pace

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

ROWS = 8  # of a batch that are shown
_FASTEST = 60.0  # frames a second, unless told
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
        caption: the line below; where the run is if None, no line if empty.
    """
    if looks is None:  # nothing tells what was given: all text counts as written
        looks = Looks().of(replace(frame, revealed=~frame.masked), fresh=frame.revealed)
    rows = [_row(panel, frame, looks, steps, row) for row in range(min(len(frame.tokens), ROWS))]
    # A little room at a line's end: browsers round widths up, and its last cell must not fall out of it.
    width = f"width:calc({panel.columns * panel.width}ch + 4px)" if panel.columns else f"max-width:{_LINE}ch"
    style = f"{width};white-space:break-spaces;line-break:anywhere;margin:0 0 .8em"
    texts = "".join(f'<div style="{style}">{row}</div>' for row in rows)
    title = f'<div style="color:var(--faint);margin:0 0 .4em">{escape(panel.title)}</div>' if panel.title else ""
    says = " · ".join(panel.status(frame)) if caption is None else caption
    hidden = len(frame.tokens) - len(rows)
    says += f" · {hidden} more not shown" if says and hidden else f"{hidden} more not shown" if hidden else ""
    below = f'<div style="color:var(--faint)">{escape(says)}</div>' if says else ""
    return (
        f'<div dir="ltr" style="{colour_style(theme)};background:var(--ground);color:var(--level3);{_FONT};'
        f'padding:12px 14px;border-radius:8px;overflow-x:auto;text-align:left">{title}{texts}{below}</div>'
    )


def _colours(theme: str) -> dict[str, str]:
    """A theme's colours by the names that styles call them."""
    chosen = THEMES[theme]
    named = {"ground": chosen.ground, "faint": chosen.faint, "text": chosen.text, "blank": chosen.blank}
    levels = {f"level{i}": colour for i, colour in enumerate(chosen.levels)}
    return {name: _hex(colour) for name, colour in {**named, **levels, "alive": chosen.alive}.items()}


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def colour_style(theme: str | None) -> str:
    """The style in which `var(--ground)` and its like are a theme's colours; those of the reader's system if None."""
    light, dark = _colours("light"), _colours("dark")
    if theme is None:
        scheme, colours = "light dark", {name: f"light-dark({light[name]},{dark[name]})" for name in light}
    else:
        scheme, colours = theme, _colours(theme)
    colours["haze"] = "color-mix(in srgb,var(--blank) 22%,transparent)"  # behind [MASK]
    return f"color-scheme:{scheme};" + ";".join(f"--{name}:{colour}" for name, colour in colours.items())


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
    ground = "alive" if look >= ALIVE else "haze" if state == BLANK else ""
    ground = f"background:var(--{ground});" if ground else ""
    return f"{ground}color:var(--{name});"


_STYLES = [_style(look) for look in range(2 * ALIVE)]


def player_html(
    panels: Sequence[Panel],
    moments: Iterable[tuple[Frame, ...]],
    *,
    speed: float | None = None,
    theme: str | None = None,
) -> tuple[str, tuple[Frame, ...]]:
    """A page on which frames can be played, stepped through, and asked when each token was written and how surely.

    Args:
        panels: what is shown, side by side; of a batch, the first rows.
        moments: a frame for each panel, one after the other.
        speed: frames a second; that of `tzd.viewers.timeline.pace` if None.
        theme: "dark" or "light"; as the reader's system is set if None.

    Returns:
        The page, and the last moment.

    Raises:
        UserError: there are no moments.
    """
    reels, last = [_Reel(panel) for panel in panels], None
    for last in moments:
        for reel, frame in zip(reels, last, strict=True):
            reel.add(frame)
    if last is None:
        raise UserError("there is nothing to show: the run had been iterated over before, or never began")
    count = len(reels[0].counts)
    speed = min(_FASTEST, pace(count, last)) if speed is None else speed
    data = json.dumps({"speed": speed, "panels": [reel.data() for reel in reels]}, separators=(",", ":"))
    title = " · ".join(panel.title for panel in panels if panel.title) or "Denoising"
    return _page(title, data, theme), last


def write_html(
    panels: Sequence[Panel],
    moments: Iterable[tuple[Frame, ...]],
    path: Path,
    *,
    speed: float | None = None,
    theme: str | None = None,
) -> tuple[Frame, ...]:
    """Writes a page that plays frames into one file; takes what `player_html` takes.

    Returns:
        The last moment.

    Raises:
        UserError: there are no moments.
        TzdError: the file cannot be written; it is as it was.
    """
    page, last = player_html(panels, moments, speed=speed, theme=theme)
    replace_file(path, page.encode())
    return last


def _page(title: str, data: str, theme: str | None) -> str:
    """The template, filled; its policy allows its own style and script, by their hashes, and nothing else."""
    template = resources.files("tzd.viewers").joinpath("player.html").read_text("utf-8")
    template = template.replace("@colours@", colour_style(theme))
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'"
    for tag in ("style", "script"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        policy += f"; {tag}-src 'sha256-{digest}'"
    filled = {"csp": policy, "title": escape(title), "data": data.replace("<", "\\u003c").replace(">", "\\u003e")}
    return re.sub("@(csp|title|data)@", lambda found: filled[found[1]], template)


class _Reel:
    """What changes in a panel from frame to frame, in numbers that the page's script reads."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.counts: list[int] = []
        self._times: list[tuple[int, int, int | None]] = []
        self._recorder, self._looks = Recorder(), Looks()
        self._changes: list[tuple[np.ndarray, ...]] = []
        self._before: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Takes the next frame; one that is still shown, because its run is over, changes nothing."""
        self._times.append((frame.step, frame.nfe, frame.generation))
        if frame is self._before:
            self.counts.append(0)
            return
        looks, change = self._looks.of(frame), self._recorder.add(frame)
        shown = change.cells < ROWS * frame.tokens.shape[1]
        cells = change.cells[shown]
        glyphs, sure = self.panel.cells(frame).flat[cells], np.rint(100 * change.confidence[shown])
        self._changes.append((cells, glyphs, looks.flat[cells], sure.clip(0, 100)))
        self.counts.append(len(cells))
        self._before = frame

    def data(self) -> dict[str, Any]:
        """What `Panel` of the script takes."""
        panel, film = self.panel, self._recorder.film
        cells, glyphs, looks, sure = (np.concatenate(part) for part in zip(*self._changes, strict=True))
        mask = len(panel.pieces)
        used = np.unique(np.append(glyphs, mask))
        used = np.append(mask, used[used != mask])  # [MASK] is number 0
        ranks = np.argsort(used)
        pieces = [*panel.pieces, panel.glyphs[mask], ""]
        steps, nfe, generations = zip(*self._times, strict=True)
        return {
            "title": panel.title,
            "columns": panel.columns,
            "width": panel.width,
            "unit": panel.unit,
            "length": film.width,
            "lengths": film.lengths[:ROWS].tolist(),
            "more": max(0, len(film.lengths) - ROWS),
            "glyphs": [panel.glyphs[token] for token in used],
            "texts": [pieces[token] for token in used],
            "steps": steps,
            "nfe": nfe,
            "generations": generations if film.lives else None,
            "counts": self.counts,
            "cell": _encoded(cells),
            "glyph": _encoded(ranks[np.searchsorted(used, glyphs, sorter=ranks)]),
            "look": _encoded(looks),
            "sure": _encoded(sure),
        }


def _encoded(numbers: np.ndarray) -> str:
    """Numbers in base64, each of 1, 2 or 4 bytes, as the largest needs."""
    kind = np.min_scalar_type(int(numbers.max(initial=0)))
    return base64.b64encode(numbers.astype(kind.newbyteorder("<")).tobytes()).decode()
