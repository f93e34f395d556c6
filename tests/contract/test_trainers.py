"""What training promises on every engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
import tzd
from runs import assert_same_weights, rows, weights
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.engines import ENGINES
from tzd.errors import ConfigError, UserError
from tzd.training.records import read_metrics

Train = Callable[..., RunFolder]
ADAMW = {"training.optimizer": "adamw", "tokenizer.name": "ascii"}


@pytest.fixture
def train(engine: str) -> Train:
    return partial(runs.train, engine=engine)


def losses(run: RunFolder, column: str = "loss") -> np.ndarray:
    values = read_metrics(run.path)[column]
    return values[~np.isnan(values)]


# --- one course on every engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.time_steps": 8, "objective.context_len": 4, "objective.name": "pooled"},
        {"training.gradient_accumulation_steps": 2, "data.batch_size": 4, "training.ema_decay": 0.9},
        {"training.grad_clip": 0.05, "training.weight_decay": 0.5, "objective.name": "exact_k"},
        {"data.batch_size": 5, "training.grad_clip": 0},
        {"model.value_residual": True, "model.n_layer": 2},
    ],
    ids=["plain", "time", "accumulated", "clipped", "odd", "values"],
)
def test_two_engines_lose_alike_over_twenty_steps(changes: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    settings = {**ADAMW, "training.max_steps": 20, "training.eval_interval": 10, "training.warmup_steps": 5, **changes}
    both = [runs.train(tmp_path / engine, settings, engine=engine) for engine in ENGINES]
    for column, bar in (("loss", 1e-4), ("grad_norm", 1e-3), ("val_nats_per_token", 1e-5), ("lr", 1e-12)):
        torch, mlx = (losses(run, column) for run in both)
        assert len(torch) == len(mlx) >= 3
        np.testing.assert_allclose(mlx, torch, rtol=bar, err_msg=column)
    assert (losses(both[0])[-1] < losses(both[0])[0]) and weights(both[0]).keys() == weights(both[1]).keys()


def test_two_engines_lose_alike_with_muon(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    torch, mlx = (
        losses(runs.train(tmp_path / engine, {"training.max_steps": 10}, engine=engine)) for engine in ENGINES
    )
    np.testing.assert_allclose(mlx, torch, rtol=1e-3)  # PyTorch orthogonalises in bfloat16


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (12, 12)])
def test_muon_moves_a_matrix_alike_on_two_engines(shape: tuple[int, int]) -> None:
    mx = pytest.importorskip("mlx.core")
    import torch

    from tzd.engines.mlx.optim import DecoupledMuon

    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=shape).astype(np.float32), rng.normal(size=(3, *shape)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.Muon(
        [parameter], lr=0.1, weight_decay=0.5, momentum=0.95, nesterov=True, adjust_lr_fn="original"
    )
    ours, weights = DecoupledMuon(0.1, 0.5), {"w": mx.array(start)}
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        theirs.step()
        weights = ours.apply_gradients({"w": mx.array(gradient)}, weights)
    moved = parameter.detach().numpy() - start
    assert np.linalg.norm(np.array(weights["w"]) - start - moved) < 0.02 * np.linalg.norm(moved)


def test_the_bound_starts_at_log_V_and_training_lowers_it(train: Train, tmp_path: Path) -> None:
    changes = {
        "training.max_steps": 60,
        "training.eval_interval": 60,
        "model.lr": 1e-2,
        "training.log_every_n_steps": 30,
    }
    run = train(tmp_path, changes)
    bounds = losses(run, "val_nats_per_token")
    assert bounds[0] == pytest.approx(np.log(tzd.load(run.path).denoiser.vocab_size), abs=1e-6)
    assert bounds[-1] < bounds[0] - 0.2
    assert losses(run)[-1] < losses(run)[0] - 0.2


def test_two_batches_of_four_are_one_of_eight(train: Train, tmp_path: Path) -> None:
    one = train(tmp_path / "one", {**ADAMW})
    two = train(tmp_path / "two", {**ADAMW, "data.batch_size": 4, "training.gradient_accumulation_steps": 2})
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-5)


def test_two_runs_of_one_configuration_are_alike_to_the_last_bit(train: Train, tmp_path: Path) -> None:
    changes = {"model.dropout": 0.3, "training.ema_decay": 0.9, "training.val_generation_freq": 1}
    one, two = (train(tmp_path / name, changes) for name in ("one", "two"))
    assert_same_weights(one, two)
    assert rows(one) == rows(two)
    assert (one.path / "samples.txt").read_text() == (two.path / "samples.txt").read_text() != ""


@pytest.mark.parametrize("change", [{"training.compile": True}, {"training.precision": "bf16-mixed"}])
def test_a_compiled_and_a_half_precise_run_of_mlx_lose_as_a_plain_one(change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    steady = {**ADAMW, "training.max_steps": 12, "training.compile": False, "model.dropout": 0.1}
    plain, other = (
        losses(runs.train(tmp_path / name, {**steady, **changes}, engine="mlx"))
        for name, changes in (("plain", {}), ("other", change))
    )
    np.testing.assert_allclose(other, plain, rtol=1e-5 if "training.compile" in change else 2e-2)
    assert (other == plain).all() != ("training.precision" in change)


def test_the_average_follows_its_recurrence_and_is_what_is_saved(train: Train, tmp_path: Path) -> None:
    one, two = (train(tmp_path / str(n), {"training.max_steps": n, "training.ema_decay": 0.5}) for n in (1, 2))
    first, second = (read_checkpoint(run.resolve("last")) for run in (one, two))
    state = second.training_state()
    decay = 2 / 11  # (1 + step) / (10 + step), of the second step
    for name, raw in state["raw"].items():
        expected = decay * first.weights[name] + (1 - decay) * raw
        np.testing.assert_allclose(second.weights[name], expected, atol=1e-6, err_msg=name)


# --- beginning with weights, and following them -------------------------------------------------------------------


def test_a_run_begins_with_the_weights_it_is_given_at_the_step_it_is_given(train: Train, tmp_path: Path) -> None:
    first = train(tmp_path / "first", {**ADAMW})
    changes = {
        **ADAMW,
        "training.init_from": str(first.path),
        "training.first_step": 4,
        "training.max_steps": 7,
        "model.n_embd": 32,  # the architecture is that of the weights
    }
    second = train(tmp_path / "second", changes)
    assert losses(second, "val_nats_per_token")[0] == pytest.approx(losses(first, "val_nats_per_token").min(), abs=1e-5)
    assert [row["step"] for row in rows(second) if row["loss"]] == ["5", "6", "7"]
    assert second.steps()[-1] == 7
    last = read_checkpoint(second.resolve("last"))
    assert last.config["model"]["n_embd"] == 16 and last.config["provenance"]["step"] == 7
    resumed = train(tmp_path / "second", {**changes, "training.max_steps": 9, "training.resume": True})
    assert [row["step"] for row in rows(resumed) if row["loss"]] == ["5", "6", "7", "8", "9"]


def test_a_run_begins_with_weights_of_the_other_engine(train: Train, engine: str, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    other = next(name for name in ENGINES if name != engine)
    first = runs.train(tmp_path / "first", {**ADAMW}, engine=other)
    second = train(tmp_path / "second", {**ADAMW, "training.init_from": str(first.path)})
    assert losses(second, "val_nats_per_token")[0] == pytest.approx(losses(first, "val_nats_per_token").min(), abs=1e-5)
    with pytest.raises(ConfigError, match=rf"was trained with engine={other}, whose state {engine} cannot take"):
        train(tmp_path / "first", {**ADAMW, "training.max_steps": 9, "training.resume": True})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.name": "char"}, "has another tokenizer than this run"),
        ({"training.first_step": 6}, "training.first_step=6 is not before the last of 6 steps"),
        ({"model.block_size": 48, "data.block_size": 48}, "data.block_size=48 is longer than the window of"),
        ({"training.init_from": "nowhere"}, "there is no checkpoint at nowhere"),
    ],
)
def test_weights_that_cannot_be_begun_with_are_one_line(
    changes: dict[str, Any], message: str, train: Train, tmp_path: Path
) -> None:
    first = train(tmp_path / "first", {**ADAMW})
    with pytest.raises(UserError, match=message) as error:
        train(tmp_path / "second", {**ADAMW, "training.init_from": str(first.path), **changes})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "second" / "run").exists()


def test_a_first_step_is_for_given_weights_alone() -> None:
    with pytest.raises(ConfigError, match=r"set training\.init_from too"):
        tzd.train(["training.first_step=3"])


def test_a_single_file_follows_the_checkpoints(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights" / "model.npz"
    seen: list[int] = []
    original = RunFolder.prune

    def prune(self: RunFolder, keep: Sequence[int]) -> None:
        if file.exists():  # written after the checkpoint before
            seen.append(json.loads(file.with_suffix(".json").read_text())["provenance"]["step"])
        original(self, keep)

    monkeypatch.setattr(RunFolder, "prune", prune)
    run = train(tmp_path, {**ADAMW, "training.export_to": str(file), "training.checkpoint_interval": 2})
    assert seen == [2, 3, 4, 6]  # at the end what a kill may have left is looked for once more
    theirs, ours = tzd.load(file), tzd.load(run.resolve("last"))
    tokens = ours.encode("apple banana")[None]
    np.testing.assert_allclose(
        np.asarray(theirs.logits(tokens))[..., 1:], np.asarray(ours.logits(tokens))[..., 1:], atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.export_to": "model.pt"}, r"cannot write model\.pt"),
        ({"training.export_to": "model.npz", "tokenizer.name": "char"}, "model.npz"),
        ({"training.export_to": "model.npz", "model.value_residual": True}, "no place for model.value_residual=true"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_the_first_step(
    changes: dict[str, Any], message: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path, {**ADAMW, **changes})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ending", [".npz", ".json"])
def test_a_file_of_an_earlier_run_is_not_overwritten(ending: str, train: Train, tmp_path: Path) -> None:
    (tmp_path / f"model{ending}").write_text("mine")
    with pytest.raises(UserError, match=rf"model\{ending} exists, and the run would overwrite it"):
        train(tmp_path, {**ADAMW, "training.export_to": str(tmp_path / "model.npz")})
    assert (tmp_path / f"model{ending}").read_text() == "mine"
    assert not (tmp_path / "run").exists()


def test_a_module_of_the_callers_own_is_not_exported_and_that_is_said_first(
    train: Train, tmp_path: Path, engine: str
) -> None:
    module = import_module({"torch": "torch.nn", "mlx": "mlx.nn"}[engine])
    changes = {**ADAMW, "training.export_to": str(tmp_path / "model.npz")}
    with pytest.raises(ConfigError, match="not a module of your own"):
        train(tmp_path, changes, module.Embedding(128, 128))
    assert not (tmp_path / "run").exists()


# --- what MLX cannot be told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.devices": 2}, r"training\.devices=2, .*mlx\.launch"),
        ({"training.strategy": "ddp"}, r"strategy=ddp.*mlx\.launch"),
        ({"training.precision": "64-true"}, r"64-true: MLX trains in float32"),
        ({"training.accelerator": "mps"}, r"training\.accelerator=mps: MLX knows auto, cpu and gpu"),
        ({"data.num_workers": 2}, r"data\.num_workers=2: .*set it to 0"),
    ],
)
def test_settings_that_mlx_has_not_are_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    with pytest.raises(ConfigError, match=message) as error:
        runs.train(tmp_path, changes, engine="mlx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# --- a module of one's own on MLX ----------------------------------------------------------------------------------


def own_module(vocab_size: int) -> Any:
    """An mlx.nn.Module with a frozen matrix and a table of whole numbers."""
    mx, nn = pytest.importorskip("mlx.core"), pytest.importorskip("mlx.nn")

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab_size + 1, 16)
            self.fixed = nn.Linear(16, 16)
            self.head = nn.Linear(16, vocab_size)
            self.order = mx.arange(24)
            self.fixed.freeze()

        def __call__(self, tokens: Any) -> Any:
            return self.head(mx.tanh(self.fixed(self.embedding(tokens) + self.order[: tokens.shape[1], None] / 24)))

    return Own()


def test_a_module_of_ones_own_goes_on_with_what_is_frozen(tmp_path: Path) -> None:
    vocab_size = 128
    first = own_module(vocab_size)
    run = runs.train(tmp_path, {**ADAMW}, denoiser=first, engine="mlx")
    frozen = np.array(first.fixed.weight)
    np.testing.assert_array_equal(weights(run)["fixed.weight"], frozen)
    other = own_module(vocab_size)
    assert (np.array(other.fixed.weight) != frozen).any()
    resumed = runs.train(
        tmp_path, {**ADAMW, "training.max_steps": 8, "training.resume": True}, denoiser=other, engine="mlx"
    )
    np.testing.assert_array_equal(weights(resumed)["fixed.weight"], frozen)
    other.fixed.unfreeze()
    with pytest.raises(ConfigError, match=r"was trained with fixed\.\w+ frozen"):
        changes = {**ADAMW, "training.max_steps": 9, "training.resume": True}
        runs.train(tmp_path, changes, denoiser=other, engine="mlx")
    assert (weights(resumed)["head.weight"] != weights(run, "best")["head.weight"]).any() or run.path == resumed.path
    assert tzd.load(resumed.path, denoiser=own_module(vocab_size)).engine == "mlx"


@pytest.mark.parametrize("wrong", [lambda tokens: tokens, "a name"])
def test_a_module_of_the_wrong_kind_is_one_line(wrong: Any, train: Train, engine: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"engine={engine} trains an? \S+nn\.Module, not a \w+"):
        train(tmp_path, {**ADAMW}, denoiser=wrong)


def test_a_module_that_drops_a_position_is_told_so_before_the_first_step(tmp_path: Path) -> None:
    module = own_module(128)
    whole = type(module).__call__
    type(module).__call__ = lambda self, tokens: whole(self, tokens)[:, 1:]
    with pytest.raises(UserError, match=r"Own returns logits of shape \(\d+, 23, 128\)"):
        runs.train(tmp_path, {**ADAMW}, denoiser=module, engine="mlx")


# --- files that others wrote ---------------------------------------------------------------------------------------


def test_a_resumed_run_writes_over_no_other_runs_file(train: Train, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.npz" for name in ("one", "two")]
    for file in files:
        train(tmp_path / file.stem, {**ADAMW, "training.export_to": str(file)})
    before = files[0].read_bytes()
    changes = {**ADAMW, "training.resume": True, "training.export_to": str(files[0])}
    with pytest.raises(UserError, match=r"one\.npz exists, and is not what .* exports to"):
        train(tmp_path / "two", {**changes, "training.max_steps": 9})
    with pytest.raises(ConfigError, match="trained with another seed"):
        train(tmp_path / "one", {**changes, "training.max_steps": 9, "seed": 7})
    assert files[0].read_bytes() == before


def test_the_dropout_is_the_runs_own_where_the_architecture_is_given(train: Train, tmp_path: Path) -> None:
    first = train(tmp_path / "first", {**ADAMW})
    second = train(tmp_path / "second", {**ADAMW, "training.init_from": str(first.path), "model.dropout": 0.3})
    assert read_checkpoint(second.resolve("last")).config["model"]["dropout"] == 0.3
