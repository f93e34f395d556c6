import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.diffusion.masking import draw_times, mask_by_count, mask_by_probability, smallest
from tzd.errors import ConfigError
from tzd.randomness import uniforms


def test_jittered_times_put_one_into_each_stratum() -> None:
    u = uniforms(0, "time", 0, 64, 1)[:, 0]
    np.testing.assert_array_equal(np.floor(draw_times("jittered", u) * 64), np.arange(64))


def test_systematic_times_are_a_shifted_grid() -> None:
    u = uniforms(0, "time", 0, 64, 1)[:, 0]
    t = np.sort(draw_times("systematic", u))
    np.testing.assert_allclose(np.diff(t), 1 / 64)
    assert t.min() >= 0
    assert t.max() < 1


@pytest.mark.parametrize("sampling", ["independent", "jittered", "systematic"])
def test_times_are_uniform_on_average(sampling: str) -> None:
    t = np.concatenate([draw_times(sampling, uniforms(0, "time", step, 8, 1)[:, 0]) for step in range(4000)])
    np.testing.assert_allclose([t.mean(), (t**2).mean()], [1 / 2, 1 / 3], atol=0.01)


def test_an_unknown_time_sampling_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'jittered'"):
        draw_times("jitterd", np.zeros(3))


@given(st.integers(1, 12), st.integers(0, 1000), st.data())
def test_mask_by_count_masks_exactly_so_many_and_only_maskable_ones(width: int, seed: int, data: st.DataObject) -> None:
    maskable = np.array(
        data.draw(st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=4))
    )
    available = maskable.sum(axis=1)
    count = np.array([data.draw(st.integers(0, int(n))) for n in available])
    masked = mask_by_count(maskable, count, uniforms(seed, "position", 0, len(maskable), width))
    np.testing.assert_array_equal(masked.sum(axis=1), count)
    assert not (masked & ~maskable).any()


def test_mask_by_count_takes_every_subset_equally_often() -> None:
    n = 60_000
    masked = mask_by_count(np.ones((n, 4), bool), np.full(n, 2), uniforms(0, "position", 0, n, 4))
    codes, counts = np.unique(masked @ (1 << np.arange(4)), return_counts=True)
    assert len(codes) == 6
    assert ((counts - n / 6) ** 2 / (n / 6)).sum() < 20.5  # chi-square with 5 degrees: p = 0.001


def test_mask_by_probability_masks_that_share_and_nothing_that_is_frozen() -> None:
    maskable = np.broadcast_to(np.arange(50) >= 10, (4000, 50))
    masked = mask_by_probability(maskable, np.full(4000, 0.3), uniforms(0, "position", 0, 4000, 50))
    assert not masked[:, :10].any()
    assert masked[:, 10:].mean() == pytest.approx(0.3, abs=0.005)


@given(st.integers(1, 12), st.integers(1, 4), st.data())
def test_the_smallest_are_those_that_a_stable_sort_puts_first(width: int, rows: int, data: st.DataObject) -> None:
    value = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, math.inf])  # so that many are equal
    values = np.array([[data.draw(value) for _ in range(width)] for _ in range(rows)])
    count = np.array([data.draw(st.integers(0, width)) for _ in range(rows)])
    ranks = values.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    np.testing.assert_array_equal(smallest(values, count), ranks < count[:, None])


def test_a_position_is_masked_where_its_number_is_below_the_probability_and_not_at_it() -> None:
    maskable = np.array([[True, True, True, False]])
    u = np.array([[0.25, 0.5, 0.75, 0.0]])
    assert mask_by_probability(maskable, np.array([0.5]), u).tolist() == [[True, False, False, False]]
    assert not mask_by_probability(maskable, np.array([0.0]), np.zeros((1, 4))).any()
