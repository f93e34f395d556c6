"""In training, the head runs on masked positions where the vocabulary is large."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runs import train
from tzd.config import TinyConfig
from tzd.diffusion import objective
from tzd.diffusion.objective import HEAD_ON_MASKED_FROM, OBJECTIVES, head_rows
from tzd.engines.torch import loss as torch_loss
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.tiny import Tiny
from tzd.training.records import read_metrics

LARGE = HEAD_ON_MASKED_FROM


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
def test_the_head_runs_at_all_that_weighs_and_at_less_than_a_sixteenth_more(share: float) -> None:
    weight = (np.random.default_rng(0).random((8, 30)) < share) * np.float32(0.5)
    rows = head_rows(weight, LARGE)
    assert rows is not None
    assert (np.diff(rows) > 0).all() and rows.min() >= 0 and rows.max() < weight.size
    assert set(np.flatnonzero(weight)) <= set(rows)
    assert len(rows) % 15 == 0 and max(15, (weight > 0).sum()) <= len(rows) < (weight > 0).sum() + 16


def test_sizes_that_sixteen_does_not_divide_are_covered_too() -> None:
    for size in range(1, 40):
        weight = np.ones((1, size), np.float32)
        assert head_rows(weight, LARGE).tolist() == list(range(size))
        weight[0, : size // 2] = 0
        assert set(head_rows(weight, LARGE)) >= set(range(size // 2, size))


def test_a_small_vocabulary_is_computed_everywhere() -> None:
    assert head_rows(np.ones((4, 8), np.float32), LARGE - 1) is None


@pytest.mark.parametrize("context_len", [0, 5])
@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("engine", ["torch", "mlx"])
def test_training_is_that_with_the_head_at_every_position(
    engine: str, name: str, context_len: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "mlx":
        pytest.importorskip("mlx.core")
    changes = {"objective.name": name, "objective.context_len": context_len, "training.optimizer": "adamw"}
    changes |= {"training.max_steps": 4, "training.eval_interval": 4, "training.val_windows": 1}
    changes |= {"training.gradient_accumulation_steps": 2, "data.batch_size": 4}
    metrics = []
    for least in (LARGE, 2):
        monkeypatch.setattr(objective, "HEAD_ON_MASKED_FROM", least)
        metrics.append(read_metrics(train(tmp_path / str(least), changes, engine=engine).path))
    for column in ("loss", "grad_norm", "val_nats_per_token"):
        np.testing.assert_allclose(metrics[1][column], metrics[0][column], rtol=2e-5, err_msg=column)
    assert metrics[0]["grad_norm"].size >= 4


def test_the_network_is_asked_for_fewer_logits_than_there_are_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "HEAD_ON_MASKED_FROM", 2)
    shapes, forward = [], Tiny.forward

    @functools.wraps(forward)
    def watched(self: Tiny, tokens: Tensor, *args: Tensor, **inputs: Tensor) -> Tensor:
        logits = forward(self, tokens, *args, **inputs)
        if torch.is_grad_enabled():
            shapes.append(tuple(logits.shape[:-1]))
        return logits

    monkeypatch.setattr(Tiny, "forward", watched)
    train(tmp_path)
    assert len(shapes) == 6 and all(len(shape) == 1 and shape[0] < 8 * 24 for shape in shapes)


def test_a_module_of_the_callers_own_trains_with_a_large_vocabulary_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "HEAD_ON_MASKED_FROM", 2)
    size = len(set("apple banana cherry damson "))
    own = nn.Sequential(nn.Embedding(size + 1, 16), nn.Linear(16, size))
    losses = read_metrics(train(tmp_path, denoiser=own).path)["loss"]
    assert np.isfinite(losses[~np.isnan(losses)]).all()


def test_a_compiled_network_is_compiled_once_for_all_numbers_of_rows() -> None:
    network = Tiny(TinyConfig(vocab_size=50, n_layer=1, n_head=1, n_embd=8, block_size=32))
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    network.compile(backend=backend)
    for count in (40, 8, 64, 24):
        rows = torch.arange(count)
        torch._dynamo.maybe_mark_dynamic(rows, 0)
        assert network(torch.zeros(2, 32, dtype=torch.long), rows=rows).shape == (count, 50)
    assert len(graphs) == 1


# --- the loss ----------------------------------------------------------------------------------------------------


def sums(dtype: torch.dtype, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The loss and its gradient by ours and by PyTorch's function, times 3."""
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.randn(7, 5, 40, generator=generator)
    targets = torch.randint(40, (7, 5), generator=generator)
    results = []
    for ours in (True, False):
        logits = values.to(dtype).requires_grad_()
        if ours:
            loss = 3 * weighted_cross_entropy(logits, targets, weight)
        else:
            ce = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
            loss = 3 * (ce * weight.flatten()).sum()
        loss.backward()
        results.append((loss.detach(), logits.grad))
    return results


@pytest.mark.parametrize("chunk", [1, 120, 10**6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_the_loss_and_its_gradient_are_those_of_pytorch(
    chunk: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_loss, "_CHUNK", chunk)
    weight = torch.rand(7, 5, generator=torch.Generator().manual_seed(1))
    weight[weight < 0.4] = 0
    (loss, gradient), (expected, expected_gradient) = sums(dtype, weight)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=1e-6)


def test_a_batch_without_a_masked_token_costs_nothing_and_teaches_nothing() -> None:
    loss, gradient = sums(torch.float32, torch.zeros(7, 5))[0]
    assert loss == 0 and not gradient.any()


def test_small_gradients_survive_16_bits_where_the_loss_is_scaled() -> None:
    logits = torch.zeros(4096, 8, dtype=torch.float16, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(4096, dtype=torch.long), torch.full((4096,), 1e-9))
    (65536 * loss).backward()
    torch.testing.assert_close(logits.grad[:, 1], torch.full((4096,), 65536e-9 / 8).half())


def test_the_loss_on_mlx_and_its_gradient_are_those_of_pytorch() -> None:
    mx = pytest.importorskip("mlx.core")
    from tzd.engines.mlx.loss import weighted_cross_entropy as on_mlx

    rng = np.random.default_rng(0)
    logits = (10 * rng.standard_normal((6, 5, 40))).astype(np.float32)
    logits[0] = [1e4, *39 * [-1e4]]  # far beyond what a power can hold
    targets, weight = rng.integers(0, 40, (6, 5)), rng.random((6, 5)).astype(np.float32)
    loss, gradient = mx.value_and_grad(on_mlx)(mx.array(logits), mx.array(targets), mx.array(weight))
    theirs = torch.from_numpy(logits).requires_grad_()
    expected = weighted_cross_entropy(theirs, torch.from_numpy(targets), torch.from_numpy(weight))
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(np.array(gradient), theirs.grad, atol=1e-5)
