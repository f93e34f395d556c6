"""Clocks that jump, and what a power cut leaves of files that grow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from faults.machine import EACH_IN_ITS_TIME, let_the_clock_jump
from runs import assert_same_weights, rows, spoil_from, train
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.cli import main
from tzd.errors import TzdError
from tzd.training.records import read_metrics, read_rows

CHANGES = {"training.max_steps": 9, "training.val_generation_freq": 1, "training.ema_decay": 0.9}


@EACH_IN_ITS_TIME
def test_a_clock_that_jumps_changes_nothing_of_a_run(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    changes = {**CHANGES, "logger.kind": "tensorboard", "training.test": True}
    straight = train(tmp_path / "straight", changes, engine=engine)
    let_the_clock_jump(monkeypatch)
    run = train(tmp_path / "jumping", changes, engine=engine)
    assert_same_weights(straight, run)
    assert rows(straight) == rows(run)
    assert (straight.path / "samples.txt").read_bytes() == (run.path / "samples.txt").read_bytes()
    metrics = read_metrics(run.path)
    speeds = metrics["tokens_per_second"]
    assert (np.diff(metrics["seconds"]) >= 0).all() and 0 <= metrics["seconds"][-1] < 3000
    assert (speeds[~np.isnan(speeds)] > 0).all()


def test_checkpoints_and_runs_are_told_apart_by_their_numbers_and_never_by_their_dates(tmp_path: Path) -> None:
    first, second = train(tmp_path, {"training.save_top_k": -1}), train(tmp_path, {"seed": 1})
    best = first.resolve("best")
    for age, folder in enumerate([*sorted(first.path.glob("step-*"), reverse=True), second.path, first.path]):
        for path in [*folder.iterdir(), folder]:
            os.utime(path, (1e9 + 1e6 * age, 1e9 + 1e6 * age))
    assert first.resolve("last") == first.checkpoint_path(6) and first.steps() == [3, 6]
    assert read_checkpoint(first.path).folder == best
    resumed = train(tmp_path, {"seed": 1, "training.resume": True, "training.max_steps": 8})
    assert (resumed.path, resumed.steps()[-1]) == (second.path, 8)


# --- metrics after a power cut -----------------------------------------------------------------------------------


def torn(data: bytes) -> bytes:
    return data[: data.rstrip(b"\n").rfind(b"\n") + 9]


def zeros(data: bytes) -> bytes:
    return data[: data.rstrip(b"\n").rfind(b"\n") + 1] + bytes(4096)


def zeros_within(data: bytes) -> bytes:
    return torn(data) + bytes(300)


def doubled(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:4], lines[3], *lines[4:], *lines[-2:]])


def repeated(data: bytes) -> bytes:  # as two processes would write that took turns
    lines = data.splitlines(keepends=True)
    return b"".join([*lines, *lines[3:]])


@EACH_IN_ITS_TIME
@pytest.mark.parametrize("damage", [torn, zeros, zeros_within, doubled, repeated])
def test_damaged_ends_of_metrics_are_read_and_mended_on_resuming(
    damage: Callable[[bytes], bytes],
    engine: str,
    spoilt: Stopped,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    straight, stopped = spoilt(engine)
    shutil.copytree(stopped.path, tmp_path / "run")
    shutil.copy(stopped.path.parent / "text.txt", tmp_path)
    run = RunFolder(tmp_path / "run")
    metrics, samples = run.path / "metrics.csv", run.path / "samples.txt"
    metrics.write_bytes(damage(metrics.read_bytes()))
    begun = {torn: b"=== step 9, sam", zeros: bytes(4096), zeros_within: b"=== step 9, sample 1 of 1" + bytes(300)}
    samples.write_bytes(samples.read_bytes() + begun.get(damage, b""))
    whole = [row for row in read_rows(metrics) if int(row["step"]) <= 6]
    assert [row["step"] for row in whole] == ["0", "1", "2", "3", "3", "4", "5", "6", "6"]
    assert (read_metrics(run.path)["step"][:9] == [0, 1, 2, 3, 3, 4, 5, 6, 6]).all()
    assert main(["plot", str(run.path), "--out", str(tmp_path / "plot.svg")]) == 0
    resumed = train(tmp_path, {**CHANGES, "training.resume": str(run.path)}, engine=engine)
    assert_same_weights(straight, resumed)
    assert rows(straight) == rows(resumed)
    assert metrics.read_bytes().count(b"\n") == len(rows(straight)) + 1 and b"\0" not in metrics.read_bytes()
    assert (straight.path / "samples.txt").read_bytes() == samples.read_bytes()


Stopped = Callable[[str], tuple[RunFolder, RunFolder]]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """For an engine: a run that never stopped, and one that stopped at step 8, after its checkpoint of step 6."""

    @cache
    def made(engine: str) -> tuple[RunFolder, RunFolder]:
        folder = tmp_path_factory.mktemp(engine)
        straight = train(folder / "straight", CHANGES, engine=engine)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(TzdError):
            spoil_from(patch, 7)
            train(folder / "stopped", CHANGES, engine=engine)
        return straight, RunFolder(folder / "stopped" / "run")

    return made


@EACH_IN_ITS_TIME
def test_what_was_logged_is_on_the_disk_before_a_checkpoint_is_named(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc, to see which file is brought to the disk")
    on_disk: dict[str, int] = {}
    fsync, replace, named = os.fsync, Path.replace, []

    def noticed(descriptor: int) -> None:
        fsync(descriptor)
        on_disk[Path(f"/proc/self/fd/{descriptor}").readlink().name] = os.fstat(descriptor).st_size

    def compared(self: Path, target: Path) -> Path:
        if target.name == "last":
            for name in ("metrics.csv", "samples.txt"):
                assert on_disk[name] == target.with_name(name).stat().st_size > 0
            named.append(target)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noticed)
    monkeypatch.setattr(Path, "replace", compared)
    train(tmp_path, CHANGES, engine=engine)
    assert len(named) == 3
