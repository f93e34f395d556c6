"""Training runs on the PyTorch engine, start to end, on a text that is small enough."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

import tzd
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.config import RunConfig, run_config
from tzd.engines.torch.data import NoisedBatches
from tzd.engines.torch.denoiser import build
from tzd.engines.torch.module import DiffusionModule, weighted_cross_entropy
from tzd.errors import ConfigError, Interrupted, TzdError
from tzd.randomness import integer
from tzd.training.records import read_metrics, read_rows
from tzd.training.task import Task, make_task

WORDS = ("apple ", "banana ", "cherry ", "damson ")
TEXT = "".join(WORDS[i] for i in np.random.default_rng(0).integers(0, 4, 1500))
SMALL = {
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 24, "lr": 3e-3},
    "data": {"name": "text", "batch_size": 8, "block_size": 24},
    "training": {
        "max_steps": 6,
        "warmup_steps": 2,
        "muon_lr": 0.02,
        "eval_interval": 3,
        "val_windows": 8,
        "val_generation_freq": 0,
        "log_every_n_steps": 1,
        "precision": "32-true",
        "accelerator": "cpu",
    },
}
NOT_ALIKE = {"seconds", "tokens_per_second"}  # columns that tell the time of day


def config_in(folder: Path, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """SMALL with changes, "training.max_steps" and the like; text and runs lie in the folder."""
    folder.mkdir(exist_ok=True)
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(TEXT)
    values: dict[str, Any] = {group: dict(settings) for group, settings in SMALL.items()}
    values["data"]["path"] = str(text)
    values["training"]["save_dir"] = str(folder)
    values["logger"] = {"name": "run"}
    for key, value in (changes or {}).items():
        group, _, name = key.rpartition(".")
        (values.setdefault(group, {}) if group else values)[name] = value
    return run_config(values)


def train(folder: Path, changes: Mapping[str, Any] | None = None, denoiser: nn.Module | None = None) -> RunFolder:
    return RunFolder(tzd.train(config_in(folder, changes), denoiser=denoiser).parent)


def weights(run: RunFolder, pointer: str = "last") -> dict[str, np.ndarray]:
    checkpoint = run.resolve(pointer)
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def assert_same_weights(a: RunFolder, b: RunFolder) -> None:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def rows(run: RunFolder) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in NOT_ALIKE} for row in read_rows(run.path / "metrics.csv")]


def send_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Has the process receive a signal while the batch of that step is made."""
    original = Task.noised

    def noised(self: Task, at: int) -> Any:
        if at == step:
            os.kill(os.getpid(), number)
        return original(self, at)

    monkeypatch.setattr(Task, "noised", noised)


