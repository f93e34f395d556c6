"""One model, one seed, two engines: the same arrays, logits, likelihoods and texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks import CONFIG, TIMED, on
from tzd.arrays import Arrays, NumpyArrays
from tzd.config import TinyConfig
from tzd.diffusion.likelihood import log_likelihood, nelbo
from tzd.sampling import sampler, stream
from tzd.sampling.draw import draw, draw_filtered, propose

pytest.importorskip("mlx.core")

NUMPY = NumpyArrays()
TEXTS = 64


@pytest.fixture
def xp(engine: str) -> Arrays:
    return on(engine).xp


# --- arrays -----------------------------------------------------------------------------------------------------


def logits_with_ties(rows: int, width: int, seed: int) -> np.ndarray:
    """(rows, width) float32 of few different values, some of them −inf."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (rows, width)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = -np.inf
    values[:, rng.integers(0, width)] = 2
    return values


@pytest.mark.parametrize("width", [1, 2, 11, 700])
def test_every_engine_computes_with_ties_and_bans_what_numpy_does(xp: Arrays, width: int) -> None:
    host = logits_with_ties(30, width, seed=width)
    x = xp.asarray(host)
    for name in ("argmax", "max"):
        np.testing.assert_array_equal(xp.to_numpy(getattr(xp, name)(x)), getattr(NUMPY, name)(host), err_msg=name)
    for name in ("top2", "sort_descending"):
        for one, other in zip(getattr(xp, name)(x), getattr(NUMPY, name)(host), strict=True):
            np.testing.assert_array_equal(xp.to_numpy(one), other, err_msg=name)
    p = NUMPY.softmax(host)
    np.testing.assert_allclose(xp.to_numpy(xp.softmax(x)), p, atol=1e-6)
    on_engine = xp.asarray(p)
    for name in ("sum", "cumsum", "entropy"):
        np.testing.assert_allclose(
            xp.to_numpy(getattr(xp, name)(on_engine)), getattr(NUMPY, name)(p), rtol=2e-5, err_msg=name
        )
    index = np.random.default_rng(1).integers(0, width, 30)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(
            xp.to_numpy(xp.log_probability(x, xp.asarray(index))), NUMPY.log_probability(host, index), atol=3e-6
        )
    columns = np.random.default_rng(2).integers(0, width, (30, 4))
    np.testing.assert_array_equal(xp.to_numpy(xp.take(x, xp.asarray(columns))), NUMPY.take(host, columns))
    np.testing.assert_array_equal(
        xp.to_numpy(xp.pad_last(xp.reshape(x, (15, 2, width)), width + 3)),
        NUMPY.pad_last(NUMPY.reshape(host, (15, 2, width)), width + 3),
    )
    banned = np.arange(width) % 3 == 1
    np.testing.assert_array_equal(
        xp.to_numpy(xp.where(xp.asarray(banned), -np.inf, x)), NUMPY.where(banned, -np.inf, host)
    )


@pytest.mark.parametrize("size", [2, 66, 256, 257, 1025])
def test_every_engine_draws_the_same_tokens(xp: Arrays, size: int) -> None:
    rng = np.random.default_rng(size)
    p, u = rng.dirichlet(np.full(size, 0.3), 500).astype(np.float32), rng.random(500)
    np.testing.assert_array_equal(draw(xp, xp.asarray(p), u), draw(NUMPY, p, u))
    for top_p, top_k in ((0.5, None), (1.0, 3), (0.9, 5), (1e-6, None), (0.8, 1000)):
        np.testing.assert_array_equal(
            draw_filtered(xp, xp.asarray(p), u, top_p, top_k), draw_filtered(NUMPY, p, u, top_p, top_k)
        )


