"""Training on a large vocabulary in MLX: the logits are made some columns at a time, and never held at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs import config_in, train
from tzd.config import model_config
from tzd.diffusion.objective import HEAD_ON_MASKED_FROM
from tzd.training.task import make_task

mx = pytest.importorskip("mlx.core")

from mlx import nn  # noqa: E402

from tzd.engines.mlx import learner, loss  # noqa: E402
from tzd.engines.mlx.denoiser import NETWORKS, build, set_weights, weight_shapes  # noqa: E402
from tzd.engines.mlx.loss import head_cross_entropy, weighted_cross_entropy  # noqa: E402

VOCAB = HEAD_ON_MASKED_FROM + 52


def drawn(rows: int, width: int, vocab: int, scale: float = 1.0) -> tuple[mx.array, ...]:
    """What the head is given, its matrix, targets at both ends of the vocabulary too, and weights, some of them 0."""
    draw = np.random.default_rng(0)
    hidden, head = draw.standard_normal((rows, width), np.float32), draw.standard_normal((vocab, width), np.float32)
    targets, weight = draw.integers(0, vocab, rows), draw.random(rows, np.float32)
    targets[:2], weight[2] = (0, vocab - 1), 0
    return tuple(map(mx.array, (hidden * scale, head, targets, weight)))


def plain(hidden: mx.array, head: mx.array, targets: mx.array, weight: mx.array) -> mx.array:
    return 2 * weighted_cross_entropy(hidden @ head.T, targets, weight)


def by_columns(hidden: mx.array, head: mx.array, targets: mx.array, weight: mx.array) -> mx.array:
    return 2 * head_cross_entropy(hidden, targets, weight, head=head)


@pytest.mark.parametrize(
    ("columns", "scale", "compiled"),
    [(1, 1.0, False), (7, 0.1, False), (7, 1.0, True), (7, 60.0, False), (100, 1.0, False)],
)
def test_loss_and_gradients_are_those_of_all_logits_at_once(
    columns: int, scale: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_CHUNK", 12 * columns)
    inputs = drawn(12, 8, 50, scale)
    results = []
    for function in (plain, by_columns):
        both = mx.value_and_grad(function, argnums=(0, 1))
        value, gradients = (mx.compile(both) if compiled else both)(*inputs)
        results.append([np.array(x) for x in (value, *gradients)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    assert all(np.abs(x).max() > 0 for x in results[0])


def test_matrices_of_bfloat16_have_gradients_of_bfloat16_near_those_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "_CHUNK", 12 * 7)
    hidden, head, *rest = drawn(12, 8, 50)
    exact = mx.grad(plain, argnums=(0, 1))(hidden, head, *rest)
    halved = mx.grad(by_columns, argnums=(0, 1))(hidden.astype(mx.bfloat16), head.astype(mx.bfloat16), *rest)
    for half, whole in zip(halved, exact, strict=True):
        assert half.dtype == mx.bfloat16
        np.testing.assert_allclose(
            np.array(half.astype(mx.float32)), np.array(whole), atol=0.03 * float(mx.abs(whole).max())
        )


def held_in_steps(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> float:
    """The most that an optimizer step holds beyond what was held before it, in arrays of (masked rows × V)."""
    (folder / "text.txt").write_text("".join(chr(0x4E00 + i % VOCAB) for i in range(3 * VOCAB)))
    monkeypatch.setattr(loss, "_CHUNK", 2**15)
    held, step = [], learner.Learner.step

    def watched(self: learner.Learner, index: int, noised: Any, *, leave: bool) -> tuple[mx.array, bool]:
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        result = step(self, index, noised, leave=leave)
        held.append((mx.get_peak_memory() - before) / (4 * VOCAB * (noised.weight > 0).sum()))
        return result

    monkeypatch.setattr(learner.Learner, "step", watched)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    small = {"model.n_embd": 4, "training.val_windows": 1, "training.max_steps": 2, "training.eval_interval": 2}
    train(folder, {**small, "model.block_size": 64, "data.block_size": 64, **changes}, engine="mlx")
    return max(held)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_holds_less_than_one_array_of_logits(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held_in_steps(tmp_path, monkeypatch, **{"training.compile": compiled, "data.batch_size": 24}) < 1


def test_logits_that_are_made_at_once_take_several_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "HEAD_ON_MASKED_FROM", VOCAB + 2)
    assert held_in_steps(tmp_path, monkeypatch, **{"data.batch_size": 24}) > 3


@pytest.mark.parametrize("model_type", NETWORKS)
def test_gradients_of_a_batch_by_columns_are_those_with_all_logits_at_once(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_CHUNK", 256)
    task = make_task(config_in(tmp_path, {"model.model_type": model_type, "engine.name": "mlx"}))
    network = build(task.model)
    draw = np.random.default_rng(0)
    set_weights(network, {name: draw.normal(0, 0.3, shape) for name, shape in weight_shapes(network).items()})
    results = []
    for least in (HEAD_ON_MASKED_FROM, 2):
        monkeypatch.setattr(learner, "HEAD_ON_MASKED_FROM", least)
        learns = learner.Learner(task, network, mx.distributed.init(), dtype=None, compiled=False)
        value, gradients = learns._accumulated(0, task.noised(0))
        results.append({name: np.array(x) for name, x in {"loss": value, **gradients}.items()})
    assert results[0].keys() == results[1].keys()
    for name, theirs in results[0].items():
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(results[1][name], theirs, atol=1e-5 * np.abs(theirs).max(), err_msg=name)


@pytest.mark.parametrize("model_type", NETWORKS)
def test_a_head_that_is_no_mere_matrix_product_is_left_whole(model_type: str) -> None:
    network = build(model_config({"model_type": model_type, "n_layer": 1, "n_head": 2, "n_embd": 64, "vocab_size": 40}))
    weight = network.head_weight()
    assert weight is not None and weight.shape == (40, 64)
    nn.quantize(network)
    assert network.head_weight() is None
    network.update_modules({"head" if model_type == "tiny" else "lm_head": nn.Linear(64, 40)})
    assert network.head_weight() is None
