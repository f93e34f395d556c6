"""The source whose entropy is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tzd.corpus import MarkovSource, open_corpus
from tzd.corpus.sources.markov import ALPHABET, CHAIN
from tzd.errors import ConfigError

TWO = MarkovSource(np.array([[0.9, 0.1], [0.3, 0.7]]))


def test_stationary_law_and_entropy_are_those_worked_out_by_hand() -> None:
    def h(p: float) -> float:
        return float(-p * np.log(p) - (1 - p) * np.log(1 - p))

    np.testing.assert_allclose(TWO.stationary, [0.75, 0.25], atol=1e-12)
    rate = 0.75 * h(0.1) + 0.25 * h(0.3)
    assert TWO.entropy_rate == pytest.approx(rate, abs=1e-12)
    assert TWO.window_entropy(1) == pytest.approx(h(0.25), abs=1e-12)
    assert TWO.window_entropy(4) == pytest.approx((h(0.25) + 3 * rate) / 4, abs=1e-12)


@pytest.mark.parametrize("source", [TWO, CHAIN])
def test_window_entropy_is_the_enumerated_entropy_of_the_joint(source: MarkovSource) -> None:
    V, L = len(source.transition), 4
    log_p = source.log_prob(np.array(list(itertools.product(range(V), repeat=L))))
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)
    assert -(np.exp(log_p) * log_p).sum() / L == pytest.approx(source.window_entropy(L), abs=1e-12)


def test_a_sample_follows_the_inverse_cdf_step_by_step() -> None:
    from tzd.randomness import uniforms

    u = uniforms(7, "markov", 0, 1, 1000)[0]
    state, expected = 0, []
    law = CHAIN.stationary
    for draw in u:
        state = int(np.searchsorted(np.cumsum(law)[:-1], draw, side="right"))
        law = CHAIN.transition[state]
        expected.append(state)
    assert CHAIN.sample(1000, seed=7).tolist() == expected
    assert CHAIN.sample(1000, seed=8).tolist() != expected


def test_transitions_of_a_sample_have_the_frequencies_of_the_matrix() -> None:
    x = CHAIN.sample(200_000, seed=1)
    counts = np.zeros((5, 5))
    np.add.at(counts, (x[:-1], x[1:]), 1)
    expected = counts.sum(axis=1, keepdims=True) * CHAIN.transition
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 45.3  # chi-square, 5 * 4 degrees of freedom, p = 0.001


def test_what_cannot_occur_has_no_likelihood() -> None:
    source = MarkovSource(np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert source.log_prob(np.array([[0, 0], [0, 1]])).tolist() == [-np.inf, pytest.approx(np.log(1 / 3))]


def test_the_corpus_is_a_sample_whose_measured_entropy_is_the_stated_one() -> None:
    corpus = open_corpus("markov", download=False)
    assert corpus.entropy == CHAIN.entropy_rate
    assert {split: len(text) for split, text in corpus.splits.items()} == {
        "train": 360_000,
        "validation": 20_000,
        "test": 20_000,
    }
    assert set(corpus.text) == set(ALPHABET)
    tokens = np.array([ALPHABET.index(c) for c in corpus.text])[None]
    assert -CHAIN.log_prob(tokens)[0] / tokens.size == pytest.approx(corpus.entropy, abs=0.005)


@pytest.mark.parametrize("matrix", [[[0.5, 0.5]], [[0.5, 0.6], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]]])
def test_a_matrix_that_is_no_law_is_refused(matrix: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="transition matrix"):
        MarkovSource(np.array(matrix))