@pytest.mark.parametrize("size", [64, 1025])
@pytest.mark.parametrize("u", [0.0, 1e-300, np.nextafter(1.0, 0.0)])
def test_a_token_of_probability_0_is_drawn_on_no_engine(xp: Arrays, size: int, u: float) -> None:
    rng = np.random.default_rng(size)
    p = (rng.random((20, size)) * (rng.random((20, size)) < 0.1)).astype(np.float32)
    p[np.arange(20), rng.integers(0, size, 20)] = 1e-30
    drawn = draw(xp, xp.asarray(p), np.full(20, u))
    assert (p[np.arange(20), drawn] > 0).all()


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 0.7, 1.0, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_every_engine_proposes_the_same_candidates(xp: Arrays, temperature: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = (scale * rng.standard_normal((200, 20))).astype(np.float32)
    logits[:, 3] = -np.inf
    u = rng.random(200)
    ours, theirs = (propose(a, a.asarray(logits), u, temperature=temperature) for a in (xp, NUMPY))
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_allclose(ours.probability, theirs.probability, rtol=1e-4)


# --- logits -----------------------------------------------------------------------------------------------------


@st.composite
def models(draw: st.DrawFn) -> TinyConfig:
    vocab_size, n_head = draw(st.integers(2, 40)), draw(st.integers(1, 3))
    return TinyConfig(
        vocab_size=vocab_size,
        mask_id=draw(st.sampled_from([vocab_size, 0, vocab_size - 1])),
        n_layer=draw(st.integers(1, 3)),
        n_head=n_head,
        n_embd=n_head * draw(st.sampled_from([2, 4, 16])),
        block_size=draw(st.integers(1, 20)),
        intermediate_size=draw(st.sampled_from([None, 1, 24])),
        norm_eps=draw(st.sampled_from([1e-5, float(np.finfo(np.float32).eps)])),
        rope_base=draw(st.sampled_from([10000.0, 10.0])),
        time_steps=draw(st.sampled_from([0, 1, 7])),
        value_residual=draw(st.booleans()),
        rotary_tables=draw(st.booleans()),
    )


def attention_masks(kind: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray | None:
    """Nobody is left without anything to attend to."""
    if kind == "none":
        return None
    if kind == "pads":
        return np.arange(width) < rng.integers(1, width + 1, (rows, 1))
    return (rng.random((rows, width, width)) < 0.5) | np.eye(width, dtype=bool)


def requests(config: TinyConfig, rows: int, attention: str, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Tokens and what else a denoiser's `forward` may be given."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, config.block_size + 1))
    tokens = rng.integers(0, config.n_embedding_rows, (rows, width))
    given: dict[str, Any] = {"attention": attention_masks(attention, rows, width, rng)}
    if rng.random() < 0.5:
        given["positions"] = rng.integers(0, config.block_size, tokens.shape)
    if rng.random() < 0.5:
        given["rows"] = rng.integers(0, tokens.size, rng.integers(1, 9))
    if config.time_steps and rng.random() < 0.5:
        given["t"] = rng.random(rows) if rng.random() < 0.5 else rng.integers(0, config.time_steps, rows)
    return tokens, given


@settings(max_examples=60, deadline=None)
@given(models(), st.integers(1, 5), st.sampled_from(["none", "pads", "square"]), st.integers(0, 10_000))
def test_the_same_weights_give_the_same_logits(config: TinyConfig, rows: int, attention: str, seed: int) -> None:
    tokens, given = requests(config, rows, attention, seed)
    one, other = (on(engine, config, context_len=seed % 3).forward(tokens, **given)[0] for engine in ("torch", "mlx"))
    wanted = (len(given["rows"]),) if "rows" in given else tokens.shape
    assert one.shape == other.shape == (*wanted, config.vocab_size)
    np.testing.assert_allclose(np.array(other), one.cpu().numpy(), rtol=0, atol=1e-4)


# --- what is computed of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, TIMED, replace(TIMED, mask_id=0)], ids=["plain", "timed", "mask inside"])
def test_likelihoods_are_those_of_the_other_engine(config: TinyConfig) -> None:
    rng = np.random.default_rng(4)
    text = rng.integers(1, config.vocab_size, (8, config.block_size))
    one, other = (on(engine, config, context_len=2) for engine in ("torch", "mlx"))
    ours, theirs = nelbo(other, [text], draws=4), nelbo(one, [text], draws=4)
    assert ours.nats_per_token == pytest.approx(theirs.nats_per_token, abs=1e-5)
    assert ours.stderr == pytest.approx(theirs.stderr, abs=1e-5)
    ours, theirs = (log_likelihood(denoiser, text[0, :4], text[0, 4:], draws=16) for denoiser in (other, one))
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("config", [CONFIG, TIMED], ids=["plain", "timed"])
def test_one_seed_gives_the_same_texts(config: TinyConfig) -> None:
    blank = np.full((TEXTS, 30), config.mask_id)
    *_, one = stream(on("torch", config), blank, sampler=sampler("ancestral"), seed=11)
    *_, other = stream(on("mlx", config), blank, sampler=sampler("ancestral"), seed=11)
    alike = int((one.tokens == other.tokens).all(axis=1).sum())
    assert alike >= 60, f"{alike} of {TEXTS}"
    assert one.nfe == other.nfe
    assert len(np.unique(other.tokens, axis=0)) == TEXTS
