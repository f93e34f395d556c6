"""What runs recorded, as a picture: loss, validation, learning rate and speed, each run a line in all four."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.errors import UserError
from tzd.printable import printable
from tzd.training.records import METRICS, read_metrics
from tzd.viewers.figure import COLOURS, DASHES, MARKS, check_picture, drawing, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

AXES = {  # what a run is drawn over -> column, how much of it is one, label
    "steps": ("step", 1.0, "optimizer steps"),
    "tokens": ("tokens", 1.0, "tokens seen"),
    "minutes": ("seconds", 60.0, "minutes of training"),
}
MOST_RUNS = len(COLOURS) * len(DASHES)  # beyond that, two would look alike
_LONGEST_NAME = 60  # characters
_SMOOTHED = 40  # how many stretches a noisy curve is smoothed to
_WIDTH, _HEIGHT, _LEGEND_LINE = 9.0, 5.4, 0.21  # inches


@dataclass(frozen=True, eq=False)
class _Run:
    name: str
    metrics: dict[str, np.ndarray]
    colour: str
    dash: Any
    mark: str

    def curve(self, x: str, column: str) -> tuple[np.ndarray, np.ndarray]:
        """What a column holds, over what; rows that lack one of them left out."""
        over, one, _ = AXES[x]
        at, values = self.metrics[over] / one, self.metrics[column]
        there = np.isfinite(at) & np.isfinite(values)
        return at[there], values[there]


def find_runs(folder: Path) -> list[Path]:
    """The runs that a folder stands for: itself, or, where it has no metrics, the folders in it that have."""
    if (folder / METRICS).exists() or not folder.is_dir():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{METRICS}")) or [folder]


def plot_runs(folders: Sequence[Path], out: Path, *, x: str = "steps", smoothing: int | None = None) -> Path:
    """Draws what runs recorded.

    Args:
        folders: of the runs.
        out: the picture, .png, .svg or .pdf.
        x: what they are drawn over, one of `AXES`.
        smoothing: see `runs_figure`.

    Returns:
        `out`.

    Raises:
        UserError: a run has no metrics, or damaged ones; or the ending is none that can be written.
        TzdError: the file cannot be written.
    """
    check_picture(out)
    return write_figure(runs_figure(folders, x=x, smoothing=smoothing), out)


def runs_figure(folders: Sequence[Path], *, x: str = "steps", smoothing: int | None = None) -> Figure:
    """Training loss, validation NELBO, learning rate and tokens per second of runs.

    The validation is in bits per character, or, where a run knows no characters, in nats per token for all; its
    standard error is a band. Noisy curves stand faint behind what is left of them when they are smoothed.

    Args:
        folders: of the runs.
        x: what they are drawn over, one of `AXES`.
        smoothing: rows of metrics over which noise is averaged, 1 for none; a share of those that there are if None.

    Raises:
        UserError: a run has no metrics, or damaged ones; none has recorded anything yet; or there are too many.
    """
    runs = _read(folders)
    if not any(run.metrics["step"].size for run in runs):
        raise UserError(f"{folders[0]} has recorded nothing yet: wait for its first step")
    in_characters = not any(
        np.isnan(run.metrics["val_bits_per_char"][np.isfinite(run.metrics["val_nats_per_token"])]).any() for run in runs
    )
    column, unit = (
        ("val_bits_per_char", "bits per character") if in_characters else ("val_nats_per_token", "nats per token")
    )
    labels = [_label(run, column) for run in runs]
    columns = max(1, min(len(runs), int(110 / (11 + max(map(len, labels))))))
    with drawing(_WIDTH, _HEIGHT + _LEGEND_LINE * -(-len(runs) // columns)) as figure:
        (loss, validation), (rate, speed) = figure.subplots(2, 2, sharex=True)
        for run in runs:
            _noisy(loss, run, x, "loss", smoothing)
            _validation(validation, run, x, column)
            _line(rate, run, *run.curve(x, "lr"))
            _noisy(speed, run, x, "tokens_per_second", smoothing)
        loss.set_ylabel("training objective")  # no unit: pooled is no bound in nats
        validation.set_ylabel(f"validation NELBO\n({unit})")
        rate.set(ylabel="learning rate", xlabel=AXES[x][2])
        speed.set(ylabel="tokens per second", xlabel=AXES[x][2])
        _finish(figure, x)
        figure.legend(_handles(runs), labels, loc="outside upper center", ncols=columns, fontsize=8.5, handlelength=3.6)
    return figure


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """The running mean over `width` values, (N,); over fewer, but as many on each side, towards the ends.

    So a straight line stays what it is, and a steep start is not flattened.
    """
    at = np.arange(len(values))
    half = np.minimum(min(width, len(values)) // 2, np.minimum(at, at[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[at + half + 1] - sums[at - half]) / (2 * half + 1)


def _read(folders: Sequence[Path]) -> list[_Run]:
    if len(folders) > MOST_RUNS:
        raise UserError(f"{len(folders)} runs are too many for one picture: name {MOST_RUNS} at most")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    looks = ((colour, dash) for dash, colour in product(DASHES, COLOURS))
    names = [name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}" for name in names]
    return [
        _Run(printable(name, keep=""), read_metrics(folder), colour, dash, mark)
        for name, folder, (colour, dash), mark in zip(names, folders, looks, cycle(MARKS), strict=False)
    ]


def _label(run: _Run, column: str) -> str:
    values = run.metrics[column][np.isfinite(run.metrics[column])]
    return f"{run.name}: {values.min():.3f} at best" if values.size else run.name


def _handles(runs: Sequence[_Run]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=run.colour, linestyle=run.dash, marker=run.mark, markersize=4) for run in runs]


def _line(axes: Axes, run: _Run, at: np.ndarray, values: np.ndarray, *, mark: bool = False) -> None:
    marker = run.mark if mark or len(at) == 1 else ""  # a single point is no line
    axes.plot(at, values, color=run.colour, linestyle=run.dash, linewidth=1.6, marker=marker, markersize=4)


def _noisy(axes: Axes, run: _Run, x: str, column: str, smoothing: int | None) -> None:
    at, values = run.curve(x, column)
    width = len(values) // _SMOOTHED if smoothing is None else smoothing
    if width > 1:
        axes.plot(at, values, color=run.colour, linewidth=0.8, alpha=0.3)
        values = smoothed(values, width)
    _line(axes, run, at, values)


def _validation(axes: Axes, run: _Run, x: str, column: str) -> None:
    at, values = run.curve(x, column)
    _, nats = run.curve(x, "val_nats_per_token")
    over, errors = run.curve(x, "val_stderr")
    if len(errors) == len(values) == len(nats) and np.array_equal(over, at):
        errors = errors * np.divide(values, nats, out=np.zeros_like(nats), where=nats > 0)  # nats per token -> the unit
        axes.fill_between(at, values - errors, values + errors, color=run.colour, alpha=0.2, linewidth=0)
    _line(axes, run, at, values, mark=True)


def _finish(figure: Figure, x: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for axes in figure.axes:
        if x != "minutes":
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))  # no half steps
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if not any(len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
            axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
    rate, speed = figure.axes[2:]
    rate.ticklabel_format(axis="y", scilimits=(-3, 3))
    speed.set_ylim(bottom=0)
    speed.yaxis.set_major_formatter(EngFormatter(sep=""))
