"""What a killed run left: whether all of it is whole, where the run died, and whether it ends as one never killed."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

from faults.kills_aims import RUN, STEPS
from tzd.cli import main

POINTERS = ("last", "best", "finished")
TIMINGS = ("seconds", "tokens_per_second")
DIFFERENT = (*TIMINGS, "resume", "sha256")  # the digest of what says whether it was resumed


def named(run: Path, pointer: str) -> int:
    """The step that a pointer names; 0 if there is none."""
    file = run / pointer
    return int(file.read_text().split()[0].removeprefix("step-")) if file.exists() else 0


def steps(run: Path) -> list[int]:
    """The steps of which there is a checkpoint."""
    return sorted(int(folder.name.removeprefix("step-")) for folder in run.glob("step-*"))


def check(folder: Path, engine: str) -> None:
    """AssertionError unless every checkpoint is whole, all names are those of one, and the last of them writes."""
    run = folder / RUN
    for checkpoint in run.glob("step-*"):
        sums = json.loads((checkpoint / "checksums.json").read_bytes())
        files = {file.name for file in checkpoint.iterdir()} - {"checksums.json"}
        assert files == sums.keys(), f"{checkpoint} holds {files}"
        for name, said in sums.items():
            assert hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == said, f"{checkpoint / name}"
    for pointer in POINTERS:
        assert named(run, pointer) in (0, *steps(run)), f"{pointer} names nothing"
    if steps(run):
        assert sample(folder, engine)


def sample(folder: Path, engine: str) -> str:
    """What `tzd sample` writes with the run's model."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        assert main(["sample", str(folder / RUN), "--seed", "0", "--quiet", "--engine", engine]) == 0
    return written.getvalue()


def phase(run: Path, pid: int) -> str:
    """What a process was doing when it was killed, as its folder tells."""
    lock = run / "lock"
    if not lock.exists() or not lock.read_text().startswith(f"process {pid} "):
        return "starting up"
    last, there = named(run, "last"), steps(run)
    for litter in sorted(file.name for file in run.parent.rglob(".*")):
        if found := re.fullmatch(r"\.step-(\d+)\.\d+\.tmp", litter):
            return "inside a checkpoint" if int(found[1]) > last else "removing a checkpoint"
        if litter.endswith(".old"):
            return "between two renames"
        name = litter.split(".")[1]
        return {"metrics": "taking up metrics", "samples": "taking up metrics", "model": "exporting"}.get(
            name, "naming a checkpoint"
        )
    if there and there[-1] > last:
        return "between a checkpoint and its name"
    if last == STEPS:
        return "leaving" if named(run, "finished") else "testing"
    with contextlib.suppress(FileNotFoundError):
        if not (text := (run / "metrics.csv").read_text()).endswith("\n"):
            return "inside a row of metrics"
        if any(int(row["step"]) > last for row in csv.DictReader(io.StringIO(text))):
            return "training"
    return "going on" if there else "beginning"


def compared(ours: Path, theirs: Path) -> int:
    """How many bytes of a run are those of another one; AssertionError if any is not.

    Times of day are left out, and that one was resumed.
    """
    a, b = contents(ours), contents(theirs)
    assert a.keys() == b.keys(), f"{sorted(a.keys() ^ b.keys())} in one of the two"
    for name in a:
        assert a[name] == b[name], f"{name} differs"
    return sum(map(len, b.values()))


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run that has come to its end, without what may differ."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    files = [file for file in files if file.name not in ("lock", "checksums.json", "said.txt")]
    return {str(file.relative_to(folder)): _content(file) for file in files}


def _content(file: Path) -> bytes:
    if file.name == "metrics.csv":
        rows = csv.DictReader(io.StringIO(file.read_text()))
        return json.dumps([{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]).encode()
    if file.suffix == ".json":
        return json.dumps(_untimed(json.loads(file.read_bytes()))).encode()
    return file.read_bytes()


def _untimed(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _untimed(value) for key, value in tree.items() if key not in DIFFERENT}
    if not isinstance(tree, list):
        return tree
    return [_untimed(value) for value in tree if not (isinstance(value, list) and value and value[0] in TIMINGS)]
