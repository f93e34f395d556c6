import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.errors import ConfigError
from tzd.sampling.blocks import make_plan


def plan_of(blank, *rest):
    return make_plan(blank, np.full(len(blank), blank.shape[1]), *rest)


def blocks(plan, row=0):
    fields = (plan.begin, plan.start, plan.stop, plan.blanks, plan.steps)
    return [tuple(int(f[row, i]) for f in fields) for i in range(plan.length[row])]


def canvas(length, given=0, rows=1):
    blank = np.ones((rows, length), dtype=bool)
    blank[:, :given] = False
    return blank


def test_one_window_is_one_block_with_all_steps():
    assert blocks(plan_of(canvas(10, 3), 10, 2, None, 7)) == [(0, 3, 10, 7, 7)]


def test_blocks_begin_after_the_prompt_and_the_last_may_be_shorter():
    assert blocks(plan_of(canvas(12, 2), 12, 3, 4, 6)) == [(0, 2, 6, 4, 2), (0, 6, 10, 4, 2), (0, 10, 12, 2, 2)]


def test_steps_that_do_not_divide_are_spread_so_that_they_sum():
    plan = plan_of(canvas(12), 12, 3, 4, 8)
    assert plan.steps[0, :3].tolist() == [3, 3, 2]


def test_windows_keep_the_overlap_before_the_first_blank():
    plan = plan_of(canvas(20), 8, 2, None, 5)
    assert blocks(plan) == [(0, 0, 8, 8, 5), (6, 8, 14, 6, 5), (12, 14, 20, 6, 5)]


def test_the_last_window_ends_with_the_canvas():
    assert blocks(plan_of(canvas(15), 8, 2, None, 5))[-1] == (7, 14, 15, 1, 5)


def test_a_prompt_longer_than_the_window_conditions_by_its_tail():
    assert blocks(plan_of(canvas(30, 20), 8, 3, None, 5))[0] == (17, 20, 25, 5, 5)


def test_a_prompt_that_fits_is_seen_whole():
    assert blocks(plan_of(canvas(12, 6), 8, 2, None, 5))[0] == (0, 6, 8, 2, 5)


def test_blocks_without_blanks_get_no_steps():
    blank = canvas(12)
    blank[0, 4:8] = False
    assert blocks(plan_of(blank, 12, 3, 4, 6)) == [(0, 0, 4, 4, 3), (0, 8, 12, 4, 3)]


def test_without_a_budget_each_block_has_a_step_for_each_blank():
    blank = canvas(9)
    blank[0, 1] = False
    assert plan_of(blank, 9, 2, 4, None).steps[0, :3].tolist() == [3, 4, 1]


def test_fewer_steps_than_blocks_is_an_error_that_says_how_many():
    with pytest.raises(ConfigError, match=r"steps=2 cannot fill 3 blocks of block_len=4: ask for steps=3"):
        plan_of(canvas(12), 12, 3, 4, 2)


@given(
    seed=st.integers(0, 2**32),
    length=st.integers(1, 40),
    width=st.integers(2, 12),
    block_len=st.none() | st.integers(1, 9),
    share=st.floats(0, 1),
)
def test_every_blank_is_in_one_block_within_its_window_and_windows_are_connected(seed, length, width, block_len, share):
    rng = np.random.default_rng(seed)
    width = min(width, length)
    overlap = int(rng.integers(0, width))
    blank = rng.random((3, length)) < share
    plan = plan_of(blank, width, overlap, block_len, 30)
    for row in range(3):
        seen = np.zeros(length, dtype=int)
        written = ~blank[row]
        steps_by_window = {}
        for begin, start, stop, blanks, steps in blocks(plan, row):
            assert 0 <= begin <= start < stop <= begin + width <= length
            assert stop - start <= (block_len or width)
            assert blank[row, start:stop].sum() == blanks > 0
            assert written[:start].all()
            first = start if begin not in steps_by_window else None
            if first is not None and begin > 0:  # a window that has moved has what it needs before its first blank
                assert first - begin >= overlap
            steps_by_window[begin] = steps_by_window.get(begin, 0) + steps
            seen[start:stop] += 1
            written[start:stop] = True
        assert (seen[blank[row]] == 1).all()
        assert all(total == 30 for total in steps_by_window.values())


def test_a_shorter_row_has_the_blocks_that_it_has_alone():
    blank = np.ones((3, 30), dtype=bool)
    blank[:, :2] = False
    lengths = np.array([30, 13, 7])
    blank &= np.arange(30) < lengths[:, None]
    together = make_plan(blank, lengths, 10, 3, 4, None)
    for row, length in enumerate(lengths):
        alone = plan_of(blank[row : row + 1, :length], min(10, length), 3, 4, None)
        for name in ("begin", "start", "stop", "blanks", "steps"):
            mine, others = (getattr(p, name)[r, : alone.length[0]] for p, r in ((together, row), (alone, 0)))
            assert np.minimum(mine, length).tolist() == others.tolist()  # a block may reach into the padding
        assert together.length[row] == alone.length[0]


def test_a_denoisers_own_blocks_have_a_step_each_and_a_window_of_few_no_more_for_it():
    plan = make_plan(canvas(12), np.array([12]), 8, 6, 2, 2, own_blocks=True)
    assert blocks(plan)[:4] == [(0, 0, 2, 2, 1), (0, 2, 4, 2, 1), (0, 4, 6, 2, 1), (0, 6, 8, 2, 1)]
    assert blocks(plan)[4:] == [(2, 8, 10, 2, 2), (4, 10, 12, 2, 2)]


def test_blocks_of_a_later_window_leave_what_an_earlier_one_has_written():
    plan = make_plan(canvas(14), np.array([14]), 10, 5, 4, None, own_blocks=True)
    assert blocks(plan) == [(0, 0, 4, 4, 4), (0, 4, 8, 4, 4), (0, 8, 10, 2, 2), (4, 10, 12, 2, 2), (4, 12, 14, 2, 2)]
