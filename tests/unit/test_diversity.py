import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.errors import UserError
from tzd.evaluation.diversity import copied, diversity, unigram_entropy
from tzd.evaluation.estimate import jackknife, mean
from tzd.evaluation.ngrams import ngrams

TEXTS = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).integers(0, 3, (5, 14)))


def grams(row, n):
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


@given(TEXTS)
def test_the_numbers_are_those_of_a_plain_count(tokens):
    found, training = diversity(tokens, tokens[0]), [grams(row, 8) for row in tokens.tolist()]
    entropies = []
    for row in tokens.tolist():
        shares = [n / len(row) for n in Counter(row).values()]
        entropies.append(-sum(p * math.log(p) for p in shares))
    assert found.unigram_entropy.value == pytest.approx(np.mean(entropies))
    assert unigram_entropy(tokens) == pytest.approx(entropies)
    within = [1 - len(set(g)) / len(g) for g in training]
    assert found.repeated_within == pytest.approx((np.mean(within), np.std(within, ddof=1) / math.sqrt(5)))
    across = [
        np.mean([any(gram in other for j, other in enumerate(training) if j != i) for gram in set(mine)])
        for i, mine in enumerate(training)
    ]
    assert found.repeated_across.value == pytest.approx(np.mean(across))
    for n, estimate in found.distinct.items():
        everything = [gram for row in tokens.tolist() for gram in grams(row, n)]
        assert estimate.value == pytest.approx(len(set(everything)) / len(everything))


def test_what_stands_in_the_training_text_is_copied():
    rng = np.random.default_rng(0)
    training, fresh = rng.integers(0, 50, 4000), rng.integers(0, 50, (1, 60))
    stolen = training[100:160][None]
    half = np.concatenate([training[500:530], fresh[0, :30]])[None]
    shares = copied(np.concatenate([stolen, fresh, half]), training)
    assert shares == pytest.approx([1.0, 0.0, 11 / 41])  # 11 of its 41 20-grams lie within the copied half
    assert diversity(np.concatenate([stolen, fresh]), None).copied is None


def test_n_grams_are_told_apart_by_their_order_and_by_every_token():
    tokens = np.array([[1, 2, 3, 1, 2, 4, 3, 2, 1]])
    three = ngrams(tokens, 3)[0]
    assert len(np.unique(three)) == 7 and ngrams(tokens, 2)[0, 0] == ngrams(tokens, 2)[0, 3]
    assert ngrams(tokens, 10).shape == (1, 0)
    every = np.stack(np.meshgrid(*[np.arange(40)] * 3), axis=-1).reshape(-1, 3)
    assert len(np.unique(ngrams(every, 3))) == 40**3


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(size=640)
    assert jackknife(lambda i: float(values[i].mean()), 640) == pytest.approx(mean(values), rel=0.25)
    few = values[:20]  # a sample a group: the jackknife is the textbook's
    assert jackknife(lambda i: float(few[i].mean()), 20) == pytest.approx(mean(few))
    assert math.isnan(jackknife(lambda i: 1.0, 1).stderr) and math.isnan(mean(values[:1]).stderr)


def test_samples_that_are_too_short_are_refused():
    with pytest.raises(UserError, match=("diversity takes samples of 8 tokens at least, not an array " r"of \(3, 7\)")):
        diversity(np.zeros((3, 7), int))
