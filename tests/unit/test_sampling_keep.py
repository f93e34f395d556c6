import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.arrays import NumpyArrays
from tzd.sampling import Sampler, sampler
from tzd.sampling.blocks import shares
from tzd.sampling.draw import Candidates
from tzd.sampling.keep import COUNTS, Seen, best, by_path, chosen
from tzd.sampling.moment import Moment
from tzd.sampling.remask import remasked
from tzd.sampling.scores import noise, score
from tzd.sampling.stability import Stability


def moment(blank, *, blanks=None, index=0, steps=1, seed=0, step=1):
    blank = np.asarray(blank, dtype=bool)
    rows = len(blank)
    left = blank.sum(axis=1)
    blanks = left if blanks is None else np.full(rows, blanks)
    return Moment(
        seed,
        step,
        blank,
        ~blank,
        np.ones(blank.shape, np.float32),
        left,
        blanks,
        np.full(rows, index),
        np.full(rows, steps),
    )


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


def seen(p, blank, settings, history=None):
    """What a denoiser says that gives (B, W, V) probabilities, at the blanks."""
    rows, columns = np.nonzero(blank)
    p = np.asarray(p, dtype=np.float64)[rows, columns]
    tokens = p.argmax(axis=1)
    candidates = Candidates(p, tokens, p[np.arange(len(p)), tokens])
    scores = np.zeros(blank.shape)
    scores[rows, columns] = score(settings.order, NumpyArrays(), candidates)
    return Seen(NumpyArrays(), candidates, rows, columns, scores, blank, history)


def binary(confidences):
    """Distributions over two tokens, (B, W, 2), with those largest probabilities."""
    c = np.clip(confidences, 0.5, 1.0)
    return np.stack([c, 1 - c], axis=-1)


CONFIDENCES = st.lists(
    st.lists(st.sampled_from([-1.0, 0.5, 0.6, 0.75, 0.9, 0.97, 1.0]), min_size=6, max_size=6), min_size=1, max_size=4
)


def best_first(row, free):
    return sorted(np.flatnonzero(free), key=lambda i: (-row[i], i))


@given(CONFIDENCES)
def test_threshold_agrees_with_brute_force_ties_and_single_blanks_included(rows):
    confidences = np.array(rows)  # -1 stands for a position that is no blank
    blank = confidences >= 0
    settings = sampler("threshold", confidence_threshold=0.75)
    picked = chosen(seen(binary(confidences), blank, settings), None, moment(blank), settings)
    for row, free, mine in zip(confidences, blank, picked, strict=True):
        expected = {i for i in range(6) if free[i] and row[i] >= 0.75} or set(best_first(row, free)[:1])
        assert set(np.flatnonzero(mine)) == expected


@given(CONFIDENCES, st.sampled_from([0.1, 0.3, 0.6, 1.0, 2.0, 5.0]))
def test_factor_agrees_with_brute_force_ties_and_single_blanks_included(rows, f):
    confidences = np.array(rows)
    blank = confidences >= 0
    settings = sampler("factor", factor=f)
    picked = chosen(seen(binary(confidences), blank, settings), None, moment(blank), settings)
    for row, free, mine in zip(confidences, blank, picked, strict=True):
        ranked = best_first(row, free)
        n = min(1, len(ranked))
        while n < len(ranked) and all((r + 2) * (1 - row[ranked[r]]) < f for r in range(n + 1)):
            n += 1
        assert set(np.flatnonzero(mine)) == set(ranked[:n])


@given(CONFIDENCES, st.sampled_from([0.0, 0.2, 0.5, 1.0, 9.0]), st.sampled_from(["entropy", "confidence"]))
def test_entropy_bound_agrees_with_brute_force_ties_and_single_blanks_included(rows, gamma, order):
    confidences = np.array(rows)
    blank = confidences >= 0
    settings = sampler("entropy-bound", gamma=gamma, order=order)
    picked = chosen(seen(binary(confidences), blank, settings), None, moment(blank), settings)
    entropy = -sum(p * np.log(np.maximum(p, 1e-300)) for p in np.moveaxis(binary(confidences), -1, 0))
    for row, h, free, mine in zip(confidences, entropy, blank, picked, strict=True):
        ranked = best_first(row, free)  # of two tokens the surer one has the lower entropy
        n = min(1, len(ranked))
        while n < len(ranked):
            together = h[ranked[: n + 1]]
            if together.sum() - together.max() > gamma + 1e-12:
                break
            n += 1
        assert set(np.flatnonzero(mine)) == set(ranked[:n])


