import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import enumerated_nelbo, tabular_denoiser
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.diffusion.likelihood import exact_nelbo, log_likelihood, masked_counts, nelbo
from tzd.errors import UserError

V, L = 3, 4
TOKENS = np.array([1, 0, 2, 2])


def uniform(vocab_size: int, seq_len: int) -> FunctionDenoiser:
    return FunctionDenoiser(lambda x: np.zeros((*x.shape, vocab_size)), vocab_size, seq_len)


def test_enumeration_agrees_with_the_definition() -> None:
    denoiser = tabular_denoiser(V, L, seed=1)
    assert exact_nelbo(denoiser, TOKENS) == pytest.approx(enumerated_nelbo(denoiser, TOKENS), rel=1e-12)


def test_the_estimate_is_the_enumerated_bound_within_its_error() -> None:
    denoiser = tabular_denoiser(V, L, seed=1)
    exact = exact_nelbo(denoiser, TOKENS) / L
    result = nelbo(denoiser, [np.repeat(TOKENS[None], 2000, axis=0)], draws=4)
    assert abs(result.nats_per_token - exact) < 4 * result.stderr
    assert result.stderr < 0.02
    assert (result.tokens, result.sequences, result.draws) == (8000, 2000, 4)


def test_the_standard_error_is_that_of_repeated_estimates_of_random_texts() -> None:
    denoiser, estimates, errors = tabular_denoiser(V, L, seed=1), [], []
    for seed in range(200):
        text = np.random.default_rng(seed).integers(0, V, (64, L))
        result = nelbo(denoiser, [text], draws=2, seed=seed)
        estimates.append(result.nats_per_token)
        errors.append(result.stderr)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.15)


def test_a_uniform_denoiser_has_exactly_log_v_per_token_and_no_error() -> None:
    result = nelbo(uniform(7, 12), [np.zeros((5, 12), int), np.zeros((1, 3), int)], draws=3, characters=63)
    assert result.nats_per_token == pytest.approx(math.log(7), rel=1e-12)
    assert result.stderr == pytest.approx(0.0, abs=1e-9)
    assert result.bits_per_char == pytest.approx(math.log2(7), rel=1e-12)
    assert result.tokens == 63


def test_a_certain_denoiser_has_nelbo_zero() -> None:
    certain = FunctionDenoiser(lambda x: np.broadcast_to(np.array([50.0, 0, 0]), (*x.shape, 3)), 3, 8)
    assert nelbo(certain, [np.zeros((4, 8), int)]).nats_per_token == pytest.approx(0.0, abs=1e-12)


def test_a_banned_column_gets_no_probability() -> None:
    logits = np.array([0.0, 0.0, 30.0])
    denoiser = FunctionDenoiser(
        lambda x: np.broadcast_to(logits, (*x.shape, 3)), 3, 8, mask_id=2, banned=np.array([False, False, True])
    )
    assert nelbo(denoiser, [np.zeros((4, 8), int)]).nats_per_token == pytest.approx(math.log(2), rel=1e-12)


def test_the_same_seed_draws_the_same_masks_whatever_the_batch_and_the_share() -> None:
    denoiser = tabular_denoiser(V, L, seed=2)
    text = np.random.default_rng(0).integers(0, V, (10, L))
    whole = nelbo(denoiser, [text], batch_size=64)
    assert nelbo(denoiser, [text], batch_size=3) == whole
    parts: list[np.ndarray] = []

    def collect(nats: np.ndarray) -> np.ndarray:
        parts.append(nats)
        return np.sum(parts, axis=0)

    nelbo(denoiser, [text], share=(0, 2), reduce=collect)
    assert nelbo(denoiser, [text], share=(1, 2), reduce=collect) == whole


def test_a_prefix_that_training_never_masked_is_given() -> None:
    seen: list[np.ndarray] = []

    def logits(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return np.zeros((*x.shape, 3))

    denoiser = FunctionDenoiser(logits, 3, 8, context_len=5)
    result = nelbo(denoiser, [np.zeros((4, 8), int)])
    assert result.tokens == 12
    assert not (np.concatenate(seen)[:, :5] == denoiser.mask_id).any()


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
def test_counts_are_stratified_over_sequences_and_draws(sequences: int, draws: int, length: int, seed: int) -> None:
    counts = masked_counts(sequences, draws, np.full(sequences, length), seed)
    assert counts.min() >= 1
    assert counts.max() <= length
    # one uniform number in each of N·D equal cells: every count occurs its fair share of times, to within the
    # two cells at its ends
    fair = sequences * draws / length
    occurrences = np.bincount(counts.ravel(), minlength=length + 1)[1:]
    assert (np.abs(occurrences - fair) < 2).all()


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(UserError, match="nothing to score"):
        nelbo(uniform(3, 8), [np.zeros((0, 8), int)])
    with pytest.raises(UserError, match="draws must be at least 1, not 0"):
        nelbo(uniform(3, 8), [np.zeros((1, 8), int)], draws=0)


def test_log_likelihood_is_the_bound_of_the_answer_given_the_prompt() -> None:
    denoiser = tabular_denoiser(V, L, seed=3)
    # every mask of the two answer tokens: {1}, {2}, {1,2}
    prompt, answer = TOKENS[:2], TOKENS[2:]

    def log_p(mask: list[bool]) -> float:
        x_t = np.where(np.array([False, False, *mask]), V, TOKENS)
        logits = denoiser.function(x_t[None])[0]
        log_q = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(L), TOKENS]
        return float(log_q[2:][np.array(mask)].sum())

    exact = (log_p([True, False]) + log_p([False, True])) / 2 + log_p([True, True]) / 2
    estimate = np.mean([log_likelihood(denoiser, prompt, answer, draws=64, seed=s) for s in range(50)])
    assert estimate == pytest.approx(exact, rel=0.01)


def test_a_single_token_answer_is_exact_with_one_draw() -> None:
    denoiser = tabular_denoiser(V, L, seed=3)
    logits = denoiser.function(np.array([[1, 0, 2, V]]))[0, 3]
    exact = logits[2] - np.log(np.exp(logits).sum())
    assert log_likelihood(denoiser, TOKENS[:3], TOKENS[3:], draws=1) == pytest.approx(exact, rel=1e-12)


def test_an_answer_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(UserError, match="prompt and answer have 5 tokens; the model takes 4"):
        log_likelihood(uniform(V, 4), np.zeros(3, int), np.zeros(2, int))
    with pytest.raises(UserError, match="the answer is empty"):
        log_likelihood(uniform(V, 4), np.zeros(3, int), np.zeros(0, int))
    with pytest.raises(UserError, match="17 tokens are too many to enumerate"):
        exact_nelbo(uniform(V, 32), np.zeros(17, int))
