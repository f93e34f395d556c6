"""No sampler makes more passes than docs/sampling.md says, whatever the denoiser answers."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics.adversaries import ADVERSARIES, adversary
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError, TzdError
from tzd.sampling import Sampler, descriptions, sampler, stream

EXTREME = {
    "a threshold that nothing reaches": Sampler(
        order="confidence", count="threshold", confidence_threshold=1.0, remask=None
    ),
    "llada with a threshold that nothing reaches": sampler("llada", confidence_threshold=1.0),
    "klass that never finds anything stable": sampler("klass", confidence_threshold=1.0, kl_threshold=1e-300),
    "klass that waits for longer than there are steps": sampler("klass", kl_steps=1_000_000),
    "the smallest factor": sampler("factor", factor=5e-324),
    "the largest factor": sampler("factor", factor=1e308),
    "no dependence at all": sampler("entropy-bound", gamma=0.0),
    "any dependence": sampler("entropy-bound", gamma=1e308),
    "an order that is all noise": Sampler(order="entropy", count="quota", order_temperature=1e6),
    "p2 that takes nothing back": sampler("p2", eta=0.0),
    "p2 that takes all back": sampler("p2", eta=1e6),
    "remasking at a huge rate": sampler("remdm-rescale", eta=1e6),
    "a loop over all times": sampler("remdm-loop", t_on=1.0, t_off=0.0, alpha_on=1e-12),
    "a loop over no time": sampler("remdm-loop", t_on=0.0, t_off=0.0, alpha_on=1 - 1e-12),
    "a schedule that ends at once": sampler("ancestral", schedule="poly", schedule_power=1e300),
    "a schedule that never ends": sampler("maskgit", schedule="poly", schedule_power=1e-300),
    "a grid of no length": Sampler(count="floor", last_time=1 - 1e-16),
    "the narrowest nucleus": sampler("ancestral", top_p=5e-324),
    "more tokens than there are": sampler("ancestral", top_k_tokens=1_000_000),
    "more blanks than there are": sampler("uniform-order", k=1_000_000),
}
RULES = {**{name: sampler(name) for name in descriptions()}, **EXTREME}


def most_passes(rules: Sampler, blanks: int, steps: int, width: int) -> int:
    """The table of docs/sampling.md: passes for a block of `blanks` in a window of `width`, with `steps` for it."""
    if rules.remask is not None:
        return steps
    if rules.count == "fixed":
        return math.ceil(blanks / (rules.k or max(1, width // 10)))
    return min(blanks, steps) if rules.count in ("quota", "floor", "scheduled", "binomial", "klass") else blanks


@settings(max_examples=200)
@given(
    name=st.sampled_from(sorted(RULES)),
    kind=st.sampled_from(sorted(ADVERSARIES)),
    vocab_size=st.sampled_from([1, 2, 5, 300]),
    given_tokens=st.lists(st.booleans(), min_size=1, max_size=14),
    steps=st.integers(1, 20),
    block_len=st.one_of(st.none(), st.integers(1, 14)),
    temperature=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    cfg_scale=st.sampled_from([0.0, 1.5, 1e6]),
    seed=st.integers(0, 2**32),
)
def test_every_sampler_fills_every_canvas_within_its_bound(
    name: str,
    kind: str,
    vocab_size: int,
    given_tokens: list[bool],
    steps: int,
    block_len: int | None,
    temperature: float,
    cfg_scale: float,
    seed: int,
) -> None:
    frozen, width = np.array(given_tokens), len(given_tokens)
    canvas = np.where(frozen, 0, vocab_size)[None]
    blank = np.flatnonzero(~frozen)
    places = (blank - blank[:1]) // (block_len or width)  # which block each blank is in
    _, blanks = np.unique(places, return_counts=True)
    steps = max(steps, len(blanks))
    rules = dataclasses.replace(
        RULES[name], steps=steps, block_len=block_len, temperature=temperature, cfg_scale=cfg_scale
    )
    dealt = [steps // len(blanks) + (i < steps % len(blanks)) for i in range(len(blanks))]
    bound = sum(most_passes(rules, int(n), s, width) for n, s in zip(blanks, dealt, strict=True))
    calls_per_pass = 2 if cfg_scale and frozen.any() else 1

    frames = stream(adversary(kind, vocab_size, width), canvas, sampler=rules, seed=seed)
    *_, last = shown = list(itertools.islice(frames, bound + 2))

    assert len(shown) <= bound + 1
    assert last.nfe <= bound * calls_per_pass
    assert not last.masked.any()
    assert ((last.tokens >= 0) & (last.tokens < vocab_size)).all()
    assert (last.tokens[0, frozen] == 0).all()
    assert ((last.confidence >= 0) & (last.confidence <= 1 + 1e-6)).all()
    if rules.remask is None and (rules.count in ("quota", "one", "fixed")):
        assert last.nfe == bound * calls_per_pass  # where the table says how many exactly


@pytest.mark.parametrize("kind", ADVERSARIES)
@pytest.mark.parametrize("order", ["dilated", "stripes", "confidence"])
@pytest.mark.parametrize(
    ("temperature", "last_temperature"), [(0.0, None), (1e-6, None), (1e6, None), (1e-6, 1e6), (1e6, 1e-6)]
)
def test_a_prior_costs_one_pass_and_what_is_ruled_out_stays_so(
    kind: str, order: str, temperature: float, last_temperature: float | None
) -> None:
    rules = sampler(
        "dilated", order=order, steps=5, prior=1.0, temperature=temperature, last_temperature=last_temperature
    )
    *_, last = stream(adversary(kind, 4, 8), np.full((2, 8), 4), sampler=rules, seed=1)
    assert last.nfe == 5 + 1 and not last.masked.any()
    only = {"-inf in all but one": 3}.get(kind)
    assert (last.tokens == only).all() if only is not None else ((last.tokens >= 0) & (last.tokens < 4)).all()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ADVERSARIES)
def test_no_row_of_a_batch_keeps_the_others_from_ending(name: str, kind: str) -> None:
    canvas = np.full((3, 18), 4)
    canvas[1, 2:] = 0
    canvas[2] = 0
    rules = dataclasses.replace(RULES[name], steps=6)  # in windows of eight, of which two overlap
    *_, last = itertools.islice(stream(adversary(kind, 4, 8), canvas, sampler=rules, seed=1), 19 * 6)
    assert not last.masked.any()
    assert last.nfe <= max(6 * 3, 18 + 2)  # the steps of three windows, or a pass for each blank of a row


@pytest.mark.parametrize("name", ["top-k", "threshold"])
def test_a_decoder_that_predicts_the_mask_ends_too(name: str) -> None:
    denoiser = FunctionDenoiser(lambda x: np.broadcast_to(np.arange(3.0), (*x.shape, 3)), 3, 9, mask_id=2)
    frames = list(stream(denoiser, np.full((2, 9), 2), sampler=sampler(name, legacy=True)))
    assert frames[-1].masked.all()
    assert frames[-1].nfe == 9


@pytest.mark.parametrize("rules", [*RULES.values(), sampler("dilated", prior=1.0)], ids=[*RULES, "a prior"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_one_line_whatever_the_sampler(rules: Sampler, bad: float) -> None:
    def logits(tokens: np.ndarray) -> np.ndarray:
        answer = np.zeros((*tokens.shape, 4), np.float32)
        answer[..., 2] = bad
        return answer

    with pytest.raises(TzdError, match=r"^the denoiser's logits are not finite: [^\n]*$"):
        list(stream(FunctionDenoiser(logits, 4, 6), np.full((2, 6), 4), sampler=rules))


@pytest.mark.parametrize("name", ["steps", "k", "block_len", "top_k_tokens", "kl_steps", "cache_refresh"])
def test_a_count_that_no_machine_gets_to_the_end_of_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be at most 1000000, not {10**30}$"):
        dataclasses.replace(sampler("ancestral"), **{name: 10**30})


@pytest.mark.parametrize("name", ["cfg_scale", "order_temperature", "eta", "stride", "overlap"])
def test_a_scale_that_would_overflow_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be at most 1000000, not 1000001$"):
        dataclasses.replace(sampler("ancestral"), **{name: 1_000_001})


def test_guidance_that_overflows_is_one_line() -> None:
    largest = np.finfo(np.float32).max

    def logits(tokens: np.ndarray) -> np.ndarray:  # the opposite where nothing is given
        sign = np.where(tokens[:, :1, None] == 3, np.float32(-1), np.float32(1))
        return sign * np.array([largest, -largest, 0], np.float32) * np.ones((*tokens.shape, 1), np.float32)

    canvas = np.array([[0, 3, 3, 3, 3, 3]])
    with pytest.raises(TzdError, match=r"^the denoiser's logits are not finite: [^\n]*$"):
        list(stream(FunctionDenoiser(logits, 3, 6), canvas, sampler=sampler("ancestral", cfg_scale=1e6, steps=2)))
