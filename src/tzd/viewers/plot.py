"""A run's loss and validation, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tzd.errors import UserError
from tzd.training.records import read_metrics

FORMATS = (".png", ".svg", ".pdf")


def plot_run(folder: Path, out: Path) -> Path:
    """Draws the training loss and the validation NELBO of a run over its steps.

    Args:
        folder: a run folder.
        out: the picture, .png, .svg or .pdf.

    Returns:
        `out`.

    Raises:
        UserError: the run has no metrics, or the ending is none that can be written.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"cannot write {out}: a picture ends in {', '.join(FORMATS)}")
    metrics = read_metrics(folder)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, whatever the user's settings say
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.suptitle(folder.name)
    _line(left, metrics["step"], metrics["loss"], "tab:blue", "")
    left.set(xlabel="optimizer steps", ylabel="training objective")  # no unit: pooled is no bound in nats
    _line(right, metrics["step"], metrics["val_bits_per_char"], "tab:orange", "o")
    right.set(xlabel="optimizer steps", ylabel="validation NELBO (bits per character)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)
    return out


def _line(axes, steps: np.ndarray, values: np.ndarray, colour: str, marker: str) -> None:  # type: ignore[no-untyped-def]
    there = np.isfinite(values)
    axes.plot(steps[there], values[there], color=colour, marker=marker, markersize=4, linewidth=1.6)