class Own(nn.Module):
    """A denoiser such as a user may bring: tokens in, logits out; embedding and head are one matrix."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size + 1, 16)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.mix = nn.Conv1d(16, 16, 5, padding=2)
        self.norm = nn.LayerNorm(16)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.head = nn.Linear(16, vocab_size + 1, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(self.norm(x + self.mix(x.mT).mT))[..., :-1]


# --- learning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_bound_starts_at_log_V_and_training_lowers_it(optimizer: str, tmp_path: Path) -> None:
    changes = {"training.optimizer": optimizer, "training.max_steps": 60, "training.eval_interval": 60}
    run = train(tmp_path, {**changes, "model.lr": 1e-2, "training.log_every_n_steps": 30})
    metrics = read_metrics(run.path)
    bounds = metrics["val_nats_per_token"][~np.isnan(metrics["val_nats_per_token"])]
    vocabulary = tzd.load(run.path).denoiser.vocab_size
    assert bounds[0] == pytest.approx(math.log(vocabulary), abs=1e-6)
    assert bounds[-1] < bounds[0] - 0.2
    losses = metrics["loss"][~np.isnan(metrics["loss"])]
    assert losses[-1] < losses[0] - 0.2


def test_a_row_of_metrics_is_what_the_batch_gives_by_hand(tmp_path: Path) -> None:
    config = config_in(tmp_path, {"training.max_steps": 1, "training.gradient_accumulation_steps": 2})
    run = RunFolder(tzd.train(config).parent)
    task = make_task(config)
    network = build(task.model)
    network.reset_parameters(torch.Generator().manual_seed(integer(config.seed, "weights", 0)))
    noised = task.noised(0)
    logits = network(torch.from_numpy(noised.x_t).long())
    loss = weighted_cross_entropy(logits, torch.from_numpy(noised.x_0).long(), torch.from_numpy(noised.weight))
    loss.backward()
    row = next(row for row in read_rows(run.path / "metrics.csv") if row["loss"])
    norm = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
    assert float(row["loss"]) == pytest.approx(loss.item(), rel=1e-6)
    assert float(row["grad_norm"]) == pytest.approx(norm.item(), rel=1e-5)
    assert int(row["tokens"]) == 2 * 8 * 24
    assert float(row["epoch"]) == pytest.approx(16 / task.windows.per_epoch)
    assert float(row["lr"]) == pytest.approx(3e-3 / 2)  # first of two steps of warm-up


@pytest.mark.parametrize("objective", ["nelbo", "pooled"])
def test_two_batches_of_four_are_one_of_eight(objective: str, tmp_path: Path) -> None:
    # Muon computes in bfloat16, and AdamW turns the rounding of a gradient near zero into a step
    settings = {"objective.name": objective, "training.optimizer": "adamw", "training.precision": "64-true"}
    one = train(tmp_path / "one", settings)
    two = train(tmp_path / "two", {**settings, "data.batch_size": 4, "training.gradient_accumulation_steps": 2})
    for name, value in weights(one).items():
        np.testing.assert_allclose(weights(two)[name], value, atol=1e-5, err_msg=name)
    losses = [read_metrics(run.path)["loss"] for run in (one, two)]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)


def test_two_runs_of_one_configuration_are_alike_to_the_last_bit(tmp_path: Path) -> None:
    first, second = (train(tmp_path / name, {"model.dropout": 0.2}) for name in ("a", "b"))
    assert_same_weights(first, second)
    assert rows(first) == rows(second)
    other = train(tmp_path / "c", {"model.dropout": 0.2, "seed": 7})
    assert rows(other) != rows(first)


def test_a_model_with_time_and_a_kept_prefix_trains_and_writes(tmp_path: Path) -> None:
    changes = {"model.time_steps": 8, "objective.context_len": 4, "training.val_generation_freq": 1}
    model = tzd.load(train(tmp_path, changes).path)
    assert model.denoiser.time_conditioned and model.denoiser.context_len == 4
    assert (tmp_path / "run" / "samples.txt").read_text().count("=== step") == 2
    assert model.denoiser.network.time_embedding.weight.abs().sum() > 0


def test_the_average_follows_its_recurrence_and_is_what_is_validated_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, np.ndarray]] = []
    original = DiffusionModule.optimizer_step

    def optimizer_step(self: DiffusionModule, *args: Any, **kwargs: Any) -> None:
        if not seen:
            seen.append({name: p.detach().double().numpy() for name, p in self.network.named_parameters()})
        original(self, *args, **kwargs)
        seen.append({name: p.detach().double().numpy() for name, p in self.network.named_parameters()})

    monkeypatch.setattr(DiffusionModule, "optimizer_step", optimizer_step)
    run = train(tmp_path, {"training.ema_decay": 0.25})
    average = seen[0]
    for step, now in enumerate(seen[1:]):
        decay = min(0.25, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * now[name] for name in now}
    saved = weights(run)
    for name, value in average.items():
        np.testing.assert_allclose(saved[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
    state = read_checkpoint(run.resolve("last")).training_state()
    for name, value in state["raw"].items():
        np.testing.assert_array_equal(value, seen[-1][name], err_msg=name)
    bound = make_task(config_in(tmp_path)).validate(tzd.load(run.resolve("last")).denoiser)
    assert read_metrics(run.path)["val_nats_per_token"][-1] == pytest.approx(bound.nats_per_token, abs=1e-6)


# --- stopping and going on --------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_three_times_equals_one_that_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            pytest.raises(Interrupted, match=r"go on with training\.resume=") as stopped,
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


def test_more_steps_may_be_asked_for_on_resuming(tmp_path: Path) -> None:
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


def test_another_accumulation_on_resuming_keeps_whole_batches(tmp_path: Path) -> None:
    steady = {"training.lr_schedule": "constant", "training.optimizer": "adamw", "training.precision": "64-true"}
    straight = train(tmp_path / "straight", {**steady, "training.max_steps": 9})
    train(tmp_path / "changed", {**steady, "training.max_steps": 3})
    halves = {"data.batch_size": 4, "training.gradient_accumulation_steps": 2}
    changed = train(tmp_path / "changed", {**steady, **halves, "training.max_steps": 9, "training.resume": True})
    for name, value in weights(straight).items():
        np.testing.assert_allclose(weights(changed)[name], value, atol=1e-5, err_msg=name)


def test_averages_may_begin_on_resuming(tmp_path: Path) -> None:
    train(tmp_path)
    run = train(tmp_path, {"training.ema_decay": 0.5, "training.max_steps": 8, "training.resume": True})
    raw = read_checkpoint(run.resolve("last")).training_state()["raw"]
    assert raw and any((weights(run)[name] != value).any() for name, value in raw.items())


def test_a_signal_in_the_last_step_ends_a_run_that_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Task.validate

    def validate(self: Task, denoiser: Any) -> Any:
        if denoiser.network.head.weight.any():  # not the one before training
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, denoiser)

    monkeypatch.setattr(Task, "validate", validate)
    run = train(tmp_path, {"training.eval_interval": 6})
    assert run.resolve("last") == run.checkpoint_path(6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model.n_embd": 32}, "model n_embd=16, not 32"),
        ({"objective.name": "pooled"}, "diffusion name=nelbo, not pooled"),
        ({"seed": 7}, "another seed"),
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


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run 'run'"):
        train(tmp_path, {"training.resume": True})
    with pytest.raises(ConfigError, match="is no folder"):
        train(tmp_path, {"training.resume": str(tmp_path / "nowhere")})


# --- going wrong ------------------------------------------------------------------------------------------------


def spoil_from(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Makes the loss of every batch from a step on not a number."""
    original = weighted_cross_entropy
    at = [0]

    def spoiled(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        at[0] += 1
        return original(logits, targets, weight) * (float("nan") if at[0] > step else 1.0)

    monkeypatch.setattr("tzd.engines.torch.module.weighted_cross_entropy", spoiled)


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    log_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_from(monkeypatch, 4)
    with pytest.raises(TzdError, match=r"the loss is nan at step \d; the last good checkpoint is .*step-00000003") as e:
        train(tmp_path, {"training.log_every_n_steps": log_every})
    assert e.value.exit_code == 1
    run = RunFolder(tmp_path / "run")
    assert run.steps() == [3] and run.resolve("last") == run.resolve("best")
    assert tzd.load(run.path).logits(np.zeros((1, 24), int)).isfinite().all()
    monkeypatch.undo()
    resumed = train(tmp_path, {"training.resume": True})  # the folder is free, and the run can go on
    assert resumed.resolve("last") == run.checkpoint_path(6)


def test_a_run_that_was_spoiled_is_not_saved_on_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_from(monkeypatch, 1)
    send_at(monkeypatch, 2)
    with pytest.raises(TzdError, match=r"the loss is nan at step \d; no checkpoint was written yet"):
        train(tmp_path, {"training.log_every_n_steps": 100})
    assert RunFolder(tmp_path / "run").steps() == []


def test_a_single_validation_window_and_mask_have_no_standard_error(tmp_path: Path) -> None:
    run = train(tmp_path, {"training.val_windows": 1, "training.val_draws": 1})
    assert np.isnan(read_metrics(run.path)["val_stderr"][-1])
    assert np.isfinite(read_metrics(run.path)["val_nats_per_token"][-1])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"engine.name": "torhc"}, "unknown engine 'torhc' .did you mean 'torch'"),
        ({"training.precision": "16-mixd"}, "training.*precision.*16-mixd"),
        ({"training.strategy": "dpp"}, "training.*strategy.*dpp"),
        ({"training.accelerator": "abacus"}, "training.accelerator.*abacus"),
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


