import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.sampling import Sampler, sampler
from tzd.sampling.blocks import shares
from tzd.sampling.keep import COUNTS, best, remasked, threshold
from tzd.sampling.moment import Moment


def moment(blank, *, blanks=None, index=0, steps=1, seed=0, step=1):
    blank = np.asarray(blank, dtype=bool)
    rows = len(blank)
    left = blank.sum(axis=1)
    blanks = left if blanks is None else np.full(rows, blanks)
    return Moment(seed, step, blank, ~blank, left, blanks, np.full(rows, index), np.full(rows, steps))


def run(rule, n, steps):
    """What a rule commits, step by step, beginning with n blanks."""
    counts, left = [], n
    for index in range(steps):
        blank = np.arange(max(n, 1))[None] < left
        counts.append(int(COUNTS[rule](moment(blank, blanks=n, index=index, steps=steps, step=index), Sampler())[0]))
        left -= counts[-1]
    return counts


@given(n=st.integers(0, 200), steps=st.integers(1, 200))
def test_the_quotas_sum_to_the_blanks_and_differ_by_one_at_most(n, steps):
    counts = run("quota", n, steps)
    assert sum(counts) == n
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)


@given(n=st.integers(0, 100), steps=st.integers(1, 100), rule=st.sampled_from(["floor", "binomial"]))
def test_a_budgeted_rule_fills_everything_in_its_steps(n, steps, rule):
    counts = run(rule, n, steps)
    assert sum(counts) == n
    assert min(counts) >= 0


def test_smdm_commits_nothing_first_and_two_last_with_as_many_steps_as_blanks():
    counts = run("floor", 32, 32)
    assert (counts[0], counts[-1]) == (0, 2)
    assert set(counts[1:-1]) == {1}


def test_the_binomial_rule_has_its_mean_and_variance():
    at = moment(np.ones((20_000, 30)), index=2, steps=8)  # t = 6/8, s = 5/8
    counts = COUNTS["binomial"](at, Sampler())
    assert counts.mean() == pytest.approx(30 / 6, abs=0.1)
    assert counts.var() == pytest.approx(30 / 6 * 5 / 6, rel=0.05)


def test_renoise_reveals_and_keeps_with_the_same_probability():
    blank = np.tile(np.arange(40) % 2 == 0, (5000, 1))
    at = moment(blank, index=2, steps=8)  # alpha_s = 3/8
    assert COUNTS["binomial"](at, sampler("renoise")).mean() / 20 == pytest.approx(3 / 8, abs=0.01)
    taken = remasked(at, sampler("renoise"))
    assert taken.sum() / at.written.sum() == pytest.approx(5 / 8, abs=0.01)
    assert not (taken & blank).any()


@pytest.mark.parametrize(("k", "expected"), [(None, [2, 1, 0]), (3, [3, 1, 0]), (100, [20, 1, 0])])
def test_fixed_takes_k_or_a_tenth_of_the_window(k, expected):
    blank = np.zeros((3, 20), dtype=bool)
    blank[0] = True
    blank[1, 4] = True
    assert COUNTS["fixed"](moment(blank), Sampler(count="fixed", k=k)).tolist() == expected


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.25, 0.5, 0.9, 1.0]), min_size=6, max_size=6), min_size=1, max_size=4))
def test_threshold_agrees_with_brute_force_ties_and_single_blanks_included(rows):
    scores = np.array(rows)  # -1 stands for a position that is no blank
    blank = scores >= 0
    settings = sampler("threshold", confidence_threshold=0.5)
    at = moment(blank)
    chosen = best(scores, threshold(scores, at, settings), blank)
    for row, free, mine in zip(scores, blank, chosen, strict=True):
        expected = {i for i in range(6) if free[i] and row[i] >= 0.5}
        if free.any() and not expected:
            expected = {max(np.flatnonzero(free), key=lambda i: (row[i], -i))}
        assert set(np.flatnonzero(mine)) == expected


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 12))
def test_best_takes_the_highest_scores_and_of_equal_ones_the_first(seed, rows, width):
    rng = np.random.default_rng(seed)
    blank = rng.random((rows, width)) < 0.6
    scores = rng.integers(-2, 2, (rows, width)).astype(float)
    count = np.array([rng.integers(0, n + 1) for n in blank.sum(axis=1)])
    chosen = best(scores, count, blank)
    for r in range(rows):
        ranked = sorted(np.flatnonzero(blank[r]), key=lambda i: (-scores[r, i], i))
        assert np.flatnonzero(chosen[r]).tolist() == sorted(ranked[: count[r]])


def test_shares_deal_the_rest_to_the_first():
    assert shares(10, 4, np.arange(4)).tolist() == [3, 3, 2, 2]
