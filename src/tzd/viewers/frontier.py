"""Quality against cost of many samplers, as a picture: which one, for how many denoiser calls?

Every sampler is a thin line with its name at the end. Colour says how varied its text is: likely text that repeats
itself is no good text, so the frontier is drawn through those alone that are as varied as real text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.errors import UserError
from tzd.printable import printable
from tzd.viewers.figure import INK, check_picture, drawing, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

VARIED = 0.05  # nats: text whose entropy is this near to that of real text counts as varied
_SHADES = ("#d55e00", "#c08d62", "#0080c6", "#0080c6", "#7a3fc0")  # monotonous, less so, as real text, and more random
_FRONTIER = "#009e73"
_NAME = 0.168  # inches between two names
_LONGEST_NAME = 36  # characters
_CROWDED = (0.1, 0.04)  # shares of the axes that names on the frontier are apart at least, in one of the two
_MANY = 6  # samplers, from which on so many per cent of the points, and the frontier, are on the scale:
_ON_SCALE = 85


@dataclass(frozen=True, eq=False)
class Line:
    """A sampler at its budgets, cheapest first; each array (n,).

    Attributes:
        name: of the sampler, with what of it was set.
        nfe: denoiser calls.
        nats: the judge's verdict, nats per character.
        errors: its standard errors.
        gaps: entropy less that of real text, nats.
    """

    name: str
    nfe: np.ndarray
    nats: np.ndarray
    errors: np.ndarray
    gaps: np.ndarray


def plot_frontier(rows: Sequence[Mapping[str, Any]], out: Path, title: str, *, emphasised: str | None = None) -> Path:
    """Draws the judge's verdict over the number of denoiser calls; colour tells the entropy less that of real text.

    Args:
        rows: what `tzd.evaluation.frontier.to_rows` gives, that of real text among them.
        out: the picture, .png, .svg or .pdf.
        title: what stands above it.
        emphasised: the sampler to be drawn thick; none if None, or if it is not there.

    Returns:
        `out`.

    Raises:
        UserError: the ending is none that can be written, or there was no judge.
        TzdError: the file cannot be written.
    """
    check_picture(out)
    return write_figure(frontier_figure(rows, title, emphasised=emphasised), out)


def frontier_figure(rows: Sequence[Mapping[str, Any]], title: str, *, emphasised: str | None = None) -> Figure:
    """The same as a figure."""
    real = next(row for row in rows if row["sampler"] == "real text")
    if real["judge_nats_per_char"] is None:
        raise UserError("a picture of the frontier needs a judge (--judge)")
    lines = _lines(rows, real["unigram_entropy"])
    best = frontier(lines)
    held_out = float(real["judge_nats_per_char"])
    with drawing(10.0, max(5.2, 1.7 + _NAME * len(lines))) as figure:
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontsize=11)
        _set_scales(axes, lines, best, held_out)
        beaten = any((line.nats < held_out).any() for line in lines)
        _draw_real(axes, held_out, float(real["judge_nats_per_char_stderr"] or 0.0), beaten=beaten)
        if len(best):
            stairs = np.vstack([best, [axes.get_xlim()[1], best[-1, 1]]])  # what is dearer can be no worse
            axes.step(*stairs.T, where="post", color=_FRONTIER, linewidth=7, alpha=0.4, zorder=1,
                      solid_capstyle="round",
                      label=f"frontier of those within {VARIED:g} nats of real text's entropy")  # fmt: skip
        shades, scale = _colours(lines)
        for line in lines:
            _draw_line(axes, line, shades, scale, thick=line.name == emphasised)
        _draw_names(axes, lines, best, emphasised)
        if any((line.nats > axes.get_ylim()[1]).any() for line in lines):
            axes.scatter([], [], marker="^", s=46, color=INK, label="off the scale")
        if axes.get_legend_handles_labels()[1]:
            figure.legend(loc="outside upper right", ncols=2, fontsize=9)
        _draw_scale(figure, axes, shades, scale)
    return figure


def frontier(lines: Sequence[Line]) -> np.ndarray:
    """(n, 2) NFE and nats of the points that no other beats in both, the cheapest first; of varied text only."""
    points = sorted(
        (nfe, nats) for line in lines for nfe, nats, gap in zip(line.nfe, line.nats, line.gaps, strict=True)
        if abs(gap) <= VARIED
    )  # fmt: skip
    kept: list[tuple[float, float]] = []
    for nfe, nats in points:
        if not kept or nats < kept[-1][1]:
            kept.append((nfe, nats))
    return np.array(kept).reshape(-1, 2)


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places in 0..1 that are `gap` apart at least, in the same order and as near to the wanted ones as can be, (n,).

    Source: isotonic regression of `wanted` − rank · gap, by pooling adjacent violators.
    """
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, 1 / max(1, len(wanted) - 1))
    steps = gap * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []  # mean and size
    for value in wanted[order] - steps:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        pools.append((mean, size))
    placed = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    result = np.empty(len(wanted))
    result[order] = placed.clip(0, 1 - gap * max(0, len(wanted) - 1)) + steps
    return result


