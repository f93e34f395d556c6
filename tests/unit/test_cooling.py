"""A temperature that falls as a block fills."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from tzd.arrays import NumpyArrays
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError
from tzd.sampling import Sampler, sampler, stream
from tzd.sampling.draw import cooled, propose

V, L = 4, 16
LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1]))


def test_a_block_begins_at_the_first_temperature_and_comes_down_to_the_last_one():
    filled = np.array([0.0, 0.25, 1.0])
    np.testing.assert_allclose(cooled(1.2, 0.2, filled), [1.2, 0.7, 0.2])
    np.testing.assert_allclose(cooled(0.5, 1.5, filled), [0.5, 1.0, 1.5])  # it may also rise
    np.testing.assert_array_equal(cooled(0.7, 0.7, filled), [0.7, 0.7, 0.7])


def test_each_blank_is_drawn_at_its_own_temperature():
    temperature = np.array([0.3, 1.0, 5.0])
    u = np.linspace(0, 1, 2000, endpoint=False)
    logits = np.repeat(np.tile(LOGITS, (3, 1)), len(u), axis=0)
    drawn = propose(NumpyArrays(), logits, np.tile(u, 3), temperature=np.repeat(temperature, len(u))).tokens
    for row, t in zip(drawn.reshape(3, -1), temperature, strict=True):
        law = np.exp(LOGITS / t) / np.exp(LOGITS / t).sum()
        np.testing.assert_allclose(np.bincount(row, minlength=V) / len(u), law, atol=1e-3)


def test_one_number_and_the_same_number_for_each_blank_draw_the_same_tokens():
    rng = np.random.default_rng(0)
    logits, u = rng.normal(size=(500, V)), rng.random(500)
    for t in (0.4, 1.0, 2.0):
        one = propose(NumpyArrays(), logits, u, temperature=t)
        each = propose(NumpyArrays(), logits, u, temperature=np.full(500, t))
        np.testing.assert_array_equal(one.tokens, each.tokens)
        np.testing.assert_array_equal(one.probability, each.probability)


@pytest.mark.parametrize("engine", ["torch", "mlx"])
def test_every_engine_draws_the_same_tokens_at_the_same_temperatures(engine: str):
    pytest.importorskip(engine if engine == "torch" else "mlx.core")
    arrays = pytest.importorskip(f"tzd.engines.{engine}.arrays")
    xp = arrays.MlxArrays() if engine == "mlx" else arrays.TorchArrays("cpu")
    rng = np.random.default_rng(0)
    logits, u = rng.normal(size=(500, V)).astype(np.float32), rng.random(500)
    temperature = cooled(1.3, 0.2, rng.random(500))
    mine = propose(xp, xp.asarray(logits), u, temperature=temperature)
    theirs = propose(NumpyArrays(), logits, u, temperature=temperature)
    np.testing.assert_array_equal(mine.tokens, theirs.tokens)


def test_the_law_of_the_first_token_is_that_of_the_first_temperature_and_later_ones_are_sharper():
    denoiser = FunctionDenoiser(lambda x: np.broadcast_to(LOGITS, (*x.shape, V)), V, L)
    rules = sampler("llada-random", steps=4, temperature=1.0, last_temperature=0.25)
    frames = list(stream(denoiser, np.full((4000, L), denoiser.mask_id), sampler=rules, seed=1))
    for frame, filled in zip(frames[1:], (0.0, 0.25, 0.5, 0.75), strict=True):
        t = 1 - 0.75 * filled**0.5
        law = np.exp(LOGITS / t) / np.exp(LOGITS / t).sum()
        found = np.bincount(frame.tokens[frame.revealed], minlength=V) / frame.revealed.sum()
        np.testing.assert_allclose(found, law, atol=0.015)


def test_every_block_is_begun_anew_at_the_first_temperature():
    denoiser = FunctionDenoiser(lambda x: np.broadcast_to(LOGITS, (*x.shape, V)), V, L)
    blank = np.full((4000, L), denoiser.mask_id)
    cold = sampler("llada-random", steps=2, block_len=8, temperature=1.0, last_temperature=1e-6)
    last = deque(stream(denoiser, blank, sampler=cold, seed=1), maxlen=1)[0]
    law = np.exp(LOGITS) / np.exp(LOGITS).sum()
    for half in (
        last.tokens[:, :8],
        last.tokens[:, 8:],
    ):  # one pass each, so that all is drawn at the first temperature
        found = np.bincount(half.ravel(), minlength=V) / half.size
        np.testing.assert_allclose(found, law, atol=0.015)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last_temperature": 0.0}, "last_temperature must lie in"),
        ({"last_temperature": -1.0}, "last_temperature must lie in"),
        ({"last_temperature": float("nan")}, "last_temperature must lie in"),
        ({"temperature": 0.0, "last_temperature": 0.5}, "temperature above 0"),
    ],
)
def test_an_impossible_course_is_refused(settings: dict[str, float], message: str):
    with pytest.raises(ConfigError, match=message):
        sampler("dilated", **settings)


def test_a_sampler_that_is_told_nothing_keeps_its_temperature():
    assert Sampler().last_temperature is None
    assert sampler("dilated").last_temperature is None
