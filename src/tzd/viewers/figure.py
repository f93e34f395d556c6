"""Figures of curves and points: how they look, on a light page and on a dark one, and how they become a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tzd.checkpoint.durable import replace_file
from tzd.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
INK = "#7b7b7b"  # the grey whose contrast is the same on white and on almost black: 4.3

# Okabe and Ito's colours, as far as they stand out from white and from almost black; then with another dash each.
COLOURS = ("#0080c6", "#d55e00", "#009e73", "#c566a0", "#ab8500")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MARKS = "osD^v"

_STYLE = {
    "text.usetex": False,
    "text.color": INK,
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
}


def check_picture(out: Path) -> None:
    """UserError unless a figure can be written to a file of that name."""
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"cannot write {out}: a picture ends in {', '.join(FORMATS)}")


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure without a ground, for the time that it is drawn.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, whatever the user's settings say
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def write_figure(figure: Figure, out: Path) -> Path:
    """Writes a figure, whole or not at all.

    Returns:
        `out`.

    Raises:
        UserError: the ending is none that can be written.
        TzdError: the file cannot be written.
    """
    check_picture(out)
    from matplotlib import rc_context

    data = BytesIO()
    with warnings.catch_warnings(), rc_context(_STYLE):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # shown as a box
        figure.savefig(data, format=out.suffix[1:].lower(), dpi=150)
    replace_file(out, data.getvalue())
    return out
