"""Runs that are stopped, go on, or go wrong."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from runs import TEXT, assert_same_weights, rows, send_at, spoil_from, train, weights
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.engines.torch.module import DiffusionModule
from tzd.errors import ConfigError, InterruptedRunError, TzdError, UserError
from tzd.training.records import read_metrics
from tzd.training.signals import Signals
from tzd.training.task import Task

Train = Callable[..., RunFolder]


@pytest.fixture(name="train")
def train_on_each_engine(engine: str) -> Train:
    return partial(train, engine=engine)


def test_a_run_that_was_stopped_three_times_equals_one_that_never_was(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "model.dropout": 0.2,
        "training.max_steps": 14,
        "training.eval_interval": 5,
        "training.log_every_n_steps": 3,
        "training.val_generation_freq": 2,
        "training.gradient_accumulation_steps": 2,
        "training.ema_decay": 0.9,
        "data.batch_size": 4,
    }
    whole = train(tmp_path / "whole", changes)
    steps = np.random.default_rng().choice(np.arange(1, 13), 3, replace=False)
    stops = list(zip(sorted(steps.tolist()), (signal.SIGTERM, signal.SIGINT, signal.SIGTERM), strict=True))
    for step, number in stops:
        with (
            monkeypatch.context() as patch,
            pytest.raises(InterruptedRunError, match=r"repeat the command with training\.resume=") as stopped,
        ):
            send_at(patch, step, number)
            train(tmp_path / "parts", changes)
        assert stopped.value.exit_code == 128 + number
        changes = {**changes, "training.resume": True}
    parts = train(tmp_path / "parts", changes)
    assert parts.path == tmp_path / "parts" / "run", stops
    assert_same_weights(whole, parts)
    assert rows(whole) == rows(parts), stops
    assert (whole.path / "samples.txt").read_text() == (parts.path / "samples.txt").read_text() != ""
    ours, theirs = (load_file(run.resolve("last") / "training_state.safetensors") for run in (whole, parts))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert whole.steps() == parts.steps(), stops


def test_more_steps_may_be_asked_for_on_resuming(train: Train, tmp_path: Path) -> None:
    steady = {"training.lr_schedule": "constant"}
    straight = train(tmp_path / "straight", {**steady, "training.max_steps": 9})
    train(tmp_path / "extended", steady)
    extended = train(tmp_path / "extended", {**steady, "training.max_steps": 9, "training.resume": True})
    assert_same_weights(straight, extended)
    assert rows(straight) == rows(extended)


def test_the_settings_given_on_resuming_count(tmp_path: Path) -> None:
    steady = {"training.lr_schedule": "constant", "training.warmup_steps": 0}
    train(tmp_path, steady)
    changes = {**steady, "training.max_steps": 8, "training.resume": True, "model.lr": 1e-4}
    run = train(tmp_path, {**changes, "training.muon_lr": 0.0, "training.weight_decay": 0.5})
    lr = {int(row["step"]): float(row["lr"]) for row in rows(run) if row["lr"]}
    assert lr == {**dict.fromkeys(range(1, 7), 3e-3), 7: 1e-4, 8: 1e-4}
    groups = read_checkpoint(run.resolve("last")).training_state()["optimizer_states"][0]["param_groups"]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.0, 0.5), (1e-4, 0.5)]


def test_another_accumulation_on_resuming_keeps_whole_batches(train: Train, tmp_path: Path) -> None:
    steady = {"training.lr_schedule": "constant", "training.optimizer": "adamw"}
    straight = train(tmp_path / "straight", {**steady, "training.max_steps": 9})
    train(tmp_path / "changed", {**steady, "training.max_steps": 3})
    halves = {"data.batch_size": 4, "training.gradient_accumulation_steps": 2}
    changed = train(tmp_path / "changed", {**steady, **halves, "training.max_steps": 9, "training.resume": True})
    for name, value in weights(straight).items():
        np.testing.assert_allclose(weights(changed)[name], value, atol=1e-5, err_msg=name)


def test_averages_may_begin_on_resuming(train: Train, tmp_path: Path) -> None:
    train(tmp_path)
    run = train(tmp_path, {"training.ema_decay": 0.5, "training.max_steps": 8, "training.resume": True})
    raw = read_checkpoint(run.resolve("last")).training_state()["raw"]
    assert raw and any((weights(run)[name] != value).any() for name, value in raw.items())


def test_a_signal_in_the_last_step_ends_a_run_that_is_complete(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Task.validate

    def validate(self: Task, denoiser: Any, **shares: Any) -> Any:
        if denoiser.network.head.weight.any():  # not the one before training
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, denoiser, **shares)

    monkeypatch.setattr(Task, "validate", validate)
    run = train(tmp_path, {"training.eval_interval": 6})
    assert run.resolve("last") == run.checkpoint_path(6)


def test_a_signal_during_the_first_validation_is_heard(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Task.validate

    def validate(self: Task, denoiser: Any, **shares: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, denoiser, **shares)

    monkeypatch.setattr(Task, "validate", validate)
    with pytest.raises(InterruptedRunError, match="stopped and saved at step 1") as stopped:
        train(tmp_path)
    assert stopped.value.exit_code == 130
    monkeypatch.setattr(Task, "validate", original)
    resumed = train(tmp_path, {"training.resume": True})
    assert_same_weights(resumed, train(tmp_path / "straight"))


def test_a_signal_while_the_first_batch_is_made_is_heard(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first, resume in ((0, False), (1, True)):  # the first batch of a new run, and of one that goes on
        with monkeypatch.context() as patch, pytest.raises(InterruptedRunError) as stopped:
            send_at(patch, first)
            train(tmp_path, {"training.resume": resume})
        assert str(stopped.value).startswith(f"stopped and saved at step {first + 1}")
        assert stopped.value.exit_code == 143


def test_a_run_under_slurm_hears_sigterm_and_leaves_the_signal_of_lightnings_requeueing_alone(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    usual, validate = signal.getsignal(signal.SIGUSR1), Task.validate

    def first(self: Task, denoiser: Any, **shares: Any) -> Any:
        assert signal.getsignal(signal.SIGUSR1) is usual
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, denoiser, **shares)

    monkeypatch.setattr(Task, "validate", first)
    with pytest.raises(InterruptedRunError, match="stopped and saved at step 1") as stopped:
        train(tmp_path, {"training.devices": 1, "training.accelerator": "cpu"})
    assert stopped.value.exit_code == 143


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_gives_the_signals_back_however_it_ends(
    fails: bool, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listening() -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    before, validate, heard = listening(), Task.validate, []

    def first(self: Task, denoiser: Any, **shares: Any) -> Any:
        heard.extend(listening())
        if fails:
            raise UserError("no")
        return validate(self, denoiser, **shares)

    monkeypatch.setattr(Task, "validate", first)
    with pytest.raises(UserError) if fails else nullcontext():
        train(tmp_path)
    assert listening() == before and not set(before) & set(heard)


def test_who_listens_outside_of_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else signal.SIG_IGN)
        patch.setattr(signal, "signal", lambda *given: pytest.fail(f"listens: {given}"))
        signals = Signals()
        signals.open()
        signals.close()


def test_checkpoints_are_written_between_validations(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_at(monkeypatch, 4, signal.SIGTERM)
    with pytest.raises(InterruptedRunError):
        train(tmp_path, {"training.eval_interval": 6, "training.checkpoint_interval": 2})
    run = RunFolder(tmp_path / "run")
    last = run.resolve("last")
    assert last is not None and run.resolve("best") is None
    assert read_checkpoint(last).config["provenance"]["validation"]["step"] == 0  # of the untrained model


class KilledError(Exception):
    pass


def die() -> None:
    raise KilledError


def die_before_naming(monkeypatch: pytest.MonkeyPatch, pointer: str) -> None:
    original = RunFolder.point

    def point(self: RunFolder, name: Any, step: int | None) -> None:
        if name == pointer:
            die()
        original(self, name, step)

    monkeypatch.setattr(RunFolder, "point", point)


def test_a_run_that_died_in_its_test_is_tested_when_it_is_resumed(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training.test": True, "sampler": {"name": "llada", "steps": 2}}
    straight = train(tmp_path / "straight", changes)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        die_before_naming(patch, "finished")
        train(tmp_path / "killed", changes)
    samples = tmp_path / "killed" / "run" / "samples.txt"
    samples.write_bytes(samples.read_bytes()[:-10])
    resumed = train(tmp_path / "killed", {**changes, "training.resume": True})
    assert rows(straight) == rows(resumed)
    assert samples.read_text() == (straight.path / "samples.txt").read_text() != ""
    with pytest.raises(ConfigError, match=r"is at step 6 of 6: raise training\.max_steps"):
        train(tmp_path / "killed", {**changes, "training.resume": True})


def test_a_run_whose_best_checkpoint_was_removed_before_its_test_is_tested_by_its_last(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training.test": True, "sampler": {"name": "llada", "steps": 2}}
    original = Task.validate
    bounds = iter((3.0, 1.0, 2.0))  # at steps 0, 3 and 6

    def validate(self: Task, *args: Any, **more: Any) -> Any:
        return replace(original(self, *args, **more), nats_per_token=next(bounds))

    monkeypatch.setattr(Task, "validate", validate)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        die_before_naming(patch, "finished")
        train(tmp_path, changes)
    run = RunFolder(tmp_path / "run")
    assert run.resolve("best") == run.checkpoint_path(3)
    shutil.rmtree(run.checkpoint_path(3))
    assert train(tmp_path, {**changes, "training.resume": True}).resolve("best") == run.checkpoint_path(6)
    assert run.is_finished(6) and rows(run)[-1]["test_nats_per_token"]


@pytest.mark.parametrize("pointer", ["best", "last"])
def test_a_run_that_died_before_it_named_its_first_checkpoint_goes_on_from_it(
    pointer: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(tmp_path / "straight")
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        die_before_naming(patch, pointer)
        train(tmp_path / "killed")
    killed = RunFolder(tmp_path / "killed" / "run")
    assert killed.steps() == [3] and not (killed.path / "last").exists()
    with pytest.raises(UserError, match=r"or go on with the run that it holds \(training\.resume=true\)"):
        train(tmp_path / "killed", {"training.run_folder": str(killed.path)})
    resumed = train(tmp_path / "killed", {"training.resume": True})
    assert resumed.path == killed.path
    assert_same_weights(straight, resumed)
    assert rows(straight) == rows(resumed)
    assert [run.resolve("best").name for run in (straight, resumed)] == [straight.resolve("best").name] * 2


def test_what_was_ignored_when_a_run_began_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = Signals(say=False)
    try:
        signals.open()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signals.close()
        signal.signal(signal.SIGHUP, before)
    assert signals.received == signal.SIGTERM


def test_a_terminal_may_tell_twice_that_it_is_closed() -> None:
    signals = Signals(say=False)
    try:
        signals.open()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signals.close()
    assert signals.received == signal.SIGHUP


def test_a_run_killed_between_its_pointers_finds_its_best_again(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = RunFolder.point, []

    def point(self: RunFolder, pointer: Any, step: int) -> None:
        calls.append((pointer, step))
        if len([1 for _, at in calls if at == 4]) == 2:
            raise KilledError
        original(self, pointer, step)

    straight = train(tmp_path / "straight", {"training.eval_interval": 2})
    monkeypatch.setattr(RunFolder, "point", point)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", {"training.eval_interval": 2})
    monkeypatch.setattr(RunFolder, "point", original)
    resumed = train(tmp_path / "killed", {"training.eval_interval": 2, "training.resume": True})
    assert_same_weights(straight, resumed)
    assert rows(straight) == rows(resumed)
    assert [run.resolve("best").name for run in (straight, resumed)] == [straight.resolve("best").name] * 2


def test_a_folder_without_a_checkpoint_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="it holds no checkpoint"):
        train(tmp_path, {"training.resume": str(tmp_path / "empty")})
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model.n_embd": 32}, "model n_embd=16, not 32"),
        ({"objective.name": "pooled"}, "diffusion name=nelbo, not pooled"),
        ({"seed": 7}, "another seed"),
        ({"training.optimizer": "adamw"}, "trained with training.optimizer=muon, whose state adamw cannot take"),
        ({"training.max_steps": 6}, "is at step 6 of 6: raise training.max_steps"),
    ],
)
def test_a_run_is_not_resumed_as_another(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    run = train(tmp_path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, {"training.max_steps": 9, "training.resume": True, **change})
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_run_is_not_resumed_on_another_text(tmp_path: Path) -> None:
    run = train(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT + "apple ")
    with pytest.raises(ConfigError, match="another corpus_sha256"):
        train(tmp_path, {"training.max_steps": 9, "training.resume": str(run.path)})


def test_a_run_goes_on_in_the_folder_that_was_named_for_it(tmp_path: Path) -> None:
    named = {"training.run_folder": str(tmp_path / "here"), "training.lr_schedule": "constant"}
    assert train(tmp_path, named).path == tmp_path / "here"
    with pytest.raises(UserError, match="here is not empty: name another folder"):
        train(tmp_path, named)
    again = train(tmp_path, {**named, "training.resume": True, "training.max_steps": 8})
    assert (again.path, again.steps()[-1]) == (tmp_path / "here", 8)


def test_a_run_that_died_before_its_first_checkpoint_begins_anew_in_the_folder_that_was_named_for_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"training.run_folder": str(tmp_path / "here"), "logger": {"kind": ["csv", "tensorboard"]}}
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(RunFolder, "check_held", lambda run: die())
        train(tmp_path, named)
    assert [path.name for path in (tmp_path / "here").glob("events*")] == ["events.out.tfevents.0000000000.tzd"]
    assert train(tmp_path, named).is_finished(6)


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run 'run'"):
        train(tmp_path, {"training.resume": True})
    with pytest.raises(ConfigError, match="is no folder"):
        train(tmp_path, {"training.resume": str(tmp_path / "nowhere")})


# --- going wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    log_every: int, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_from(monkeypatch, 4)
    with pytest.raises(TzdError, match=r"the loss is nan at step \d; the last good checkpoint is .*step-00000003") as e:
        train(tmp_path, {"training.log_every_n_steps": log_every})
    assert e.value.exit_code == 1
    run = RunFolder(tmp_path / "run")
    assert run.steps() == [3] and run.resolve("last") == run.resolve("best")
    assert all(np.isfinite(value).all() for value in weights(run).values())
    monkeypatch.undo()
    resumed = train(tmp_path, {"training.resume": True})  # the folder is free, and the run can go on
    assert resumed.resolve("last") == run.checkpoint_path(6)


def test_a_run_that_was_spoiled_is_not_saved_on_leaving(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_from(monkeypatch, 1)
    send_at(monkeypatch, 2)
    with pytest.raises(TzdError, match=r"the loss is nan at step \d; no checkpoint was written yet"):
        train(tmp_path, {"training.log_every_n_steps": 100})
    assert RunFolder(tmp_path / "run").steps() == []


def test_a_single_validation_window_and_mask_have_no_standard_error(tmp_path: Path) -> None:
    run = train(tmp_path, {"training.val_windows": 1, "training.val_draws": 1})
    assert np.isnan(read_metrics(run.path)["val_stderr"][-1])
    assert np.isfinite(read_metrics(run.path)["val_nats_per_token"][-1])


def test_weights_spoilt_by_a_gradient_are_not_saved_over_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = DiffusionModule.configure_gradient_clipping

    def spoilt(self: DiffusionModule, *args: Any, **kwargs: Any) -> None:
        if self.global_step == 3:  # the fourth step, whose loss is as good as ever
            next(self.network.parameters()).grad.fill_(float("nan"))
        clip(self, *args, **kwargs)

    monkeypatch.setattr(DiffusionModule, "configure_gradient_clipping", spoilt)
    every = {"training.checkpoint_interval": 1, "training.eval_interval": 6}
    with pytest.raises(TzdError, match=r"^the norm of the gradient is nan at step 4; .* good checkpoint is .*00003\."):
        train(tmp_path, every)
    assert all(np.isfinite(value).all() for value in weights(RunFolder(tmp_path / "run")).values())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"engine.name": "torhc"}, "unknown engine 'torhc' .did you mean 'torch'"),
        ({"training.precision": "16-mixd"}, "training.*precision.*16-mixd"),
        ({"training.precision": "16-mixed"}, "^training.precision=16-mixed is for CUDA, not for cpu: use bf16-mixed"),
        ({"training.strategy": "dpp"}, "training.*strategy.*dpp"),
        ({"training.accelerator": "abacus"}, "training.accelerator.*abacus"),
        ({"training.accelerator": "abacus", "training.precision": "auto"}, "training.accelerator.*abacus"),
        ({"training.devices": "many"}, "training.*devices"),
        ({"training.devices": 0}, "training.*devices"),
        ({"logger.kind": "cvs"}, "unknown logger.kind 'cvs' .did you mean 'csv'"),
        ({"sampler": {"name": "ancestrl"}}, "ancestrl.*did you mean 'ancestral'"),
        ({"sampler": {"name": "ancestral", "stepz": 3}}, "stepz"),
    ],
)
def test_what_cannot_be_run_is_one_line_before_anything_is_written(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        train(tmp_path, {"training.val_generation_freq": 1, **change})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
