"""The smallest and the largest of everything: vocabularies, lengths, temperatures, rows, on both engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from networks import on
from runs import train, weights
from tzd.arrays import NumpyArrays
from tzd.config import ObjectiveSettings, TinyConfig
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.diffusion.objective import Objective
from tzd.diffusion.schedule import schedule, weight_by_count
from tzd.engines import ENGINES, engine_module
from tzd.errors import ConfigError
from tzd.sampling import descriptions, sampler, stream
from tzd.sampling.draw import propose
from tzd.sampling.scores import ORDERS, TOKEN_ORDERS, score
from tzd.training.records import read_metrics


def network(vocab_size: int, block_size: int) -> TinyConfig:
    return TinyConfig(vocab_size=vocab_size, block_size=block_size, n_layer=1, n_head=1, n_embd=8)


NETWORK = network(11, 12)


def arrays_of_every_engine() -> dict[str, object]:
    found: dict[str, object] = {"numpy": NumpyArrays()}
    for name in ENGINES:
        try:
            engine_module(name, "denoiser")
        except ImportError:
            continue
        found[name] = on(name, NETWORK).xp
    return found


ARRAYS = arrays_of_every_engine()


@settings(max_examples=150)
@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 6)),
        elements=st.one_of(
            st.sampled_from([-np.inf, 0.0, 1e-45, -1e-38, 1e30, -1e30, 3.4e38, -3.4e38]), st.floats(-1e4, 1e4, width=32)
        ),
    ),
    temperature=st.one_of(st.just(0.0), st.floats(1e-6, 1e6)),
    top_p=st.sampled_from([5e-324, 1e-40, 1e-6, 0.5, 1.0]),
    top_k_tokens=st.sampled_from([None, 1, 2, 1_000_000]),
    u=st.sampled_from([0.0, 5e-324, 0.5, float(np.nextafter(1.0, 0.0))]),
)
def test_whatever_is_finite_gives_a_token_that_may_be_written_and_scores_that_can_be_ranked(
    logits: np.ndarray, temperature: float, top_p: float, top_k_tokens: int | None, u: float
) -> None:
    logits[:, -1] = np.where(np.isneginf(logits).all(axis=1), 0, logits[:, -1])  # a model rules out all but one at most
    for xp in ARRAYS.values():
        candidates = propose(
            xp,
            xp.asarray(logits),
            np.full(len(logits), u),
            temperature=temperature,
            top_p=top_p,
            top_k_tokens=top_k_tokens,
        )
        chosen = logits[np.arange(len(logits)), candidates.tokens]
        assert not np.isneginf(chosen).any()
        assert ((candidates.probability >= 0) & (candidates.probability <= 1 + 1e-6)).all()
        for order in (*ORDERS, *TOKEN_ORDERS):
            assert np.isfinite(score(order, xp, candidates)).all(), order


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", descriptions())
def test_a_network_of_two_tokens_and_one_place_is_sampled(name: str, temperature: float, engine: str) -> None:
    denoiser = on(engine, network(2, 1))
    *_, last = stream(denoiser, np.array([[2], [0]]), sampler=replace(sampler(name), temperature=temperature, steps=1))
    assert last.tokens[0, 0] in (0, 1) and last.tokens[1, 0] == 0
    assert last.nfe == 1


@pytest.mark.parametrize("name", descriptions())
def test_two_hundred_thousand_tokens_are_sampled(name: str) -> None:
    size, state = 200_000, np.random.default_rng(3).standard_normal((5, 200_000)).astype(np.float32) * 4
    denoiser = FunctionDenoiser(lambda x: state[(x[:, :1] + np.arange(x.shape[1])) % 5], size, 3)
    rules = replace(sampler(name), steps=2, temperature=1.0)
    *_, last = stream(denoiser, np.full((1, 3), size), sampler=rules)
    assert not last.masked.any() and (last.tokens < size).all() and (last.confidence > 0).all()


@pytest.mark.parametrize(
    "config",
    [network(200_000, 4), network(2, 8192)],
    ids=["200,000 tokens", "8,192 places"],
)
def test_a_large_network_is_sampled_at_every_place(config: TinyConfig, engine: str) -> None:
    canvas = np.full((1, config.block_size), config.mask_id)
    *_, last = stream(on(engine, config), canvas, sampler=sampler("dilated", steps=1, temperature=1e6))
    assert not last.masked.any() and (last.tokens < config.vocab_size).all() and np.isfinite(last.confidence).all()
    if config.vocab_size == 2:  # so hot that both tokens are as likely
        assert abs(last.tokens.mean() - 0.5) < 4 * 0.5 / np.sqrt(last.tokens.size)


def test_every_prompt_of_a_canvas_that_is_full_already_costs_nothing(engine: str) -> None:
    for name in descriptions():
        frames = list(stream(on(engine, NETWORK), np.zeros((2, 12), int), sampler=sampler(name)))
        assert [frame.nfe for frame in frames] == [0]


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nelbo", "nelbo_t", "exact_k", "pooled"])
@pytest.mark.parametrize("curve", ["linear", "cosine", "sine", "poly"])
@pytest.mark.parametrize("length", [1, 2, 1024])
def test_rows_with_nothing_to_mask_weigh_nothing_and_others_weigh_numbers(name: str, curve: str, length: int) -> None:
    maskable = np.ones((4, length), bool)
    maskable[1] = False  # a row that is all given
    x_0 = np.zeros((4, length), np.int64)
    for seed in range(3):
        noised = Objective(ObjectiveSettings(name=name, schedule=curve, schedule_power=0.05)).noise(
            x_0, maskable, mask_id=2, seed=seed, step=0
        )
        assert np.isfinite(noised.weight).all() and (noised.weight >= 0).all()
        assert not noised.weight[1].any() and not (noised.x_t[1] == 2).any()
        assert ((noised.weight > 0) == (noised.x_t == 2)).all()


@pytest.mark.parametrize("power", [0.05, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("length", [1, 64, 8192])
def test_the_numbers_of_masked_tokens_have_probabilities_that_sum_to_one(power: float, length: int) -> None:
    n = np.arange(1, length + 1)
    positive = 1 / (n * weight_by_count(schedule("poly", power), length)[1:])  # of n masked: C(L, n) ∫ p^n (1-p)^(L-n)
    u = (np.arange(200_000) + 0.5) / 200_000  # none masked: ∫ (1-p)^L dt, by p where t^k is steep
    none = np.mean((1 - u**power) ** length) if power > 1 else np.mean((1 - u) ** length * u ** (1 / power - 1)) / power
    assert positive.sum() + none == pytest.approx(1, abs=1e-4)


def test_a_power_whose_weights_no_float_holds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^objective.schedule_power must lie in 0.05..100, not 1e-06$"):
        ObjectiveSettings(schedule="poly", schedule_power=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_windows_of_one_character_are_learnt(precision: str, engine: str, tmp_path: Path) -> None:
    smallest = {"model.block_size": 1, "data.block_size": 1, "training.max_steps": 3}
    rates = {"training.muon_lr": 1e-30, "model.lr": 1e-30}  # steps that underflow in bfloat16
    run = train(tmp_path, {**smallest, **rates, "training.precision": precision}, engine=engine)
    metrics = read_metrics(run.path)
    assert np.isfinite(metrics["loss"]).sum() == 3 and np.isfinite(metrics["val_nats_per_token"][-1])
    assert all(np.isfinite(value).all() for value in weights(run).values())
