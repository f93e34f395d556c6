"""Files that vanish under a run, and runs that want the same folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from faults.machine import EACH_IN_ITS_TIME, at_step, files
from runs import assert_same_weights, config_in, rows, train, weights
from tzd import load
from tzd.checkpoint import RunFolder
from tzd.cli import main
from tzd.config import TokenizerSettings
from tzd.corpus.build import build_shards
from tzd.engines import engine_module
from tzd.errors import CheckpointError, TzdError
from tzd.training.records import read_metrics

Train = Callable[..., RunFolder]
CHANGES = {"training.eval_interval": 2, "training.max_steps": 6}


@pytest.fixture(name="train")
def train_on_each_engine(engine: str) -> Train:
    return partial(train, engine=engine)


# --- what vanishes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_every", [1, 100])
@EACH_IN_ITS_TIME
def test_a_run_whose_folder_is_removed_ends_and_makes_no_new_one(
    log_every: int, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 4, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(TzdError) as error:
        train(tmp_path, {**CHANGES, "training.log_every_n_steps": log_every})
    assert str(error.value) == (
        f"{tmp_path / 'run'} was removed or renamed while the run was writing there: if it has another name now, go on"
        " with training.resume=THAT_NAME"
    )
    assert error.value.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


@EACH_IN_ITS_TIME
def test_a_run_whose_folder_is_renamed_goes_on_under_the_new_name(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(tmp_path / "straight", CHANGES)
    with monkeypatch.context() as patch, pytest.raises(TzdError, match="was removed or renamed while the run was"):
        at_step(patch, 4, lambda: (tmp_path / "run").rename(tmp_path / "moved"))
        train(tmp_path, CHANGES)
    assert not (tmp_path / "run").exists()
    moved = train(tmp_path, {**CHANGES, "training.resume": str(tmp_path / "moved")})
    assert_same_weights(straight, moved)
    assert rows(straight) == rows(moved)


@EACH_IN_ITS_TIME
def test_a_run_whose_folder_another_run_has_by_now_writes_nothing_into_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = tmp_path / "run", f"process {os.getppid()} on elsewhere since 2001-01-01 00:00:00"

    def begin_another() -> None:
        shutil.rmtree(run)
        run.mkdir()
        (run / "lock").write_text(f"{other}\n")

    at_step(monkeypatch, 4, begin_another)
    with pytest.raises(TzdError) as error:
        train(tmp_path, CHANGES)
    assert str(error.value) == f"{run} was removed while the run was writing there, and is in use by {other} now"
    assert [path.name for path in run.iterdir()] == ["lock"] and (run / "lock").read_text() == f"{other}\n"


@EACH_IN_ITS_TIME
def test_a_run_goes_on_where_its_last_and_its_best_checkpoint_are_removed(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, run = train(tmp_path / "straight", CHANGES), RunFolder(tmp_path / "run")

    def remove() -> None:
        for pointer in ("last", "best"):
            shutil.rmtree(run.path / (run.path / pointer).read_text().split()[0], ignore_errors=True)

    at_step(monkeypatch, 3, remove)
    train(tmp_path, {**CHANGES, "training.checkpoint_interval": 1})
    assert_same_weights(straight, run)
    assert rows(straight) == rows(run)
    assert run.resolve("last") == run.checkpoint_path(6)
    there = [step for step in (4, 6) if run.checkpoint_path(step).is_dir()]
    bounds = dict(zip(*(read_metrics(run.path)[name] for name in ("step", "val_nats_per_token")), strict=True))
    assert run.resolve("best") == run.checkpoint_path(min((4, 6), key=bounds.__getitem__)) and 6 in there


def test_a_run_whose_last_checkpoint_is_gone_is_not_resumed_in_silence(tmp_path: Path) -> None:
    run = train(tmp_path)
    shutil.rmtree(run.checkpoint_path(6))
    before = files(run.path)
    with pytest.raises(CheckpointError) as error:
        train(tmp_path, {"training.resume": True, "training.max_steps": 9})
    assert str(error.value) == (
        f"{run.path / 'last'} names step-00000006, which is not there: write another name into it"
    )
    assert files(run.path) == before


@EACH_IN_ITS_TIME
def test_a_checkpoint_that_vanishes_once_it_is_read_is_not_missed(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path, {"tokenizer.name": "char", "training.max_steps": 1}, engine=engine)
    denoisers = engine_module(engine, "denoiser")
    original = denoisers.load_denoiser

    def load_denoiser(*args: Any, **more: Any) -> Any:  # takes its time, with the engine's library to import
        shutil.rmtree(run.path)
        return original(*args, **more)

    monkeypatch.setattr(denoisers, "load_denoiser", load_denoiser)
    model = load(run.path, engine=engine)
    assert not run.path.exists() and model.decode(model.encode("apple")) == "apple"


@pytest.mark.parametrize("kind", ["text", "shards"])
@EACH_IN_ITS_TIME
def test_a_corpus_that_vanishes_once_it_is_open_is_not_missed(
    kind: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_in(tmp_path)
    changes, corpus = {**CHANGES, "training.test": True, "training.val_generation_freq": 1}, tmp_path / "text.txt"
    if kind == "shards":
        corpus = tmp_path / "shards"
        settings = TokenizerSettings(name="byte")
        build_shards([str(tmp_path / "text.txt")], corpus, settings, separator=" ", shard_tokens=999)
        changes |= {"data.name": "shards", "data.path": str(corpus), "tokenizer.name": "byte"}
    straight = train(tmp_path, {**changes, "logger.name": "straight"})
    at_step(monkeypatch, 1, lambda: shutil.rmtree(corpus) if corpus.is_dir() else corpus.unlink())
    run = train(tmp_path, changes)
    assert not corpus.exists()
    assert_same_weights(straight, run)
    assert rows(straight) == rows(run)
    assert (straight.path / "samples.txt").read_bytes() == (run.path / "samples.txt").read_bytes()


@EACH_IN_ITS_TIME
def test_metrics_that_are_removed_begin_anew_and_can_be_resumed(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, metrics = train(tmp_path / "straight", CHANGES), tmp_path / "run" / "metrics.csv"
    at_step(monkeypatch, 3, metrics.unlink)
    run = train(tmp_path, CHANGES)
    kept = [row for row in rows(straight) if int(row["step"]) > 3]
    assert rows(run)[-len(kept) :] == kept and len(rows(run)) - len(kept) in (0, 1)  # batches may be made ahead
    assert_same_weights(straight, run)
    more = train(tmp_path, {**CHANGES, "training.max_steps": 8, "training.resume": True})
    assert [row["step"] for row in rows(more)[-8:]] == ["4", "4", "5", "6", "6", "7", "8", "8"]


@EACH_IN_ITS_TIME
def test_metrics_whose_place_another_file_or_a_folder_takes(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, metrics = train(tmp_path / "straight", CHANGES), tmp_path / "run" / "metrics.csv"

    def edit() -> None:  # as an editor does
        copy = metrics.with_name("copy")
        copy.write_bytes(metrics.read_bytes())
        copy.replace(metrics)

    with monkeypatch.context() as patch:
        at_step(patch, 3, edit)
        assert rows(train(tmp_path, CHANGES)) == rows(straight)
    metrics = tmp_path / "run-2" / "metrics.csv"
    at_step(monkeypatch, 3, lambda: (metrics.unlink(), metrics.mkdir()))
    with pytest.raises(TzdError) as error:
        train(tmp_path, CHANGES)
    assert str(error.value) == (
        f"cannot write {metrics}: Is a directory; choose a folder that is there and that you may write to"
    )
    assert weights(RunFolder(metrics.parent)).keys() == weights(straight).keys()


# --- two runs in a folder ----------------------------------------------------------------------------------------

TRAINING = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from runs import train
from tzd.training.task import Task
original = Task.noised
def noised(self, at):
    if at == 4:
        print("at step 4", flush=True)
        time.sleep(100)
    return original(self, at)
Task.noised = noised
train(Path(sys.argv[1]), engine=sys.argv[2])
"""


