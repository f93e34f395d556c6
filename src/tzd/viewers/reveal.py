"""When every character was written, as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.checkpoint.durable import replace_file
from tzd.viewers.atlas import cell_size, code_of, font_file, has_glyph
from tzd.viewers.layout import MARGIN, TEXT, Layout
from tzd.viewers.looks import THEMES, Theme

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

_DPI = 100  # at which a pixel of the layout is one of the picture
_SHARPER = 2  # times as many are drawn
_BAR = 96  # pixels for the colour bar and its numbers
_MAP = "viridis"


def write_reveal(
    panels: Sequence[Panel],
    moments: Iterator[tuple[Frame, ...]],
    path: Path,
    *,
    theme: str = "dark",
) -> tuple[Frame, ...]:
    """Draws the text; each cell's colour says at which denoiser call, or generation of Life, it was last written.

    Given text has no colour; what is blank at the end is a block.

    Args:
        panels: what is shown.
        moments: a frame for each panel, one after the other.
        path: the picture, .png, .svg or .pdf.
        theme: "dark" or "light".

    Returns:
        The last moment.

    Raises:
        TzdError: the file cannot be written.
    """
    first = last = next(moments)
    when = [_wrote(np.full(frame.tokens.shape, np.nan), frame) for frame in first]
    for last in moments:
        when = [_wrote(before, frame) for before, frame in zip(when, last, strict=True)]
    file = io.BytesIO()
    _figure(panels, first, last, when, THEMES[theme]).savefig(file, format=path.suffix[1:].lower(), dpi=_SHARPER * _DPI)
    replace_file(path, file.getvalue())
    return last


def _wrote(when: np.ndarray, frame: Frame) -> np.ndarray:
    """(B, T) float, when each cell was last written; NaN where never, or where it is blank again."""
    now = frame.nfe if frame.generation is None else frame.generation
    return np.where(frame.masked, np.nan, np.where(frame.revealed, now, when))


def _figure(
    panels: Sequence[Panel], first: tuple[Frame, ...], last: tuple[Frame, ...], when: list[np.ndarray], theme: Theme
) -> Any:
    from matplotlib import colormaps, colors
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, whatever the user's settings say
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    layout = Layout.of(panels, first, 0)
    height, width = layout.status(len(panels) - 1)[0] + _BAR, layout.shape[1]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=_rgb(theme.ground))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    written = np.concatenate([times[np.isfinite(times)] for times in when])
    low, high = (written.min(), written.max()) if written.size else (0, 1)
    mapping = ScalarMappable(colors.Normalize(low, max(high, low + 1)), colormaps[_MAP])
    for i, (panel, frame, times) in enumerate(zip(panels, last, when, strict=True)):
        y, x = layout.corners[i]
        _text(axes, x, y + cell_size(TEXT)[0] / 2, layout.title(i, panel, frame), TEXT, _rgb(theme.text))
        _draw_cells(axes, panel, frame, times, layout, i, mapping, theme)
    bar = figure.add_axes((MARGIN / width, 50 / height, min(0.6, 480 / width), 12 / height))
    colour_bar = figure.colorbar(mapping, cax=bar, orientation="horizontal")
    says = "written at denoiser call (NFE)" if first[0].generation is None else "written in generation"
    if any((~frame.masked & np.isnan(times)).any() for frame, times in zip(last, when, strict=True)):
        says += "; no colour: given"
    font = {"font": _font(TEXT - 1), "color": _rgb(theme.faint)}
    colour_bar.set_label(says, loc="left", **font)
    colour_bar.outline.set_visible(False)
    bar.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar.tick_params(color=_rgb(theme.faint))
    for label in bar.get_xticklabels():
        label.set(font=_font(TEXT - 1), color=_rgb(theme.faint))
    return figure


def _draw_cells(
    axes: Any, panel: Panel, frame: Frame, when: np.ndarray, layout: Layout, i: int, mapping: Any, theme: Theme
) -> None:
    """The cells of panel i: rectangles, in which letters are dark or light, whichever is the more legible."""
    from matplotlib.collections import PolyCollection

    block = layout.blocks[i]
    height, width = block.cell
    top, left = layout.cells(i)
    row, column = np.nonzero(np.arange(frame.tokens.shape[1]) < frame.lengths[: block.rows, None])
    x = left + column % block.columns * width
    y = top + np.array(block.tops)[row] + column // block.columns * height
    times, blank = when[row, column], frame.masked[row, column]
    written = np.isfinite(times)
    fills = mapping.to_rgba(np.where(written, times, 0))
    fills[~written] = (*_rgb(theme.ground), 1)
    fills[blank] = (*_rgb(theme.blank), 1)
    corners = np.array([(0.5, 0.5), (width - 0.5, 0.5), (width - 0.5, height - 0.5), (0.5, height - 0.5)])
    filled = written | blank
    axes.add_collection(
        PolyCollection((np.stack([x, y], 1)[:, None] + corners)[filled], facecolors=fills[filled], linewidths=0)
    )
    inks = np.where((_luminance(fills) > 0.18)[:, None], 0.0, 1.0) * np.ones(3)
    inks[~written] = _rgb(theme.faint)
    glyphs = panel.glyphs[panel.cells(frame)[row, column]]
    middle = (width - panel.width * cell_size(layout.size)[1]) / 2
    for glyph, ink, x_, y_ in zip(glyphs[~blank], inks[~blank], x[~blank], y[~blank], strict=True):
        if not glyph.isspace():
            _text(axes, x_ + middle, y_ + height / 2, glyph.rstrip(), layout.size, ink)


def _text(axes: Any, x: float, y: float, text: str, size: float, colour: Any) -> None:
    """Text whose middle line is at y; the codes of characters that the font lacks, small."""
    if not all(map(has_glyph, text)):
        text = "".join(character if has_glyph(character) else code_of(character) for character in text)
        size /= 2
    axes.text(x, y, text, font=_font(size), color=colour, va="center_baseline", parse_math=False)


def _font(size: float) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=str(font_file()), size=size * 72 / _DPI)


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _luminance(colours: np.ndarray) -> np.ndarray:
    """Of sRGB (…, 3 or 4) in 0..1, as WCAG 2 defines it; at 0.18 black and white are as legible."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
