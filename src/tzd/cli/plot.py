"""`tzd plot RUN…`: loss, validation, learning rate and speed of runs, as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from tzd.errors import UserError
from tzd.printable import printable

_OVER = ("steps", "tokens", "minutes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a folder that holds some")
    parser.add_argument("--x", choices=_OVER, default="steps", help="what they are drawn over (default steps)")
    parser.add_argument("--smooth", type=int, metavar="N", help="rows of metrics over which noise is averaged, 1 for"
                        " none; one in 40 of a run's if not given")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="the picture, .png, .svg or .pdf (default: plot.png"
                        " in RUN; here if there are several)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Draws, and says where the picture is."""
    from tzd.viewers.plot import find_runs, plot_runs

    if args.smooth is not None and args.smooth < 1:
        raise UserError(f"--smooth must be at least 1, not {args.smooth}")
    folders = list(dict.fromkeys(path for given in args.runs for path in find_runs(given)))
    out = args.out or (args.runs[0] / "plot.png" if len(args.runs) == 1 else Path("plot.png"))
    plot_runs(folders, out, x=args.x, smoothing=args.smooth)
    print(printable(str(out), keep=""))
    return 0
