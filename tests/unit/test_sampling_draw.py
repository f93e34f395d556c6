import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tzd.arrays import NumpyArrays
from tzd.errors import TzdError
from tzd.sampling.draw import draw, draw_filtered, propose

XP = NumpyArrays()
LARGEST_U = np.nextafter(1.0, 0.0)


def uniform_grid(n):
    return (np.arange(n) + 0.5) / n


def distribution(rng, size, dtype=np.float32):
    p = rng.dirichlet(np.full(size, 0.3))
    return p.astype(dtype)


@pytest.mark.parametrize("size", [2, 66, 256, 257, 1000, 1024])
def test_draws_follow_the_distribution(size):
    rng = np.random.default_rng(size)
    p = distribution(rng, size)
    counts = np.zeros(size)
    for _ in range(50):
        u = rng.random(2000)
        counts += np.bincount(draw(XP, np.tile(p, (2000, 1)), u), minlength=size)
    expected = counts.sum() * p.astype(np.float64) / p.sum(dtype=np.float64)
    rare = expected < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-300))
    used = expected > 1e-200
    assert stats.chisquare(observed[used], expected[used] * observed[used].sum() / expected[used].sum()).pvalue > 1e-3


@pytest.mark.parametrize("size", [100, 200_000])
def test_a_rare_token_keeps_its_probability_in_a_float32_vocabulary(size):
    rng = np.random.default_rng(1)
    p = rng.random(size).astype(np.float32)
    rare = size - size // 3
    p[rare] = 1e-7
    p /= p.sum()

    def start(token):  # the smallest u that draws `token` or a later one
        low, high = 0.0, 1.0
        for _ in range(55):
            middle = (low + high) / 2
            drawn = draw(XP, p[None], np.array([middle]))[0]
            low, high = (low, middle) if drawn >= token else (middle, high)
        return high

    share = p[rare].astype(np.float64) / p.sum(dtype=np.float64)
    assert start(rare + 1) - start(rare) == pytest.approx(share, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 3, 64, 300, 1025]),
    seed=st.integers(0, 10_000),
    kept=st.floats(0.0, 1.0),
    u=st.sampled_from([0.0, 1e-300, 0.5, LARGEST_U]),
)
def test_a_token_of_probability_0_is_never_drawn(size, seed, kept, u):
    rng = np.random.default_rng(seed)
    p = (rng.random((4, size)) * (rng.random((4, size)) < kept)).astype(np.float32)
    p[np.arange(4), rng.integers(0, size, 4)] = 1e-30
    drawn = draw(XP, p, np.full(4, u))
    assert (p[np.arange(4), drawn] > 0).all()


def test_two_levels_draw_what_one_level_draws():
    rng = np.random.default_rng(3)
    p = rng.random((2000, 700))  # float64: block sums are exact enough to agree at every u
    u = rng.random(2000)
    cdf = p.cumsum(axis=1)
    assert np.array_equal(draw(XP, p, u), (cdf <= (u * cdf[:, -1])[:, None]).sum(axis=1))


@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-30, 30, width=32)))
def test_temperature_0_takes_the_likeliest_token(logits):
    candidates = propose(XP, logits, np.full(3, 0.9), temperature=0)
    assert np.array_equal(candidates.tokens, logits.argmax(axis=1))


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_no_temperature_gives_what_is_not_a_number(temperature, scale):
    rng = np.random.default_rng(0)
    logits = (scale * rng.standard_normal((50, 20))).astype(np.float32)
    logits[:, 3] = -np.inf
    candidates = propose(XP, logits, rng.random(50), temperature=temperature)
    assert (candidates.tokens != 3).all()
    assert np.isfinite(candidates.probability).all()
    if temperature == 1e-6 and scale >= 1:
        assert np.array_equal(candidates.tokens, logits.argmax(axis=1))


def test_temperature_divides_the_logits():
    rng = np.random.default_rng(5)
    logits, u = rng.standard_normal((500, 9)), rng.random(500)
    expected = draw(XP, XP.softmax(logits / 0.7), u)
    assert np.array_equal(propose(XP, logits, u, temperature=0.7).tokens, expected)


def test_the_probability_is_that_of_the_undistorted_distribution():
    rng = np.random.default_rng(6)
    logits = rng.standard_normal((40, 9))
    candidates = propose(XP, logits, rng.random(40), temperature=0.3, top_k_tokens=2)
    assert candidates.probability == pytest.approx(XP.softmax(logits)[np.arange(40), candidates.tokens])


def brute_force_filter(p, top_p, top_k):
    """The filtered distribution, token by token."""
    order = sorted(range(len(p)), key=lambda v: (-p[v], v))[: top_k or len(p)]
    total, kept, running = sum(p[v] for v in order), [], 0.0
    for v in order:
        if running < top_p * total:
            kept.append(v)
        running += p[v]
    q = np.zeros(len(p))
    q[kept] = p[kept]
    return q / q.sum()


@pytest.mark.parametrize("size", [7, 400])
@pytest.mark.parametrize(("top_p", "top_k"), [(0.5, None), (1.0, 3), (0.9, 5), (1e-6, None), (1.0, 1), (0.8, 1000)])
def test_top_p_and_top_k_agree_with_brute_force(size, top_p, top_k):
    p = distribution(np.random.default_rng(size), size, np.float64)
    n = 20_000
    drawn = draw_filtered(XP, np.tile(p, (n, 1)), uniform_grid(n), top_p, top_k)
    # a grid of u hits every token as often as its probability says, to within one
    assert np.bincount(drawn, minlength=size) / n == pytest.approx(brute_force_filter(p, top_p, top_k), abs=1.5 / n)


def test_the_nucleus_keeps_the_token_that_crosses_it():
    p = np.tile([0.5, 0.3, 0.2], (1000, 1))
    assert set(draw_filtered(XP, p, uniform_grid(1000), 0.6, None)) == {0, 1}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_reported(bad):
    logits = np.zeros((2, 4), dtype=np.float32)
    logits[1, 2] = bad
    with pytest.raises(TzdError, match="not finite"):
        propose(XP, logits, np.zeros(2))


def test_logits_far_apart_are_drawn_from_at_the_lowest_temperature_without_a_warning():
    logits = np.array([[0.0, -3e38, -1e-6]], np.float32)
    for u, token in ((0.0, 0), (0.7, 0), (0.75, 2)):  # softmax of 0 and -1: 0.731
        assert propose(XP, logits, np.array([u]), temperature=1e-6).tokens.tolist() == [token]
    for prior in (np.log([0.5, 0.25, 0.25]), None):
        assert propose(XP, logits, np.array([0.2]), temperature=np.array([1e-6]), prior=prior).tokens.tolist() != [1]