def test_klass_takes_what_is_sure_and_has_been_stable_else_the_quota():
    settings = sampler("klass", confidence_threshold=0.6, kl_threshold=0.01, kl_steps=2, steps=4)
    blank = np.ones((2, 4), dtype=bool)
    steps = [  # the first position of the first row stays as it is; all else moves, or is unsure
        [[0.9, 0.9, 0.5, 0.99], [0.5, 0.5, 0.5, 0.5]],
        [[0.9, 0.7, 0.5, 0.7], [0.5, 0.5, 0.5, 0.5]],
        [[0.9, 0.9, 0.5, 0.97], [0.5, 0.5, 0.5, 0.5]],
    ]
    history, taken = Stability(), []
    for index, confidences in enumerate(steps):
        at = moment(blank, blanks=4, index=index, steps=12)
        taken.append(chosen(seen(binary(np.array(confidences)), blank, settings, history), None, at, settings))
    assert [np.flatnonzero(t[0]).tolist() for t in taken] == [[3], [0], [0]]  # the best, the best, the stable one
    assert [np.flatnonzero(t[1]).tolist() for t in taken] == [[0]] * 3
    # sure of another token: the divergence sees it, though the confidence is the same
    at = moment(blank, blanks=4, index=3, steps=12)
    swapped = binary(np.array(steps[-1]))[:, :, ::-1]
    assert not history.stable(seen(swapped, blank, settings, history), at, settings)[0, :2].any()


@given(st.lists(st.sampled_from([0, 0, 1, 2, 5]), min_size=1, max_size=12), st.integers(1, 30))
def test_klass_fills_its_block_in_its_steps_whatever_was_ready_when(ready, n):
    """So many blanks are ready in each step; where they are fewer than the quota, later steps make up for it."""
    settings, left, counts = sampler("klass"), n, []
    for index, stable in enumerate(ready):
        blank = np.arange(n)[None] < left
        history = SimpleNamespace(stable=lambda *_, stable=stable: np.arange(n)[None] < stable)
        at = moment(blank, blanks=n, index=index, steps=len(ready))
        counts.append(
            int(chosen(seen(binary(np.full((1, n), 0.9)), blank, settings, history), None, at, settings).sum())
        )
        assert counts[-1] > 0 or not left
        left -= counts[-1]
    assert left == 0
    if not any(ready):
        assert counts == shares(n, len(ready), np.arange(len(ready))).tolist() or len(ready) > n


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("power", [10.0, 1000.0])
def test_a_steep_schedule_ends_before_its_steps_do(power):
    """Its 1 - alpha_t rounds to 0 long before t does."""
    settings = Sampler(schedule="poly", schedule_power=power, remask="remdm-cap", eta=0.1)
    counts = [int(COUNTS["binomial"](moment(np.ones((1, 9)), index=i, steps=128), settings)[0]) for i in range(1, 128)]
    assert counts[-1] == 0  # what is left at the last step, the loop fills


def test_a_block_begins_without_a_past():
    settings = sampler("klass", kl_steps=1)
    blank, p = np.ones((1, 3), dtype=bool), binary(np.full((1, 3), 0.9))
    history = Stability()
    ready = [
        history.stable(seen(p, blank, settings, history), moment(blank, index=i, steps=9), settings).all()
        for i in (0, 1, 2, 0, 1)
    ]
    assert ready == [False, True, True, False, True]


@given(n=st.integers(1, 100), steps=st.integers(1, 100), schedule=st.sampled_from(["linear", "sine", "cosine"]))
def test_the_schedule_leaves_what_maskgit_leaves(n, steps, schedule):
    settings, left = Sampler(count="scheduled", schedule=schedule), n
    p = {
        "linear": lambda s: s,
        "sine": lambda s: math.sin(math.pi / 2 * s),
        "cosine": lambda s: 1 - math.cos(math.pi / 2 * s),
    }
    for index in range(steps):
        blank = np.arange(n)[None] < left
        at = moment(blank, blanks=n, index=index, steps=steps)
        count = int(COUNTS["scheduled"](at, settings)[0])
        s = 1 - (index + 1) / steps
        unknown = max(1, min(left - 1, math.floor(n * p[schedule](s) + 1e-9))) if s > 0 else 0
        assert left - count == min(unknown, left)
        left -= count
    assert left == 0


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 12))
def test_best_takes_the_highest_scores_and_of_equal_ones_the_first(seed, rows, width):
    rng = np.random.default_rng(seed)
    blank = rng.random((rows, width)) < 0.6
    scores = rng.integers(-2, 2, (rows, width)).astype(float)
    count = np.array([rng.integers(0, n + 1) for n in blank.sum(axis=1)])
    picked = best(scores, count, blank)
    for r in range(rows):
        ranked = sorted(np.flatnonzero(blank[r]), key=lambda i: (-scores[r, i], i))
        assert np.flatnonzero(picked[r]).tolist() == sorted(ranked[: count[r]])


