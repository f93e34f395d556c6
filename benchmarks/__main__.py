"""python -m benchmarks [WHAT ...] [--rounds N] [--steps N] [--passes N] [--mebibytes N] [--json PATH]."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import corpus, litgpt, loop, masked_head, sampling, smdm, startup, training
from tzd.errors import MissingExtraError

NEEDING = {"mlx": ("mlx-training", "mlx-sampling"), "litgpt": ("litgpt", "smdm")}  # extra -> what takes it


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "mlx": _version("mlx"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        metavar="WHAT",
        help="startup, corpus, training, masked-head, litgpt, smdm, loop, mlx-training, mlx-sampling; all, if none",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of a turn, two or more")
    parser.add_argument("--passes", type=int, default=16, help="denoiser passes of a turn of sampling")
    parser.add_argument("--mebibytes", type=int, default=64, help="of the text of which shards are made")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    args = parser.parse_args()
    measures: dict[str, tuple[Callable[[], Any], Callable[[Any], Table]]] = {
        "startup": (lambda: startup.measure(args.rounds), startup.table),
        "corpus": (lambda: corpus.measure(args.mebibytes), corpus.table),
        "training": (lambda: training.measure("torch", args.rounds, args.steps), training.table),
        "masked-head": (lambda: masked_head.measure(args.rounds, args.steps), masked_head.table),
        "litgpt": (lambda: litgpt.measure(args.rounds, args.steps), litgpt.table),
        "smdm": (lambda: smdm.measure(args.rounds, args.steps), smdm.table),
        "loop": (lambda: loop.measure(args.rounds), loop.table),
        "mlx-training": (lambda: training.measure("mlx", args.rounds, args.steps), training.table),
        "mlx-sampling": (lambda: sampling.measure(args.rounds, args.passes), sampling.table),
    }
    if unknown := set(args.what) - set(measures):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(measures)})")
    if args.rounds < 1 or args.passes < 1 or args.steps < 2:
        parser.error("--rounds and --passes must be at least 1, --steps at least 2")
    chosen = args.what or list(measures)
    for extra, known in NEEDING.items():
        needing = [name for name in chosen if name in known]
        if needing and find_spec(extra) is None:
            missing = MissingExtraError(", ".join(needing), extra)
            if args.what:
                parser.error(str(missing))
            print(f"skipped: {missing}")
            chosen = [name for name in chosen if name not in needing]
    results: dict[str, Any] = {"machine": machine()}
    for name in chosen:
        measure, table = measures[name]
        results[name] = measure()
        Console(width=120).print(table(results[name]))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
