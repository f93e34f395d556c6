"""Every sampler on every engine, with a real network: given tokens stay, blanks are filled, passes are counted."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import tzd
from networks import CONFIG, checkpoint, on
from networks import canvas as noisy
from promises import assert_promises_kept
from tzd.config import TinyConfig
from tzd.errors import TzdError, UserError
from tzd.sampling import Sampler, descriptions, sampler, stream
from tzd.sampling.draw import propose
from tzd.sampling.presets import settings_of

LENGTH = 20  # two windows
INSIDE = dataclasses.replace(CONFIG, mask_id=4, time_steps=6)  # as Tiny Diffusion has it: [MASK] among the tokens


def canvas(kind: str, config: TinyConfig) -> np.ndarray:
    rng = np.random.default_rng(3)
    tokens = np.full((3, LENGTH), config.mask_id)
    given = np.zeros(tokens.shape, dtype=bool)
    if kind == "prompt":
        given[:, :5] = True
    if kind == "infill":
        given = rng.random(tokens.shape) < 0.5
    others = np.setdiff1d(np.arange(config.vocab_size), config.mask_id)
    return np.where(given, rng.choice(others, tokens.shape), tokens)


def rules_of(name: str) -> Sampler:
    return sampler(name, **({"steps": 6} if "steps" in settings_of(name) else {}))


@pytest.mark.parametrize("kind", ["nothing", "prompt", "infill"])
@pytest.mark.parametrize("name", descriptions())
@pytest.mark.parametrize("config", [CONFIG, INSIDE], ids=["mask beyond", "mask inside"])
def test_every_sampler_keeps_its_promises_on_every_engine(
    engine: str, config: TinyConfig, name: str, kind: str
) -> None:
    denoiser, tokens, rules = on(engine, config), canvas(kind, config), rules_of(name)
    frames = list(stream(denoiser, tokens, sampler=rules, seed=3))
    assert_promises_kept(frames, tokens, config.mask_id, rules)
    again = list(stream(denoiser, tokens, sampler=rules, seed=3))
    np.testing.assert_array_equal(frames[-1].tokens, again[-1].tokens)


def test_bfloat16_is_asked_for_and_costs_digits_not_more(engine: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", dataclasses.replace(CONFIG, vocab_size=128))
    full, half = (tzd.load(folder, engine=engine, precision=precision) for precision in (32, "bf16"))
    logits, rounded = (model.denoiser.xp.to_numpy(model.logits(noisy())) for model in (full, half))
    assert logits.dtype == rounded.dtype == np.float32
    error = np.abs(logits - rounded).max() / np.abs(logits).max()
    assert 1e-5 < error < 3e-2
    with pytest.raises(UserError, match=r"unknown precision 'bf15' \(did you mean 'bf16'\?\)"):
        tzd.load(folder, engine=engine, precision="bf15")


@pytest.mark.parametrize("size", [11, 300])
@pytest.mark.parametrize("column", [0, -1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_is_reported_wherever_it_stands(
    engine: str, size: int, column: int, bad: float
) -> None:
    xp = on(engine).xp
    logits = np.zeros((3, size), np.float32)
    logits[:, 1] = -np.inf  # a ban
    propose(xp, xp.asarray(logits), np.full(3, 0.5))
    logits[1, column] = bad
    with pytest.raises(TzdError, match="the denoiser's logits are not finite"):
        propose(xp, xp.asarray(logits), np.full(3, 0.5))
