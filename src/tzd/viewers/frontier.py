"""Quality against cost of many samplers, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tzd.errors import UserError
from tzd.viewers.figure import FORMATS

_MARKS = "osD^v<>Pp*Xhd"


def plot_frontier(rows: Sequence[Mapping[str, Any]], out: Path, title: str) -> Path:
    """Draws the judge's verdict over the number of denoiser calls; colour tells the entropy less that of real text.

    Args:
        rows: what `tzd.evaluation.frontier.to_rows` gives, that of real text among them.
        out: the picture, .png, .svg or .pdf.
        title: what stands above it.

    Raises:
        UserError: the ending is none that can be written, or there was no judge.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"cannot write {out}: a picture ends in {', '.join(FORMATS)}")
    real = next(row for row in rows if row["sampler"] == "real text")
    if real["judge_nats_per_char"] is None:
        raise UserError("a picture of the frontier needs a judge (--judge)")
    from matplotlib import colormaps, colors
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [row for row in rows if row is not real]
    gaps = [row["unigram_entropy"] - real["unigram_entropy"] for row in points]
    widest = max(0.05, *map(abs, gaps)) if gaps else 0.05
    scale = colors.Normalize(-widest, widest)
    names = list(dict.fromkeys(row["sampler"] for row in points))
    for i, name in enumerate(names):
        mine = sorted((row for row in points if row["sampler"] == name), key=lambda row: row["nfe"])
        nfe, nats = ([row[key] for row in mine] for key in ("nfe", "judge_nats_per_char"))
        errors = [row["judge_nats_per_char_stderr"] for row in mine]
        axes.plot(nfe, nats, color="0.75", linewidth=1, zorder=1)
        axes.errorbar(nfe, nats, yerr=errors, fmt="none", ecolor="0.6", elinewidth=1, zorder=1)
        shades = [row["unigram_entropy"] - real["unigram_entropy"] for row in mine]
        axes.scatter(
            nfe, nats, c=shades, cmap="coolwarm_r", norm=scale, marker=_MARKS[i % len(_MARKS)], s=46,
            edgecolors="0.3", linewidths=0.5, zorder=2, label=name,
        )  # fmt: skip
    axes.axhline(real["judge_nats_per_char"], color="0.2", linestyle="--", linewidth=1.2)
    axes.annotate("real held-out text", (1, real["judge_nats_per_char"]), xycoords=("axes fraction", "data"),
                  xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=9)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set(xlabel="denoiser calls (NFE)", ylabel="judge: nats per character", title=title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.colorbar(
        ScalarMappable(scale, colormaps["coolwarm_r"]),
        ax=axes,
        label="unigram entropy less that of real text (nats)",
    )
    legend = axes.legend(fontsize=8, ncols=2, frameon=False, loc="upper right")
    for handle in legend.legend_handles:
        handle.set(facecolor="0.8")  # type: ignore[union-attr]
    figure.savefig(out, dpi=150)
    return out