@EACH_IN_ITS_TIME
def test_a_second_run_in_a_folder_is_told_which_process_has_it_until_that_is_killed(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = train(tmp_path / "straight", engine=engine)
    folder = tmp_path / "run"
    script = [sys.executable, "-c", TRAINING, str(tmp_path), engine, str(Path(__file__).parents[1])]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "at step 4\n"
            before = files(folder)
            for lost in (False, True):
                who = f"process {process.pid} on {socket.gethostname()} since "
                if lost:  # the file says who holds the folder, but it is not what holds it
                    (folder / "lock").unlink()
                    who = "another process"
                with pytest.raises(TzdError) as error:
                    train(tmp_path, {"training.resume": str(folder)}, engine=engine)
                assert re.fullmatch(
                    rf"{re.escape(f'{folder} is in use by {who}')}(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d)?: wait for it or"
                    r" stop it, or start a run of another name",
                    str(error.value),
                )
                assert error.value.exit_code == 1
            assert files(folder) == before
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    resumed = train(tmp_path, {"training.resume": str(folder)}, engine=engine)
    assert_same_weights(straight, resumed)
    assert rows(straight) == rows(resumed)


STALE = {
    "of a process that is no more": b"process 4194304999 on {host} since 2001-01-01 00:00:00\n",
    "of a process that lives, and is another one": b"process {pid} on {host} since 2001-01-01 00:00:00\n",
    "of another host": b"process {pid} on elsewhere since 2001-01-01 00:00:00\n",
    "half-written": b"process 12",
    "empty": b"",
    "of zeros": bytes(60),
    "of nonsense": b"\xff" * 100_000,
}


@pytest.mark.parametrize("said", STALE)
def test_a_lock_that_nobody_holds_keeps_nobody_out_whatever_it_says(said: str, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run")
    parent = str(os.getppid()).encode()
    (run.path / "lock").write_bytes(
        STALE[said].replace(b"{pid}", parent).replace(b"{host}", socket.gethostname().encode())
    )
    with run.lock():
        run.check_held()
        assert (run.path / "lock").read_text().startswith(f"process {os.getpid()} on {socket.gethostname()} since ")
        with pytest.raises(TzdError, match=f"in use by process {os.getpid()} on "), RunFolder(run.path).lock():
            pass


def test_a_lock_ends_with_the_run_and_not_with_what_the_run_has_started(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run")
    with run.lock():
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with run.lock():
            pass
    finally:
        child.communicate(b"\n")


def test_a_file_system_without_locks_lets_a_run_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert train(tmp_path).resolve("last") == tmp_path / "run" / "step-00000006"


def test_the_command_names_who_holds_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path)
    settings = [f"training.resume={run.path}", "training.max_steps=9", "model=tiny_cpu", "data=text"]
    with run.lock():
        assert main(["train", *settings, f"data.path={tmp_path / 'text.txt'}"]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"tzd: {run.path} is in use by process {os.getpid()} on {socket.gethostname()} since ")
    )
