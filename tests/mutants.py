"""Changes the code in many small ways, one at a time, and counts how many of them the tests notice.

`make mutants` asks about every mutant; ARGS="--sample 200" about so many of each package, drawn by `--seed`;
ARGS="tzd.sampling.keep*" about some by name. What was found is kept in `mutants/`, which git ignores: the survivors,
with what was changed, in `mutants/survivors.txt`. Survivors, and mutants of functions that have changed since, are
asked about again.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import sys
from collections import Counter
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path

from mutmut import __main__ as mutmut
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, walk_mutatable_files

SURVIVORS = Path("mutants/survivors.txt")
NOTICED = ("killed", "timeout", "segfault")


def found() -> dict[str, tuple[Path, str]]:
    """Every mutant's file, and what became of it."""
    results = {}
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        results |= {name: (path, status_by_exit_code[code]) for name, code in data.exit_code_by_key.items()}
    return results


def chosen(names: list[str], patterns: list[str], sample: int | None, seed: int) -> list[str]:
    """The mutants to ask about: those that fit a pattern, or so many of each package, in turns.

    A larger sample of a seed begins with the smaller ones, and one that was stopped is a smaller one.
    """
    if patterns:
        names = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    if sample is None:
        return names
    packages: dict[str, list[str]] = {}
    for name in sorted(names):
        packages.setdefault(name.split(".")[1], []).append(name)
    for members in packages.values():
        random.Random(seed).shuffle(members)
    turns = zip_longest(*(members[:sample] for members in packages.values()))
    return [name for turn in turns for name in turn if name]


def report(names: list[str]) -> None:
    """Prints a line for each module, and writes the survivors down."""
    results = found()
    rows: dict[str, Counter[str]] = {}
    for name in names:
        path, status = results[name]
        for row in (str(path.with_suffix("").relative_to("src/tzd")), path.parts[2], "all"):
            rows.setdefault(row, Counter())[status] += 1
    print(f"{'module':28} mutants killed timeout survived untested  noticed")
    for row, counts in sorted(rows.items(), key=lambda item: (item[0] == "all", item[0])):
        total, noticed = counts.total() - counts["not checked"], sum(counts[status] for status in NOTICED)
        if total:
            error = 1.96 * math.sqrt(noticed * (total - noticed) / total**3)
            killed = counts["killed"] + counts["segfault"]
            print(
                f"{row:28} {total:7} {killed:6} {counts['timeout']:7} {counts['survived']:8} {counts['no tests']:8}"
                f"  {noticed / total:6.1%} ± {error:.1%}"
            )
    alive = [name for name in names if results[name][1] not in (*NOTICED, "not checked")]
    SURVIVORS.write_text("".join(f"# {n}: {results[n][1]}\n{get_diff_for_mutant(n)}\n" for n in alive))
    print(f"what survived: {SURVIVORS}")


def main() -> None:
    """Makes the mutants, asks about those that were chosen, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", help="names of mutants: tzd.sampling.keep*")
    parser.add_argument("--sample", type=int, help="so many of each package")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="only report what was found earlier")
    args = parser.parse_args()
    if not args.report:
        Path("mutants").mkdir(exist_ok=True)
        copy_src_dir()
        copy_also_copy_files()
        mutmut.create_mutants(args.workers)
    results = found()
    names = chosen(list(results), args.patterns, args.sample, args.seed)
    if not args.report:
        asked = [name for name in names if results[name][1] not in NOTICED]
        turn = {name: index for index, name in enumerate(asked)}
        mutmut.estimated_worst_case_time = turn.__getitem__  # it would ask about the quickest first
        if asked:
            mutmut._run(asked, args.workers)
    report(names)


if __name__ == "__main__":
    if multiprocessing.get_start_method(allow_none=True) is None:
        multiprocessing.set_start_method("fork")
    sys.exit(main())
