"""Training on the PyTorch engine, from a configuration to a checkpoint."""

from __future__ import annotations

import copy
import functools
import gc
import math
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tzd
from runs import SMALL, assert_same_weights, config_in, rows, train, weights
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.corpus.sources.markov import CHAIN
from tzd.engines.torch.denoiser import build, set_weights
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.module import DiffusionModule
from tzd.errors import CheckpointError, ConfigError, UserError
from tzd.training.initial import initial_weights
from tzd.training.records import read_metrics, read_rows
from tzd.training.samples import validation_samplers
from tzd.training.task import make_task


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


# --- learning ----------------------------------------------------------------------------------------------------


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
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    set_weights(network, initial_weights(shapes, config.seed))
    noised = task.noised(0)
    logits = network(torch.from_numpy(noised.x_t).long())
    loss = weighted_cross_entropy(logits, torch.from_numpy(noised.x_0).long(), torch.from_numpy(noised.weight))
    loss.backward()
    row = next(row for row in read_rows(run.path / "metrics.csv") if row["loss"])
    norm = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
    assert float(row["loss"]) == pytest.approx(loss.item(), rel=1e-6)
    assert float(row["grad_norm"]) == pytest.approx(norm.item(), rel=1e-5)
    assert int(row["tokens"]) == 2 * 8 * 24
    assert float(row["epoch"]) == pytest.approx(16 / task.data.examples.per_epoch)
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
    samples = (tmp_path / "run" / "samples.txt").read_text()
    held_out = make_task(config_in(tmp_path, changes)).data.validation[0][0]
    assert samples.count("=== step") == samples.count(f"===\n    {model.decode(held_out[:4])}") == 2
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


def test_a_trained_model_comes_within_a_fiftieth_of_a_nat_of_a_known_entropy(tmp_path: Path) -> None:
    length = 16
    changes = {"data.name": "markov", "data.path": None, "data.batch_size": 128, "data.block_size": length}
    changes |= {"model.n_layer": 2, "model.n_head": 4, "model.n_embd": 64, "model.block_size": length}
    changes |= {"training.max_steps": 500, "training.eval_interval": 500, "training.log_every_n_steps": 100}
    model = tzd.load(train(tmp_path, {**changes, "training.warmup_steps": 20, "training.min_lr_ratio": 0.0}).path)
    text = CHAIN.sample(10_000 * length, seed=1).reshape(-1, length)
    bound = tzd.nelbo(model, text, draws=2)
    entropy, of_this_text = CHAIN.window_entropy(length), -CHAIN.log_prob(text).mean() / length
    assert entropy - 3 * bound.stderr < bound.nats_per_token < entropy + 0.02
    assert of_this_text - bound.stderr < bound.nats_per_token < of_this_text + 0.02


@pytest.mark.slow
def test_a_compiled_run_learns_what_an_eager_one_does(tmp_path: Path) -> None:
    changes = {"training.optimizer": "adamw", "training.ema_decay": 0.5, "training.gradient_accumulation_steps": 2}
    eager = train(tmp_path / "eager", {**changes, "training.compile": False})
    compiled, again = (train(tmp_path / name, {**changes, "training.compile": True}) for name in ("compiled", "again"))
    losses = [read_metrics(run.path)["loss"] for run in (eager, compiled)]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
    assert weights(eager).keys() == weights(compiled).keys()
    assert all(np.array_equal(value, weights(again)[name]) for name, value in weights(compiled).items())


def test_embeddings_are_left_out_of_what_is_compiled_and_the_module_is_as_it_was_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph.code)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    size = make_task(config_in(tmp_path)).tokenizer.vocab_size
    own = Own(size)
    before = set(vars(own.embed))
    train(tmp_path, {"training.compile": True}, denoiser=own)
    compiled = "".join(graphs)
    assert "linear" in compiled and "embedding" not in compiled
    assert set(vars(own.embed)) == before
    tokens, count = torch.zeros(1, 24, dtype=torch.long), len(graphs)
    for other in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert torch.equal(other(tokens), own(tokens))
        nn.init.zeros_(other.embed.weight)  # which is the head's, too
        assert not other(tokens).any() and own(tokens).any()
    own.eval()(torch.zeros(3, 7, dtype=torch.long))
    assert len(graphs) == count


