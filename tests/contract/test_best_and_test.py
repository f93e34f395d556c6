"""The best checkpoints, and the test that a finished run ends with, on every engine."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
import tzd
from runs import config_in, rows, send_at
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.errors import CheckpointError, ConfigError, InterruptedRunError
from tzd.training.course import Course
from tzd.training.records import read_metrics
from tzd.training.samples import check_samplers
from tzd.training.task import Task, make_task

Train = Callable[..., RunFolder]
BOUNDS = {1: 5.0, 2: 3.0, 3: 4.0, 4: 2.0, 5: 6.0, 6: 2.5}  # by step, as if they had been measured
EACH = {"training.eval_interval": 1, "training.checkpoint_interval": 100}
TESTED = {"training.test": True, "model.test_temperatures": [0.0, 1.0], "sampler": {"name": "llada", "steps": 2}}


@pytest.fixture(name="train")
def train_on_each_engine(engine: str) -> Train:
    return partial(runs.train, engine=engine)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every validation measures what BOUNDS says of its step."""
    step = 0
    after, validate = Course.after_step, Task.validate

    def noted(self: Course, at: int, *, leave: bool) -> None:
        nonlocal step
        step = at
        after(self, at, leave=leave)

    def told(self: Task, denoiser: Any, **shares: Any) -> Any:
        return replace(validate(self, denoiser, **shares), nats_per_token=BOUNDS.get(step, 9.0))

    monkeypatch.setattr(Course, "after_step", noted)
    monkeypatch.setattr(Task, "validate", told)


@pytest.mark.parametrize(("most", "kept"), [(1, [4, 6]), (2, [4, 6]), (3, [2, 4, 6]), (-1, [1, 2, 3, 4, 5, 6])])
@pytest.mark.usefixtures("measured")
def test_the_best_checkpoints_are_kept_beside_the_last(
    most: int, kept: list[int], train: Train, tmp_path: Path
) -> None:
    run = train(tmp_path, {**EACH, "training.save_top_k": most})
    assert run.steps() == kept
    assert (run.resolve("best"), run.resolve("last")) == (run.checkpoint_path(4), run.checkpoint_path(6))
    assert tzd.load(run.path).provenance["step"] == 4
    assert tzd.load(run.checkpoint_path(6)).provenance["step"] == 6


@pytest.mark.usefixtures("measured")
def test_a_resumed_run_keeps_the_best_of_both_parts(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**EACH, "training.save_top_k": 3}
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        send_at(patch, 3)
        train(tmp_path, changes)
    stopped = RunFolder(tmp_path / "run")
    assert 1 <= stopped.steps()[0] <= 2 and stopped.resolve("best") in map(stopped.checkpoint_path, (2, 4))
    assert train(tmp_path, {**changes, "training.resume": True}).steps() == [2, 4, 6]


def test_a_run_that_is_told_to_end_in_its_last_step_ends_without_the_test(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Task.validate, []

    def validate(self: Task, *args: Any, **kwargs: Any) -> Any:
        seen.append(True)
        if len(seen) == 3:  # the validations of the steps 0, 3 and 6, the last
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Task, "validate", validate)
    run = train(tmp_path, TESTED)
    assert run.steps()[-1] == 6 and not any(row.get("test_nats_per_token") for row in rows(run))


@pytest.mark.usefixtures("measured")
def test_a_finished_run_is_tested_with_its_best_weights(train: Train, tmp_path: Path) -> None:
    run = train(tmp_path, {**EACH, **TESTED, "training.ema_decay": 0.5})
    task = make_task(config_in(tmp_path, TESTED))
    bound = task.test(tzd.load(run.path).denoiser)
    row = read_metrics(run.path)
    for name in ("nats_per_token", "stderr", "bits_per_char"):
        values = row[f"test_{name}"]
        assert np.isnan(values[:-1]).all() and values[-1] == pytest.approx(getattr(bound, name), abs=1e-6)
    assert row["step"][-1] == 6 and read_checkpoint(run.path).config["provenance"]["step"] == 4
    assert bound.tokens == sum(group.size for group in task.data.test) > 0
    samples = (run.path / "samples.txt").read_text()
    for temperature in (0.0, 1.0):
        assert samples.count(f", temperature {temperature} ===") == 4
    assert samples.count("=== step 6, test sample") == 8


def test_the_test_split_is_no_part_of_what_was_seen_before(tmp_path: Path) -> None:
    data = make_task(config_in(tmp_path, {"training.val_windows": 0})).data
    test, validation = (
        data.tokenizer.decode(np.concatenate([np.ravel(group) for group in part]))
        for part in (data.test, data.validation)
    )
    assert runs.TEXT.endswith(validation + test) and abs(len(test) - len(validation)) <= 1


def test_a_run_may_end_without_a_test(train: Train, tmp_path: Path) -> None:
    run = train(tmp_path)
    assert np.isnan(read_metrics(run.path)["test_nats_per_token"]).all()
    assert (run.path / "samples.txt").read_text() == ""


def test_a_run_that_is_left_is_not_tested(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        send_at(patch, 2)
        train(tmp_path, TESTED)
    resumed = train(tmp_path, {**TESTED, "training.resume": True})
    assert np.isfinite(read_metrics(resumed.path)["test_nats_per_token"]).sum() == 1


def test_a_temperature_of_the_test_that_cannot_be_is_said_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"temperature must be 0 \(the likeliest token\) or lie in"):
        check_samplers(config_in(tmp_path, {"training.test": True, "model.test_temperatures": [1e9]}))


def test_tokens_and_epochs_count_on_where_batches_change_their_size(train: Train, tmp_path: Path) -> None:
    first = train(tmp_path, {"training.max_steps": 3})
    per_epoch = make_task(config_in(tmp_path)).data.examples.per_epoch
    run = train(tmp_path, {"data.batch_size": 2, "training.resume": str(first.path)})
    seen = {int(row["step"]): row for row in rows(run)}
    assert int(seen[3]["tokens"]) == 3 * 8 * 24
    assert int(seen[6]["tokens"]) == (3 * 8 + 3 * 2) * 24
    assert float(seen[6]["epoch"]) == pytest.approx((3 * 8 + 3 * 2) / per_epoch)


def test_a_run_whose_last_checkpoint_is_gone_says_what_is_missing(train: Train, tmp_path: Path) -> None:
    run = train(tmp_path)
    shutil.rmtree(run.checkpoint_path(6))
    with pytest.raises(CheckpointError, match=r"last names step-00000006, which is not there: write another name"):
        train(tmp_path, {"training.resume": True, "training.max_steps": 9})
