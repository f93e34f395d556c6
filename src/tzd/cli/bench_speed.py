"""`tzd bench train|sample|startup|corpus`: what they cost, beside a plain baseline and the machine's own peaks."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.checkpoint.durable import replace_file
from tzd.errors import TzdError, UserError

if TYPE_CHECKING:
    from rich.table import Table

    from tzd.bench.grid import Limits
    from tzd.bench.sizes import Cell

# The lists whose combinations are the cells: what they are of, and what is taken unless more is asked for.
_LISTS = {
    "sizes": ("of 0.8M, 10.7M, 71M, smdm-113M", "10.7M"),
    "vocab": ("numbers of tokens", "66"),
    "batch": ("rows", "16"),
    "length": ("tokens of a row", "256"),
    "engine": ("of torch, mlx", "torch"),
}
_SAMPLING = {"batch": "1,16"}  # where it differs


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommands and their flags."""
    train = actions.add_parser("train", help="training: tokens a second, beside a plain loop and the machine's peak")
    sample = actions.add_parser(
        "sample", help="sampling: a pass, characters a second, beside a plain loop and the peak"
    )
    for parser, other in ((train, {}), (sample, _SAMPLING)):
        for name, (text, usual) in _LISTS.items():
            help_ = f"{text} (default {other.get(name, usual)})"
            parser.add_argument(f"--{name}", metavar="X,X", help=help_)
        parser.add_argument("--grid", action="store_true", help="of what is not given, take more: all sizes,"
                            " vocabularies 66, 4096 and 32000, batches 1, 16 and 64, lengths 256 and 1024, every engine"
                            " that is installed")  # fmt: skip
        parser.add_argument("--minutes", type=float, default=5.0, metavar="X", help="skip a cell that would take longer"
                            " (default 5)")  # fmt: skip
    train.add_argument("--steps", type=int, default=4, metavar="N", help="optimizer steps of a turn (default 4)")
    sample.add_argument("--steps", type=int, default=32, metavar="N", help="of the sampler, and as many passes of the"
                        " plain loop are timed (default 32)")  # fmt: skip
    sample.add_argument("--precision", default="auto,32", metavar="A,B", help="auto, 32, bf16, int8, int4 (default"
                        " auto,32)")  # fmt: skip
    startup = actions.add_parser("startup", help="how long commands take to begin, and what they import")
    corpus = actions.add_parser("corpus", help="tzd corpus build: MB a second, and memory")
    corpus.add_argument("--mebibytes", type=int, default=64, metavar="N", help="of text (default 64)")
    for parser in (train, sample, startup):
        parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each (default 3)")
    for parser in (train, sample, startup, corpus):
        parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table for each cell, says what it skips."""
    _check(args)
    _measure(args)
    return 0


def _measure(args: argparse.Namespace) -> None:
    if args.action in ("train", "sample"):
        _complete(args)
    report = Report(args)
    if args.action in ("train", "sample"):
        _measure_cells(args, report)
    elif args.action == "startup":
        from tzd.bench import startup

        report.add(startup.measure(args.rounds), startup.table)
    else:
        from tzd.bench import corpus

        report.add(corpus.measure(args.mebibytes), corpus.table)


def _check(args: argparse.Namespace) -> None:
    if os.name == "nt":
        raise UserError(f"tzd bench {args.action} measures on Linux and macOS only")
    least = {"rounds": 1, "mebibytes": 1, "steps": 2 if args.action == "train" else 1}
    for name, low in least.items():
        if getattr(args, name, low) < low:
            raise UserError(f"--{name} must be at least {low}, not {getattr(args, name)}")
    if not 0 < getattr(args, "minutes", 1) < math.inf:
        raise UserError(f"--minutes must be a number above 0, not {args.minutes:g}")
    if args.json is not None:
        folder = args.json.parent
        if not folder.is_dir():
            raise UserError(f"--json {args.json}: there is no folder {folder}")
        if args.json.is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"--json {args.json}: it cannot be written there")


class Report:
    """What has been measured so far: printed as it comes, and in a file.

    Args:
        args: of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from tzd.bench.machine import describe

        settings = {name: value for name, value in vars(args).items() if name not in ("action", "json")}
        self._path: Path | None = args.json
        self.data: dict[str, Any] = {"bench": args.action, "machine": describe(), "settings": settings}
        self.data |= {"results": [], "skipped": [], "failed": []}

    def add(self, result: dict[str, Any], table: Callable[[Any], Table]) -> None:
        """A result."""
        from rich.console import Console

        Console(width=120).print(table(result))
        self.data["results"].append(result)
        self._write()

    def leave_out(self, cell: Cell, why: str, kind: str = "skipped") -> None:
        """A cell that is not measured, or failed."""
        print(f"{kind}: {cell}: {why}", flush=True)
        self.data[kind].append({**vars(cell), "why": why})
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            replace_file(self._path, (json.dumps(self.data, indent=1) + "\n").encode())