def _lines(rows: Sequence[Mapping[str, Any]], real_entropy: float) -> list[Line]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["sampler"] != "real text":
            groups.setdefault(row.get("variant", row["sampler"]), []).append(row)
    lines = []
    for name, group in groups.items():
        mine = sorted(group, key=lambda row: float(row["nfe"]))
        names = ("nfe", "judge_nats_per_char", "judge_nats_per_char_stderr", "unigram_entropy")
        nfe, nats, errors, entropy = (np.array([float(row[key] or 0.0) for row in mine]) for key in names)
        lines.append(Line(name, nfe, nats, errors, entropy - real_entropy))
    return lines


def _set_scales(axes: Axes, lines: Sequence[Line], best: np.ndarray, held_out: float) -> None:
    nfe = np.concatenate([line.nfe for line in lines] or [np.ones(1)])
    nats = np.concatenate([line.nats for line in lines] or [np.full(1, held_out)])
    high = max(held_out, np.percentile(nats, _ON_SCALE if len(lines) >= _MANY else 100), *best[:, 1])
    low = min(held_out, nats.min())
    margin = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - margin, high + margin)
    axes.set_xscale("log", base=2)
    axes.set_xlim(nfe.min() / 2**0.4, nfe.max() * 2**0.2)
    left, right = np.log2(axes.get_xlim())
    powers = 2.0 ** np.arange(np.ceil(left), np.floor(right) + 1)
    axes.set_xticks(powers if len(powers) > 1 else np.unique(nfe.round(1)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set(xlabel="denoiser calls (NFE)", ylabel="judge: nats per character")


def _draw_real(axes: Axes, nats: float, error: float, *, beaten: bool) -> None:
    axes.axhspan(nats - error, nats + error, color=INK, alpha=0.25, linewidth=0)
    axes.axhline(nats, color=INK, linestyle=(0, (5, 3)), linewidth=1.4)
    axes.annotate("real held-out text", (0, nats), xycoords=("axes fraction", "data"), xytext=(5, 4),
                  textcoords="offset points", fontsize=9.5, fontweight="bold")  # fmt: skip
    if beaten:
        axes.annotate("likelier than real text: a warning", (0, nats), xycoords=("axes fraction", "data"),
                      xytext=(5, -13), textcoords="offset points", fontsize=8.5)  # fmt: skip


def _colours(lines: Sequence[Line]) -> tuple[Colormap, Normalize]:
    """Shades of entropy: blue where it is that of real text or nearly so, whatever the range."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    gaps = np.concatenate([line.gaps for line in lines] or [np.zeros(1)])
    low, high = min(-6 * VARIED, gaps.min()), max(2 * VARIED, gaps.max())
    stops = [(gap - low) / (high - low) for gap in (low, -2.5 * VARIED, -VARIED, VARIED, high)]
    shades = LinearSegmentedColormap.from_list("entropy", list(zip(stops, _SHADES, strict=True)))
    return shades, Normalize(low, high)


def _draw_line(axes: Axes, line: Line, shades: Colormap, scale: Normalize, *, thick: bool) -> None:
    top = axes.get_ylim()[1]
    within = line.nats <= top
    colour = shades(scale(float(np.median(line.gaps))))
    axes.plot(line.nfe, line.nats, color=colour, linewidth=3 if thick else 0.9, alpha=1 if thick else 0.5, zorder=2)
    axes.errorbar(line.nfe, line.nats, yerr=line.errors, fmt="none", ecolor=INK, elinewidth=1, alpha=0.7, zorder=2)
    look: dict[str, Any] = {"cmap": shades, "norm": scale, "edgecolors": INK, "linewidths": 0.5, "zorder": 3}
    size = 70 if thick else 26
    axes.scatter(line.nfe[within], line.nats[within], c=line.gaps[within], s=size, **look)
    off = ~within
    axes.scatter(
        line.nfe[off], np.full(off.sum(), top), c=line.gaps[off], s=size + 20, marker="^", clip_on=False, **look
    )
    if thick and within.any():
        at = int(within.argmax())
        axes.annotate(_shown(line.name), (line.nfe[at], line.nats[at]), xytext=(9, 5), textcoords="offset points",
                      fontsize=10, fontweight="bold", color=colour)  # fmt: skip


def _draw_names(axes: Axes, lines: Sequence[Line], best: np.ndarray, emphasised: str | None) -> None:
    """The name of each line beside the axes, as high as its end or nearly so; on the frontier at its point too."""
    low, high = axes.get_ylim()
    ends = np.array([min(line.nats[-1], high) for line in lines])
    places = spread((ends - low) / (high - low), _NAME / (axes.get_figure().get_figheight() - 1.8))  # type: ignore[union-attr]
    owners = [next(line.name for line in lines if point in _points(line)) for point in map(tuple, best)]
    for line, end, place in zip(lines, ends, places, strict=True):
        wins = line.name in owners
        axes.annotate(
            _shown(line.name), (line.nfe[-1], end), xytext=(1.05, place), textcoords="axes fraction", va="center",
            fontsize=9, color=_FRONTIER if wins else INK,
            fontweight="bold" if wins or line.name == emphasised else "normal",
            arrowprops={"arrowstyle": "-", "color": INK, "alpha": 0.35, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4,
                        "relpos": (0, 0.5)},
        )  # fmt: skip
    left, right = np.log2(axes.get_xlim())
    named: list[np.ndarray] = []
    for i, (name, (nfe, nats)) in enumerate(zip(owners, best, strict=True)):
        at = np.array([(np.log2(nfe) - left) / (right - left), (nats - low) / (high - low)])
        crowded = any((np.abs(at - other) < _CROWDED).all() for other in named)
        if name != emphasised and (i == 0 or name != owners[i - 1]) and not crowded:
            named.append(at)
            room = at[0] > 0.012 * len(_shown(name))  # before the point
            axes.annotate(_shown(name), (nfe, nats), xytext=(-7 if room else 7, -4), textcoords="offset points",
                          va="top", ha="right" if room else "left", color=_FRONTIER, fontsize=8.5,
                          fontweight="bold")  # fmt: skip


def _points(line: Line) -> set[tuple[float, float]]:
    return set(zip(line.nfe, line.nats, strict=True))


def _shown(name: str) -> str:
    name = printable(name, keep="")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _draw_scale(figure: Figure, axes: Axes, shades: Colormap, scale: Normalize) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(scale, shades), ax=axes, orientation="horizontal", aspect=55, pad=0.02)
    bar.set_label("unigram entropy less that of real text (nats):  below 0, text repeats itself; above 0, it is noise")
    bar.outline.set_visible(False)
