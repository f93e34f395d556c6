"""What the MLX engine computes in its own way: powers of two, Muon's orthogonalisation, matrices in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from networks import CONFIG, canvas, stirred, weights_of
from tzd.config import TinyConfig
from tzd.config.smdm import SmdmConfig
from tzd.errors import UserError

mx = pytest.importorskip("mlx.core")

from mlx import nn  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

from tzd.engines.mlx import streams  # noqa: E402
from tzd.engines.mlx.denoiser import MlxDenoiser, build, load_denoiser  # noqa: E402
from tzd.engines.mlx.exponential import exp2  # noqa: E402
from tzd.engines.mlx.optim import orthogonalised  # noqa: E402
from tzd.engines.mlx.precision import quantise  # noqa: E402

WIDE = TinyConfig(vocab_size=66, n_layer=2, n_head=2, n_embd=96, block_size=32)
NARROW = replace(CONFIG, n_embd=12)


# --- powers of two ------------------------------------------------------------------------------------------------


@pytest.fixture
def processor() -> Iterator[None]:
    """Powers are computed so on processors alone: a GPU's compiler takes additions together that round apart."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.mark.usefixtures("processor")
def test_powers_of_two_are_right_to_2e_7_over_all_of_float32() -> None:
    x = np.random.default_rng(0).uniform(-126, 127, 50_000).astype(np.float32)
    np.testing.assert_allclose(np.array(exp2(mx.array(x))), np.exp2(x.astype(np.float64)), rtol=2e-7)


@pytest.mark.usefixtures("processor")
def test_whole_powers_are_exact_and_far_below_there_is_next_to_nothing() -> None:
    whole = mx.arange(-126, 128).astype(mx.float32)
    np.testing.assert_array_equal(np.array(exp2(whole)), np.exp2(np.arange(-126.0, 128.0)))
    assert np.array(exp2(mx.array([-1e30, -np.inf, -127.0]))).max() < 2e-38


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("compiled", [False, True])
def test_the_slope_of_a_power_is_the_power_times_log_2(compiled: bool) -> None:
    x = mx.array([[-3.5, 0.0], [0.7, 9.0]])
    slope = mx.grad(lambda x: (3 * exp2(x)).sum())
    found = (mx.compile(slope) if compiled else slope)(x)
    np.testing.assert_allclose(np.array(found), 3 * np.log(2) * np.exp2(np.array(x)), rtol=1e-6)


# --- Muon ---------------------------------------------------------------------------------------------------------


def iterated(x: np.ndarray) -> np.ndarray:
    """Newton-Schulz as it is written down, in float64."""
    x = x.astype(np.float64)
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(16, 64), (48, 16), (24, 24), (1, 7), (7, 1)])
@pytest.mark.parametrize("decay", [0.0, 12.0])
def test_orthogonalising_by_the_smaller_side_is_newton_schulz(shape: tuple[int, int], decay: float) -> None:
    rng, rank = np.random.default_rng(0), min(shape)
    left, right = (np.linalg.qr(rng.normal(size=(size, rank)))[0] for size in shape)
    x = ((left * np.exp(-np.linspace(0, decay, rank))) @ right.T).astype(np.float32)  # singular values down to 6e-6
    found, expected = np.array(orthogonalised(mx.array(x))), iterated(x)
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_no_gradient_moves_nothing() -> None:
    assert not np.array(orthogonalised(mx.zeros((4, 8)))).any()


# --- fewer bits ---------------------------------------------------------------------------------------------------


def loaded(precision: str, config: TinyConfig = WIDE) -> MlxDenoiser:
    return load_denoiser(config, weights_of(stirred(config)), context_len=0, where=Path("here"), precision=precision)


def test_fewer_bits_take_less_memory_and_move_the_logits_little() -> None:
    tokens = canvas(width=32)
    exact = np.array(loaded("32").forward(tokens)[0])
    size, apart = {}, {}
    for precision in ("32", "int8", "int4"):
        denoiser = loaded(precision)
        size[precision] = sum(value.nbytes for _, value in tree_flatten(denoiser.network.parameters()))
        logits = np.array(denoiser.forward(tokens)[0])
        assert logits.dtype == np.float32
        apart[precision] = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
    assert size["int4"] < 0.3 * size["32"] and size["int8"] < 0.4 * size["32"]
    assert apart["32"] == 0 < apart["int8"] < 0.02 < apart["int4"] < 0.3


def test_logits_are_those_of_the_weights_that_the_whole_numbers_stand_for() -> None:
    denoiser, tokens = loaded("int4"), canvas(width=32)
    plain = build(WIDE)
    for (_, layer), (_, own) in zip(denoiser.network.named_modules(), plain.named_modules(), strict=True):
        if isinstance(layer, nn.QuantizedLinear):
            own.weight = mx.dequantize(layer.weight, layer.scales, layer.biases, layer.group_size, layer.bits)
        elif isinstance(layer, nn.Embedding):
            own.weight = layer.weight
    expected = np.array(MlxDenoiser(plain, WIDE).forward(tokens)[0])
    np.testing.assert_allclose(np.array(denoiser.forward(tokens)[0]), expected, atol=1e-4)


def test_layers_whose_width_no_group_divides_stay_as_they_are() -> None:
    network = build(SmdmConfig(vocab_size=40, n_layer=1, n_head=2, n_embd=48, block_size=16, intermediate_size=64))
    quantise(network, 8)
    kept = {name for name, layer in network.named_modules() if isinstance(layer, nn.QuantizedLinear)}
    assert kept == {"transformer.h.0.mlp.swiglu.w3"}
    logits = network(mx.array(canvas(width=16)))
    assert logits.shape == (3, 16, 40) and mx.isfinite(logits).all()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"precision": "int8"}, "precision=int8 needs matrices whose rows 32 divides, and this model has none"),
        ({"precision": "int4", "network": nn.Linear(2, 2)}, "precision=int4 is for models of the package's own"),
        ({"precision": "int2"}, "the mlx engine has no precision=int2"),
    ],
)
def test_a_precision_that_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_denoiser(NARROW, weights_of(stirred(NARROW)), context_len=0, where=Path("here"), **given)


# --- rows at a time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, np.array([59, 0, 17, 17, 12, 58, 3]), np.zeros(0, int)])
def test_computing_a_batch_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch, rows: np.ndarray | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    denoiser, tokens = loaded("32", CONFIG), canvas(rows=5)
    whole = np.array(denoiser.forward(tokens, rows=rows)[0])
    monkeypatch.setattr(streams, "_PAIRS", 1)
    monkeypatch.setattr(streams, "_on_cpu", lambda: True)
    assert [len(shares) for shares in streams.chunks(5, 144)] == [1, 2, 2]
    np.testing.assert_allclose(np.array(denoiser.forward(tokens, rows=rows)[0]), whole, rtol=0, atol=1e-5)