def _measure_cells(args: argparse.Namespace, report: Report) -> None:
    from tzd.bench import grid, sampling, training
    from tzd.bench.turns import WorkerError
    from tzd.engines.inputs import PRECISIONS

    cells = _cells(args)
    precisions = grid.names(args.precision, "--precision", PRECISIONS) if args.action == "sample" else []
    limits: dict[str, Limits] = {}
    for cell in cells:
        lacking = grid.LACKING[cell.engine]
        for precision in lacking:
            if precision in precisions:
                report.leave_out(cell, f"the {cell.engine} engine has no precision={precision}")
        chosen = [precision for precision in precisions if precision not in lacking]
        if precisions and not chosen:
            continue
        if cell.engine not in limits:
            limits[cell.engine] = _limits(cell, args.minutes)
        works, needed = _expected(cell, args.steps, chosen)
        if why := grid.why_not(needed, works, args.rounds, limits[cell.engine]):
            report.leave_out(cell, why)
            continue
        try:
            if args.action == "train":
                report.add(training.measure(cell, args.rounds, args.steps), training.table)
            else:
                report.add(sampling.measure(cell, chosen, args.rounds, args.steps), sampling.table)
        except WorkerError as error:
            report.leave_out(cell, str(error), "failed")
    if failed := report.data["failed"]:
        raise TzdError(f"{len(failed)} of {len(cells)} cells failed, the first because {failed[0]['why']}")


def _expected(cell: Cell, steps: int, precisions: list[str]) -> tuple[dict[str, float], float]:
    """Operations of a turn of each contender, and the bytes of all; without precisions they train."""
    from tzd.bench import grid, training
    from tzd.bench.peaks import REPEATS as PASSES
    from tzd.bench.sizes import PLAIN_STEPS

    if not precisions:
        works = dict.fromkeys(["plain", *training.OPTIMIZERS], grid.training_work(cell, steps))
        return works, grid.training_bytes(cell, len(works))
    works = {"plain": grid.sampling_work(replace(cell, batch=1), min(steps, PLAIN_STEPS))}
    works |= dict.fromkeys(precisions, grid.sampling_work(cell, steps + PASSES))
    return works, grid.sampling_bytes(cell, len(works))


def _complete(args: argparse.Namespace) -> None:
    """Sets the lists that are not given."""
    from tzd.bench import grid

    usual = {name: usual for name, (_, usual) in _LISTS.items()} | (_SAMPLING if args.action == "sample" else {})
    full = {**grid.GRID, "engine": grid.installed()}
    for name in _LISTS:
        if getattr(args, name) is None:
            setattr(args, name, ",".join(map(str, full[name])) if args.grid else usual[name])


def _cells(args: argparse.Namespace) -> list[Cell]:
    from tzd.bench import grid
    from tzd.bench.sizes import SIZES
    from tzd.engines import ENGINES

    return grid.cells(
        grid.names(args.engine, "--engine", ENGINES),
        grid.names(args.sizes, "--sizes", list(SIZES)),
        grid.numbers(args.vocab, "--vocab", grid.LARGEST["vocab"]),
        grid.numbers(args.batch, "--batch", grid.LARGEST["batch"]),
        grid.numbers(args.length, "--length", grid.LARGEST["length"]),
    )


def _limits(cell: Cell, minutes: float) -> Limits:
    """What a cell may take on this machine, whose speed is measured for a second."""
    from tzd.bench.grid import Limits
    from tzd.bench.machine import free_bytes
    from tzd.bench.openblas import environment
    from tzd.bench.turns import in_turns

    command = {"the machine": ["tzd.bench.peaks", cell.argument, ""]}
    said = in_turns(command, 0, environment() if cell.engine == "mlx" else None)
    speeds = {name: speed for name, speed in said["the machine"][0].items() if name != "bandwidth"}
    return Limits(memory=0.9 * free_bytes(), seconds=60 * minutes, speeds=speeds)