# --- the public face ---------------------------------------------------------------------------------------------


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
    with pytest.raises(CheckpointError, match=r"trained with a module of your own \(Own\): give denoiser="):
        tzd.load(best)
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


def test_nothing_holds_a_network_once_it_is_trained(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    network = Own(make_task(config).tokenizer.vocab_size)
    kept = weakref.ref(network)
    tzd.train(config, denoiser=network)
    del network
    gc.collect()
    assert kept() is None


def test_a_module_that_is_not_of_the_vocabularys_width_is_told_so_before_the_first_step(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    size = make_task(config).tokenizer.vocab_size
    with pytest.raises(UserError, match=rf"Own returns logits of shape \(.*, {size + 1}\); .* has {size} tokens"):
        tzd.train(config, denoiser=Own(size + 1))


def test_a_run_that_never_gets_better_than_untrained_has_a_best_checkpoint(tmp_path: Path) -> None:
    run = train(tmp_path, {"model.lr": 30.0, "training.warmup_steps": 0, "training.max_steps": 3})
    values = [float(row["val_nats_per_token"]) for row in rows(run) if row["val_nats_per_token"]]
    assert values[1] > values[0]
    assert run.resolve("best") == run.checkpoint_path(3)


def test_the_seconds_of_training_miss_no_step(tmp_path: Path) -> None:
    run = train(tmp_path, {"training.log_every_n_steps": 4, "training.eval_interval": 3, "training.max_steps": 8})
    speed = [row for row in read_rows(run.path / "metrics.csv") if row["tokens_per_second"]]
    validated = [row for row in read_rows(run.path / "metrics.csv") if row["val_nats_per_token"]]
    seconds = {int(row["step"]): float(row["seconds"]) for row in speed}
    assert seconds[1] < float(validated[1]["seconds"]) < seconds[4] < float(validated[2]["seconds"]) < seconds[8]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"training.precision": "bf16-true"}, "16 bits would round small updates away; bf16-mixed computes"),
        ({"training.precision": "16-mixed"}, "training.precision=16-mixed is for CUDA, not for cpu: use bf16-mixed"),
        ({"training.precision": "8-bit"}, "unknown training.precision '8-bit'"),
        ({"training.strategy": "ddp_spawn"}, r"unknown training.strategy 'ddp_spawn' \(known: auto, ddp"),
        ({"training.strategy": "fsdp", "training.precision": "16-mixed"}, "fsdp with precision=16-mixed: use bf16"),
        ({"training.save_top_k": 0}, "training.save_top_k must be at least 1, or -1 for all, not 0"),
    ],
)
def test_what_a_run_cannot_train_with_is_said_before_it_begins(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, change)
    assert not (tmp_path / "run").exists()


def test_without_a_compiler_a_run_is_eager_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no compiler")

    plain = train(tmp_path / "plain")
    monkeypatch.setattr(torch, "compile", fail)
    asked = train(tmp_path / "asked", {"training.compile": True})
    assert "finds no working C++ compiler here" in capsys.readouterr().err
    assert_same_weights(plain, asked)


def test_samples_are_drawn_as_the_group_sampler_says(tmp_path: Path) -> None:
    config = config_in(tmp_path, {"sampler.name": "threshold"})
    assert [rule.temperature for rule in validation_samplers(config)] == [0.0]
    config = config_in(tmp_path, {"model.val_temperatures": [0.5, 1.0]})
    assert [rule.temperature for rule in validation_samplers(config)] == [0.5, 1.0]


def test_a_network_that_was_loaded_for_sampling_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.engines.torch.denoiser.best_device", lambda: torch.device("cpu"))
    if not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch is built without oneDNN here: nothing is laid out anew")
    run = train(tmp_path, {"training.max_steps": 1})
    network = tzd.load(run.path, engine="torch").denoiser.network
    with pytest.raises(UserError, match="was loaded for sampling, which cannot be trained: begin with its checkpoint"):
        tzd.train(config_in(tmp_path), denoiser=network)