def test_shares_deal_the_rest_to_the_first():
    assert shares(10, 4, np.arange(4)).tolist() == [3, 3, 2, 2]


def test_order_temperature_draws_without_replacement_from_the_softmax_of_the_scores():
    """Dream's `alg_temp`: the first position is i with probability softmax(score / temperature)_i."""
    scores, settings = np.array([0.9, 0.5, 0.1]), Sampler(order="confidence", count="one", order_temperature=0.3)
    blank = np.ones((60_000, 3), dtype=bool)
    first = best(scores + noise(moment(blank), settings), np.ones(len(blank), int), blank).mean(axis=0)
    expected = np.exp(scores / 0.3) / np.exp(scores / 0.3).sum()
    assert first == pytest.approx(expected, abs=0.01)


def test_annealed_noise_is_gone_at_the_last_step():
    settings = Sampler(order="confidence", count="quota", order_temperature=2.0, order_annealing=True)
    blank = np.ones((4, 5), dtype=bool)
    spread = [np.ptp(noise(moment(blank, index=i, steps=4), settings)) for i in range(4)]
    assert spread[0] > spread[1] > spread[2] > spread[3] == 0


@pytest.mark.parametrize(
    ("name", "rate"),
    [  # t = 4/8, s = 3/8: the largest σ is (3/8) / (1/2)
        ("remdm-cap", 0.008),
        ("remdm-rescale", 0.015 * 0.75),
        ("remdm-loop", 0.02),
    ],
)
def test_remdm_takes_back_at_its_rate_and_keeps_the_share_of_blanks(name, rate):
    rules = sampler(name)
    blank = np.tile(np.arange(40) % 2 == 0, (100_000, 1))
    at = moment(blank, index=4, steps=8)
    taken = remasked(at, rules).sum() / at.written.sum()
    assert taken == pytest.approx(rate, abs=4 * math.sqrt(rate / at.written.sum()))
    alpha_t, alpha_s = (0.9, 0.9) if name == "remdm-loop" else (4 / 8, 5 / 8)
    revealed = COUNTS["binomial"](at, rules).sum() / blank.sum()
    assert alpha_t * (1 - rate) + (1 - alpha_t) * revealed == pytest.approx(alpha_s, abs=1e-3)


def test_remdm_conf_takes_back_what_was_written_with_little_confidence():
    rules = sampler("remdm-conf")
    blank = np.zeros((200_000, 4), dtype=bool)
    confidence = np.tile(np.array([0.9, 0.1, 0.5, 1.0], np.float32), (len(blank), 1))
    at = replace(moment(blank, index=4, steps=8), confidence=confidence)
    share = np.exp(-confidence[0]) / np.exp(-confidence[0]).sum()
    assert remasked(at, rules).mean(axis=0) == pytest.approx(0.75 * share, abs=0.004)


def test_p2_that_counts_written_tokens_for_nothing_takes_none_back_for_a_certain_one_either():
    rules, blank = sampler("p2", eta=0.0), np.array([[True, True, True, False]])
    certain = replace(seen(binary(np.ones((1, 4))), np.ones((1, 4), bool), rules), asked=np.ones((1, 4), bool))
    at = moment(blank, blanks=4, index=1, steps=4)
    assert by_path(certain, at, rules).tolist() == [[True, False, False, True]]


def test_surety_is_what_the_order_goes_by_or_else_the_largest_probability():
    p, blank = np.array([[[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]]), np.array([[True, True]])
    candidates = Candidates(p[0], np.array([1, 2]), np.array([0.3, 0.5]))
    said = Seen(NumpyArrays(), candidates, *np.nonzero(blank), np.array([[0.0, 1.0]]), blank)
    largest, drawn = [0.6, 0.5], [0.3, 0.5]
    expected = {"margin": [0.3, 0.2], "token-confidence": drawn, "token-log-confidence": drawn}
    for order in ("random", "confidence", "log-confidence", "entropy", *expected):
        assert said.surety(order)[0] == pytest.approx(expected.get(order, largest))
    assert said.ranked(np.array([[7, 8]])).tolist() == [[8, 7]]
