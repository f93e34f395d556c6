"""Reads hostile files, very many of them: `PYTHONPATH=tests python -m fuzz --inputs 100000`.

Each input is a function of (seed, reader, number), so that what escapes can be made again: --reader NAME --only NUMBER.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

from fuzz import asking, texts, weights
from fuzz.guard import Guard
from fuzz.mutators import write
from fuzz.reader import Reader

READERS = (*weights.READERS, *texts.READERS, *asking.READERS)


def main() -> int:
    """Fuzzes, prints a table, and returns 1 if anything escaped."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", help="only these, by the beginning of a name")
    parser.add_argument("--only", type=int, help="only the input of this number")
    parser.add_argument("--light", action="store_true", help="without those that take seconds to import")
    parser.add_argument("--traced", action="store_true", help="count allocations one by one (twice as slow)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object instead of a table")
    args = parser.parse_args()
    chosen = [reader for reader in READERS if not args.reader or reader.name.startswith(tuple(args.reader))]
    chosen = [reader for reader in chosen if not (args.light and reader.heavy)]
    whole, rows = sum(reader.share for reader in READERS), []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        guard = Guard(Path(folder).resolve(), args.traced)
        for reader in chosen:
            count = max(1, round(args.inputs * reader.share / whole))
            numbers = range(count) if args.only is None else [args.only]
            rows.append(_fuzz(reader, guard, args.seed, numbers))
            if not args.json:
                _print(rows[-1])
    if args.json:
        print(json.dumps(rows))
    elif len(rows) > 1:
        total = {key: sum(row[key] for row in rows) for key in ("inputs", "accepted", "refused", "seconds")}
        _print({"reader": "all", **total, "escaped": [line for row in rows for line in row["escaped"]]}, quiet=True)
    return int(any(row["escaped"] for row in rows))


def _fuzz(reader: Reader, guard: Guard, seed: int, numbers: range | list[int]) -> dict:
    _warm_up(reader, guard)
    guard.accepted, guard.refused, guard.escaped, began = 0, 0, [], time.process_time()
    for number in numbers:
        rng = random.Random(f"{seed} {reader.name} {number}")
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with guard.limits():  # what is put together may be too large to be written
                write(guard.case, reader.hostile(rng, guard.outside))
            problem = guard.watch(lambda: reader.read(guard.case), names=reader.names)
        if problem:
            guard.escaped[-1] = f"{number}: {problem}"
        shutil.rmtree(guard.case)
    return {
        "reader": reader.name,
        "inputs": len(numbers),
        "accepted": guard.accepted,
        "refused": guard.refused,
        "escaped": list(guard.escaped),  # the next warm-up adds to it
        "seconds": round(time.process_time() - began, 1),
    }


def _warm_up(reader: Reader, guard: Guard) -> None:
    """Reads what is valid, which must be accepted; what readers import is imported then."""
    for name, files in reader.templates.items():
        write(guard.case, dict(files))
        try:
            reader.read(guard.case)
        except Exception as error:
            raise SystemExit(f"{reader.name} refuses its valid '{name}': {error}") from error
        shutil.rmtree(guard.case)
    rng = random.Random(0)
    for _ in range(10):  # the ways of refusing, too
        with guard.limits():
            write(guard.case, reader.hostile(rng, guard.outside))
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            guard.watch(lambda: reader.read(guard.case), names=False)
        shutil.rmtree(guard.case)


def _print(row: dict, quiet: bool = False) -> None:
    numbers = [row["inputs"], row["accepted"], row["refused"], len(row["escaped"]), f"{row['seconds']:.0f} s"]
    print(f"{row['reader']:<24}" + "".join(f"{number!s:>10}" for number in numbers), flush=True)
    shown: dict[str, str] = {}
    for line in () if quiet else row["escaped"]:
        shown.setdefault(line.partition(": ")[2][:60], line)
    for line in list(shown.values())[:12]:
        print(f"    {line[:600]}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
