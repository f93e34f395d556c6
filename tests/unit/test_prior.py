"""Sharpening what the text says and not the tokens' own frequencies; stripes, left to right in several places."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from tzd.arrays import NumpyArrays
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError
from tzd.sampling import Sampler, sampler, stream
from tzd.sampling.draw import propose

V, L = 4, 16
PRIOR = np.array([0.5, 0.25, 0.15, 0.1])
U = np.linspace(0, 1, 4000, endpoint=False)


def _frequencies(tokens: np.ndarray) -> np.ndarray:
    return np.bincount(tokens.ravel(), minlength=V) / tokens.size


def _drawn(law: np.ndarray, **settings: object) -> np.ndarray:
    logits = np.tile(np.log(law), (len(U), 1))
    return _frequencies(propose(NumpyArrays(), logits, U, **settings).tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.2, 0.5, 2.0])
def test_where_the_text_adds_nothing_tokens_come_as_often_as_at_temperature_1(temperature: float):
    np.testing.assert_allclose(_drawn(PRIOR, temperature=temperature, prior=np.log(PRIOR)), PRIOR, atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_temperature_sharpens_what_the_prior_leaves_it(share: float):
    said = np.array([0.1, 0.2, 0.3, 0.4])
    law = said ** (1 / 0.5) * PRIOR ** (-share * (1 / 0.5 - 1))
    drawn = _drawn(said, temperature=0.5, prior=share * np.log(PRIOR))
    np.testing.assert_allclose(drawn, law / law.sum(), atol=1e-3)


def test_at_temperature_1_the_prior_changes_nothing():
    said = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(_drawn(said, prior=np.log(PRIOR)), _drawn(said))


def test_at_temperature_0_the_token_that_gains_most_by_the_text_is_taken():
    said = np.array([0.5, 0.25, 0.05, 0.2])  # twice its frequency is the last one
    assert _drawn(said, temperature=0.0, prior=np.log(PRIOR))[3] == 1
    assert _drawn(said, temperature=0.0)[0] == 1


@pytest.mark.parametrize("engine", ["torch", "mlx"])
def test_every_engine_draws_the_same_tokens(engine: str):
    pytest.importorskip(engine if engine == "torch" else "mlx.core")
    arrays = pytest.importorskip(f"tzd.engines.{engine}.arrays")
    xp = arrays.MlxArrays() if engine == "mlx" else arrays.TorchArrays("cpu")
    rng = np.random.default_rng(0)
    logits, u = rng.normal(size=(500, V)).astype(np.float32), rng.random(500)
    for temperature in (0.0, 0.4, rng.random(500) + 0.1):
        settings = {"temperature": temperature, "prior": 0.7 * np.log(PRIOR)}
        mine = propose(xp, xp.asarray(logits), u, **settings)
        theirs = propose(NumpyArrays(), logits, u, **settings)
        np.testing.assert_array_equal(mine.tokens, theirs.tokens)


def _denoiser(seen: list[np.ndarray] | None = None) -> FunctionDenoiser:
    """Token i behind token i − 1 mostly; where it sees nothing, the prior. What it is asked is kept in `seen`."""

    def logits(x: np.ndarray) -> np.ndarray:
        if seen is not None:
            seen.append(x.copy())
        before = np.concatenate([np.full((len(x), 1), V), x[:, :-1]], axis=1)
        likely = np.log(0.9 * np.eye(V)[(np.minimum(before, V - 1) + 1) % V] + 0.1 * PRIOR)
        return np.where((before == V)[..., None], np.log(PRIOR), likely)

    return FunctionDenoiser(logits, V, L)


def test_the_prior_is_what_the_denoiser_writes_into_nothing_and_costs_one_call():
    seen: list[np.ndarray] = []
    blank = np.full((2000, L), V)
    rules = sampler("dilated", steps=1, temperature=0.3, prior=1.0)
    frames = list(stream(_denoiser(seen), blank, sampler=rules, seed=1))
    assert [frame.nfe for frame in frames] == [0, 2] and [len(x) for x in seen] == [1, 2000]
    assert (seen[0] == V).all()
    np.testing.assert_allclose(_frequencies(frames[-1].tokens), PRIOR, atol=0.015)
    sharp = deque(stream(_denoiser(), blank, sampler=sampler("dilated", steps=1, temperature=0.3), seed=1), maxlen=1)
    assert _frequencies(sharp[0].tokens)[0] > 0.85


def test_what_is_banned_is_not_written_with_a_prior_either():
    banned = np.array([False, True, False, False])
    rules = sampler("dilated", steps=4, temperature=0.3, prior=1.0)
    (last,) = deque(stream(_denoiser(), np.full((50, L), V), sampler=rules, banned=banned), maxlen=1)
    assert not (last.tokens == 1).any() and not last.masked.any()


def test_mask_is_written_no_more_for_other_tokens_that_are_banned():
    sure = FunctionDenoiser(lambda x: np.broadcast_to([0.0, 0.0, 50.0], (*x.shape, 3)), 3, L, mask_id=2)
    banned = np.array([True, False, False])
    (last,) = deque(stream(sure, np.full((4, L), 2), sampler=sampler("dilated", steps=4), banned=banned), maxlen=1)
    assert (last.tokens == 1).all()


@pytest.mark.parametrize("prior", [-0.1, 1.1, float("nan")])
def test_a_prior_is_a_share(prior: float):
    with pytest.raises(ConfigError, match="prior must"):
        sampler("dilated", prior=prior)


def test_a_denoiser_that_always_sees_a_text_has_no_prior():
    denoiser = replace(_denoiser(), block_len=4)
    with pytest.raises(ConfigError, match="prior is for denoisers that attend both ways"):
        next(stream(denoiser, np.full((1, L), V), sampler=sampler("ancestral", prior=0.5)))


@pytest.mark.parametrize(
    ("blanks", "steps", "written"),
    [
        (8, 4, [[0, 4], [1, 5], [2, 6], [3, 7]]),
        (10, 4, [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]),
        (5, 5, [[0], [1], [2], [3], [4]]),
        (3, 8, [[0], [1], [2]]),
    ],
)
def test_stripes_are_written_from_left_to_right_all_at_once(blanks: int, steps: int, written: list[list[int]]):
    canvas = np.zeros((2, L), int)
    canvas[:, 2 : 2 + blanks] = V
    rules = Sampler(order="stripes", count="quota", steps=steps)
    frames = list(stream(_denoiser(), canvas, sampler=rules))
    for row in range(2):
        assert [(np.flatnonzero(frame.revealed[row]) - 2).tolist() for frame in frames[1:]] == written
