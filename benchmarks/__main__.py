"""python -m benchmarks [WHAT ...] [--rounds N] [--steps N] [--json PATH]: what `tzd bench` does not ask."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import litgpt, loop, masked_head, smdm
from tzd.bench.machine import describe
from tzd.errors import MissingExtraError

NEEDING = {"litgpt": ("litgpt", "smdm")}  # extra -> what takes it


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="masked-head, litgpt, smdm, loop; all, if none")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps, or passes, of a turn")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    args = parser.parse_args()
    measures: dict[str, tuple[Callable[[], Any], Callable[[Any], Table]]] = {
        "masked-head": (lambda: masked_head.measure(args.rounds, args.steps), masked_head.table),
        "litgpt": (lambda: litgpt.measure(args.rounds, args.steps), litgpt.table),
        "smdm": (lambda: smdm.measure(args.rounds, args.steps), smdm.table),
        "loop": (lambda: loop.measure(args.rounds), loop.table),
    }
    if unknown := set(args.what) - set(measures):
        parser.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(measures)})")
    if args.rounds < 1 or args.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    chosen = args.what or list(measures)
    for extra, known in NEEDING.items():
        needing = [name for name in chosen if name in known]
        if needing and find_spec(extra) is None:
            missing = MissingExtraError(", ".join(needing), extra)
            if args.what:
                parser.error(str(missing))
            print(f"skipped: {missing}")
            chosen = [name for name in chosen if name not in needing]
    results: dict[str, Any] = {"machine": describe()}
    for name in chosen:
        measure, table = measures[name]
        results[name] = measure()
        Console(width=120).print(table(results[name]))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
