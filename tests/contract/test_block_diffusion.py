"""Block diffusion: what it sees, what it is worth, on every engine."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import tzd
from networks import CONFIG, canvas, stirred, weights_of
from runs import config_in, train
from tzd.config import ObjectiveSettings, run_config
from tzd.diffusion.blocks import doubled_layout, mask_blocks
from tzd.diffusion.denoiser import Denoiser
from tzd.diffusion.likelihood import log_likelihood, nelbo
from tzd.diffusion.objective import Objective
from tzd.engines import engine_module
from tzd.errors import ConfigError
from tzd.training.records import read_rows

LENGTH = 12


def blocked(engine: str, block_len: int) -> Denoiser:
    loaded = engine_module(engine, "denoiser").load_denoiser
    return loaded(CONFIG, weights_of(stirred()), context_len=0, block_len=block_len, where=Path("here"))


def log_p(denoiser: Denoiser, tokens: np.ndarray, **inputs: np.ndarray) -> np.ndarray:
    logits = denoiser.xp.to_numpy(denoiser.forward(tokens, **inputs)[0]).astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@pytest.mark.parametrize("block_len", [1, 4, 5])
def test_a_block_sees_itself_and_what_lies_before_and_nothing_after(engine: str, block_len: int) -> None:
    denoiser, tokens = blocked(engine, block_len), canvas(2)
    before = log_p(denoiser, tokens)
    changed = tokens.copy()
    changed[:, 7] = (changed[:, 7] + 1) % CONFIG.vocab_size
    moved = np.abs(log_p(denoiser, changed) - before).max(axis=(0, 2)) > 1e-7
    first = 7 // block_len * block_len
    assert moved.tolist() == [False] * first + [True] * (LENGTH - first)


@pytest.mark.parametrize("block_len", [1, 3, 5])
def test_one_pass_over_both_halves_is_a_pass_for_each_block(engine: str, block_len: int) -> None:
    """[x_t ; x_0] gives a block of x_t the logits that it has behind clean blocks."""
    denoiser = blocked(engine, block_len)
    x_0 = np.random.default_rng(3).integers(0, CONFIG.vocab_size, (2, LENGTH))
    x_t = np.where(np.random.default_rng(4).random(x_0.shape) < 0.6, CONFIG.mask_id, x_0)
    layout = doubled_layout(LENGTH, block_len)
    together = log_p(denoiser, np.concatenate([x_t, x_0], axis=1), **{k: np.repeat(v, 2, 0) for k, v in layout.items()})
    for start in range(0, LENGTH, block_len):
        block = slice(start, min(start + block_len, LENGTH))
        alone = np.full_like(x_0, CONFIG.mask_id)
        alone[:, :start], alone[:, block] = x_0[:, :start], x_t[:, block]
        np.testing.assert_allclose(together[:, block], log_p(denoiser, alone)[:, block], atol=2e-5)


def chain_rule(denoiser: Denoiser, x: np.ndarray) -> float:
    """−log p of a row by an autoregressive model, token by token."""
    total = 0.0
    for i in range(len(x)):
        canvas = np.full((1, len(x)), CONFIG.mask_id)
        canvas[0, :i] = x[:i]
        total -= log_p(denoiser, canvas)[0, i, x[i]]
    return total


def test_blocks_of_one_token_are_scored_exactly_whatever_the_draws(engine: str) -> None:
    denoiser = blocked(engine, 1)
    rows = np.random.default_rng(5).integers(0, CONFIG.vocab_size, (3, LENGTH))
    exact = sum(chain_rule(denoiser, row) for row in rows) / rows.size
    for draws in (1, 3):
        assert nelbo(denoiser, [rows], draws=draws, seed=draws).nats_per_token == pytest.approx(exact, rel=1e-5)
    answer = log_likelihood(denoiser, rows[0, :5], rows[0, 5:], draws=1)
    assert answer == pytest.approx(chain_rule(denoiser, rows[0, :5]) - chain_rule(denoiser, rows[0]), rel=1e-4)


def test_the_bound_is_the_mean_over_all_masks_of_each_block() -> None:
    denoiser, block_len, length = blocked("torch", 3), 3, 5
    row = np.random.default_rng(6).integers(0, CONFIG.vocab_size, length)
    exact = 0.0
    for start in range(0, length, block_len):
        n = min(block_len, length - start)
        for mask in product((False, True), repeat=n):
            k = sum(mask)
            if not k:
                continue
            at = start + np.flatnonzero(mask)
            x = np.full((1, length), CONFIG.mask_id)
            x[0, : start + n] = row[: start + n]
            x[0, at] = CONFIG.mask_id
            exact -= log_p(denoiser, x)[0, at, row[at]].sum() * n / k / (n * math.comb(n, k))
    bound = nelbo(denoiser, [np.repeat(row[None], 4000, axis=0)], draws=2, batch_size=1000)
    assert bound.nats_per_token == pytest.approx(exact / length, abs=4 * bound.stderr)
    assert bound.stderr < 0.02


@pytest.mark.parametrize("block_len", [1, 4, 5])
def test_noise_has_the_bounds_mean_and_masks_within_blocks_alone(block_len: int) -> None:
    objective = Objective(ObjectiveSettings(name="block", block_len=block_len))
    tokens = np.random.default_rng(7).integers(0, 11, (4000, LENGTH))
    maskable = np.ones(tokens.shape, dtype=bool)
    maskable[:, :3] = False
    noised = objective.noise(tokens, maskable, mask_id=11, seed=1, step=2)
    assert np.array_equal(noised.x_0, np.tile(tokens, 2)) and np.array_equal(noised.x_t[:, LENGTH:], tokens)
    masked = noised.x_t[:, :LENGTH] == 11
    assert not masked[:, :3].any() and not noised.weight[:, LENGTH:].any()
    assert np.array_equal(noised.weight[:, :LENGTH] > 0, masked)
    # Σ weight · 1 is 1 for every batch: each block's k tokens weigh n in all
    assert noised.weight.sum() == pytest.approx(1.0, rel=1e-5)
    assert noised.weight[:, :LENGTH].sum(axis=0)[3:] == pytest.approx(1 / (LENGTH - 3), rel=0.08)
    if block_len == 1:
        assert masked[:, 3:].all()


@pytest.mark.parametrize("sampling", ["independent", "jittered", "systematic"])
def test_every_block_of_a_small_batch_sees_every_number_of_masks_as_often(sampling: str) -> None:
    objective = Objective(ObjectiveSettings(name="block", block_len=4, time_sampling=sampling))
    tokens, maskable = np.zeros((1, LENGTH), dtype=np.int64), np.ones((1, LENGTH), dtype=bool)
    counts = np.array(
        [
            (objective.noise(tokens, maskable, mask_id=11, seed=1, step=step).x_t[0, :LENGTH] == 11)
            .reshape(3, 4)
            .sum(1)
            for step in range(800)
        ]
    )
    for block in counts.T:
        assert np.bincount(block, minlength=5).tolist() == pytest.approx([0, 200, 200, 200, 200], abs=5 * np.sqrt(150))


def test_every_number_of_masks_is_as_likely_in_a_block() -> None:
    time = (np.arange(12_000) + 0.5) / 12_000
    masked, weight = mask_blocks(np.ones((4000, 12), bool), 4, time, np.random.default_rng(8).random((4000, 12)))
    counts = masked.reshape(-1, 4).sum(axis=1)
    assert np.bincount(counts).tolist() == [0, 3000, 3000, 3000, 3000]
    assert (weight.reshape(-1, 4).sum(axis=1) == 4).all()


@pytest.mark.parametrize("block_len", [1, 8])
def test_a_run_learns_and_is_loaded_as_what_it_is(engine: str, block_len: int, tmp_path: Path) -> None:
    changes = {
        "objective": {"name": "block", "block_len": block_len},
        "model.n_embd": 32,
        "model.lr": 3e-2,
        "training.muon_lr": 0.05,
        "training.max_steps": 120,
        "training.eval_interval": 120,
    }
    run = train(tmp_path, changes, engine=engine)
    model = tzd.load(run.path, engine=engine)
    assert model.denoiser.block_len == block_len
    text = config_in(tmp_path).data.path
    assert text is not None
    held_out = Path(text).read_text()[-400:]
    shares = np.unique(list(held_out), return_counts=True)[1] / len(held_out)
    assert tzd.nelbo(model, held_out).nats_per_token < 0.7 * -(shares * np.log(shares)).sum()  # letters alone


def test_both_engines_train_alike(tmp_path: Path) -> None:
    changes = {
        "objective": {"name": "block", "block_len": 6},
        "training.optimizer": "adamw",
        "training.log_every_n_steps": 1,
    }
    losses = []
    for engine in ("torch", "mlx"):
        pytest.importorskip("mlx.core") if engine == "mlx" else None
        run = train(tmp_path / engine, changes, engine=engine)
        losses.append([float(row["loss"]) for row in read_rows(run.path / "metrics.csv") if row["loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_cannot_be_trained_in_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="not conditioned on time"):
        run_config({"objective": {"name": "block"}, "model": {"time_steps": 8}})
    with pytest.raises(ConfigError, match=r"objective.block_len must be at least 1"):
        run_config({"objective": {"name": "block", "block_len": 0}})
    with pytest.raises(ConfigError, match=r"objective.schedule=cosine"):
        run_config({"objective": {"name": "block", "schedule": "cosine"}})