# --- the public face --------------------------------------------------------------------------------------------


def test_overrides_train_as_they_do_on_the_command_line(tmp_path: Path) -> None:
    config_in(tmp_path)
    overrides = ["data=text", f"data.path={tmp_path}/text.txt", f"training.save_dir={tmp_path}", "data.batch_size=4"]
    overrides += ["model.n_layer=1", "model.n_head=1", "model.n_embd=8", "data.block_size=16", "logger.name=run"]
    best = tzd.train([*overrides, "training.max_steps=2", "training.val_windows=4", "sampler.steps=2"])
    assert best == tmp_path / "run" / "step-00000002"
    model = tzd.load(best)
    assert (model.config.n_embd, model.config.block_size, model.engine) == (8, 16, "torch")
    assert "=== step 2" in (tmp_path / "run" / "samples.txt").read_text()


def test_plain_data_trains_too(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    values = {group: dict(settings) for group, settings in SMALL.items()}
    values["data"]["path"], values["training"]["save_dir"] = config.data.path, str(tmp_path)
    assert tzd.train(values).parent == tmp_path / "text-tiny"


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_module_of_ones_own_is_trained_saved_and_loaded(ema_decay: float, tmp_path: Path) -> None:
    config = config_in(tmp_path, {"training.ema_decay": ema_decay, "training.val_generation_freq": 1})
    size = make_task(config).tokenizer.vocab_size
    best = tzd.train(config, denoiser=Own(size))
    model = tzd.load(best, denoiser=Own(size))
    tokens = np.array([[size, 0, 1, size] * 6])
    bound = make_task(config).validate(model.denoiser)
    recorded = read_checkpoint(best).config["provenance"]["validation"]["nats_per_token"]
    assert bound.nats_per_token == pytest.approx(recorded, abs=1e-6) and recorded < 1.2 * math.log(size)
    rows = np.array([23, 1])
    full = model.logits(tokens).cpu()
    assert full.shape == (1, 24, size)
    np.testing.assert_array_equal(model.denoiser.forward(tokens, rows=rows)[0].cpu(), full[0, rows])
    network = model.denoiser.network
    assert torch.equal(network.head.weight, network.embed.weight)


def test_workers_hand_out_the_batches_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(config_in(tmp_path, {"training.gradient_accumulation_steps": 3}))

    def first(count: int, worker: int = 0, workers: int = 1) -> list[Tensor]:
        class Info:
            id, num_workers = worker, workers

        monkeypatch.setattr("tzd.engines.torch.data.get_worker_info", lambda: Info if workers > 1 else None)
        batches = iter(NoisedBatches(task, first_step=2, rank=0))
        return [next(batches)[1] for _ in range(count)]

    alone, halves = first(8), [first(4, worker, 2) for worker in range(2)]
    assert all(torch.equal(batch, halves[i % 2][i // 2]) for i, batch in enumerate(alone))
    whole = torch.from_numpy(task.noised(2).x_t)
    assert torch.equal(torch.cat(alone[:3]), whole.long())
