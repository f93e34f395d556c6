import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tzd.randomness import integer, permutation, uniforms


@given(st.integers(0, 2**63), st.integers(0, 10**9), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_a_row_depends_on_its_index_and_not_on_who_asks(
    seed: int, step: int, rows: int, width: int, first: int
) -> None:
    whole = uniforms(seed, "noise", step, first + rows, width)
    np.testing.assert_array_equal(uniforms(seed, "noise", step, rows, width, first_row=first), whole[first:])


def test_seed_stream_step_and_row_each_change_the_numbers() -> None:
    base = uniforms(1, "noise", 5, 2, 8)
    assert not np.isin(uniforms(2, "noise", 5, 2, 8), base).any()
    assert not np.isin(uniforms(1, "other", 5, 2, 8), base).any()
    assert not np.isin(uniforms(1, "noise", 6, 2, 8), base).any()
    assert not np.isin(base[0], base[1]).any()
    assert integer(1, "a", 0) != integer(1, "a", 0, row=1) != integer(2, "a", 0)


def test_numbers_are_uniform() -> None:
    u = uniforms(0, "noise", 0, 1000, 100)
    assert u.min() >= 0
    assert u.max() < 1
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    assert ((counts - 5000) ** 2 / 5000).sum() < 45  # chi-square with 19 degrees: p = 0.0007


def test_these_numbers_never_change() -> None:
    # a checkpoint's training can be continued by a later version only if they stay what they are
    np.testing.assert_allclose(uniforms(1337, "noise", 3, 1, 2)[0], GOLDEN_UNIFORMS, rtol=0, atol=0)
    np.testing.assert_array_equal(permutation(1337, "order", 2, 6), GOLDEN_PERMUTATION)


GOLDEN_UNIFORMS = [0.7480530111829813, 0.4993949206160615]
GOLDEN_PERMUTATION = [3, 0, 1, 5, 4, 2]
