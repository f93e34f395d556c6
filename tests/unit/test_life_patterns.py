"""The rule of Conway's Game of Life on known patterns, and patterns as they lie on boards and in files."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.errors import UserError
from tzd.sampling.life import period, step
from tzd.sampling.pattern_files import LONGEST_SIDE, read_cells, read_pattern, read_rle
from tzd.sampling.patterns import NAMES, centred, first_cells, random_cells

GLIDER = np.array([[0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=bool)
GUN_CELLS = """!Name: Gosper glider gun
!
........................O...........
......................O.O...........
............OO......OO............OO
...........O...O....OO............OO
OO........O.....O...OO..............
OO........O...O.OO....O.O...........
..........O.....O.......O...........
...........O...O....................
............OO......................
"""


def board(name: str, lines: int = 32, columns: int = 32) -> np.ndarray:
    return first_cells(name, np.zeros((lines, columns), dtype=np.int64), density=0.35, seed=0)


def after(alive: np.ndarray, generations: int, *, wrap: bool = True) -> np.ndarray:
    for _ in range(generations):
        alive = step(alive, wrap=wrap)
    return alive


def test_a_cell_is_born_with_three_neighbours_and_lives_on_with_two_or_three():
    around = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]
    for lives in (False, True):
        for neighbours in range(9):
            alive = np.zeros((5, 5), dtype=bool)
            alive[2, 2] = lives
            for y, x in around[:neighbours]:
                alive[1 + y, 1 + x] = True
            assert step(alive)[2, 2] == (neighbours == 3 or (lives and neighbours == 2))


def test_a_step_is_the_rule_counted_cell_by_cell():
    alive = np.random.default_rng(0).random((7, 9)) < 0.4
    for wrap in (True, False):
        expected = np.zeros_like(alive)
        for y in range(7):
            for x in range(9):
                near = [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
                if not wrap:
                    near = [(i, j) for i, j in near if 0 <= i < 7 and 0 <= j < 9]
                count = sum(int(alive[i % 7, j % 9]) for i, j in near)
                expected[y, x] = count == 3 or (alive[y, x] and count == 2)
        assert np.array_equal(step(alive, wrap=wrap), expected)


@pytest.mark.parametrize(
    ("name", "generations"),
    [("block", 1), ("blinker", 2), ("beacon", 2), ("toad", 2), ("pulsar", 3), ("pentadecathlon", 15)],
)
def test_oscillators_have_their_known_periods(name, generations):
    assert period(board(name)) == period(board(name), wrap=False) == generations


def test_a_glider_moves_one_cell_down_and_right_in_four_generations_and_comes_home_on_a_torus():
    alive = board("glider")
    assert np.array_equal(after(alive, 4), np.roll(alive, (1, 1), axis=(0, 1)))
    assert period(alive) == 4 * 32
    assert period(alive, longest=4 * 32 - 1) is None
    assert after(alive, 100, wrap=False)[-2:, -2:].all()  # at an edge it ends as a block


def test_a_gun_emits_a_glider_every_thirty_generations():
    alive = board("gosper-gun", 90, 120)
    for gliders in range(4):
        later = after(alive, 30 * gliders, wrap=False)
        assert (later & alive).sum() == 36  # the gun itself is as it was
        assert later.sum() == 36 + 5 * gliders


def test_diehard_dies_after_130_generations_and_the_r_pentomino_grows_as_it_is_known_to():
    assert not after(board("diehard", 60, 60), 130, wrap=False).any()
    assert after(board("diehard", 60, 60), 129, wrap=False).any()
    grown = [int(after(board("r-pentomino"), generation).sum()) for generation in range(9)]
    assert grown == [5, 6, 7, 9, 8, 9, 12, 11, 18]


def test_a_spaceship_is_back_in_its_shape_two_cells_on():
    alive = board("spaceship")
    assert np.array_equal(after(alive, 4), np.roll(alive, -2, axis=1))


def test_every_known_pattern_lies_in_the_middle_of_the_board():
    for name in set(NAMES) - {"text", "random"}:
        alive = board(name, 40, 41)
        lines, columns = (np.flatnonzero(alive.any(axis=axis)) for axis in (1, 0))
        assert abs(lines[0] - (39 - lines[-1])) <= 1
        assert abs(columns[0] - (40 - columns[-1])) <= 1


def test_the_parity_of_a_text_and_chance_make_half_of_the_cells_live():
    tokens = np.random.default_rng(0).integers(0, 65, (64, 64))
    alive = first_cells("text", tokens, density=0.0, seed=1)
    assert 0.46 < alive.mean() < 0.54
    assert np.array_equal(first_cells("text", tokens + 1, density=0.0, seed=1), ~alive)
    assert np.array_equal(first_cells("text", tokens, density=0.0, seed=1), alive)
    assert not np.array_equal(first_cells("text", tokens, density=0.0, seed=2), alive)


def test_random_cells_have_their_density_and_each_generation_its_own():
    assert abs(random_cells((100, 100), density=0.2, seed=3).mean() - 0.2) < 0.02
    assert not random_cells((9, 9), density=0.0, seed=3).any()
    assert random_cells((9, 9), density=1.0, seed=3).all()
    one, other = (random_cells((9, 9), density=0.5, seed=3, generation=g) for g in (1, 2))
    assert not np.array_equal(one, other)


def test_a_pattern_larger_than_the_board_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"'gosper-gun' has 9 lines of 36 cells, more than a board of 32x32.*32x36 at"):
        board("gosper-gun")
    assert board("gosper-gun", 9, 36).sum() == 36


@pytest.mark.parametrize("cells", [np.zeros((2, 2)), np.zeros(3, dtype=bool)])
def test_cells_that_are_no_truth_values_in_two_dimensions_are_refused(cells):
    with pytest.raises(UserError, match="a pattern is an"):
        centred(cells, (8, 8), "it")


def test_an_unknown_pattern_is_told_what_it_may_have_meant():
    with pytest.raises(UserError, match=r"unknown pattern 'glidr' \(did you mean 'glider'\?\).*\.cells or \.rle"):
        board("glidr")


# --- files ------------------------------------------------------------------------------------------------------


def test_the_gun_is_the_same_in_plaintext_and_in_run_lengths(tmp_path: Path):
    (tmp_path / "gun.CELLS").write_text(GUN_CELLS)
    assert np.array_equal(read_pattern(tmp_path / "gun.CELLS"), board("gosper-gun", 9, 36))


@pytest.mark.parametrize("rule", ["", ", rule = B3/S23", ",rule=b3/s23", ", rule = 23/3", ", rule = Life "])
def test_run_lengths_are_read_with_comments_and_every_name_of_the_rule(tmp_path: Path, rule):
    text = f"#N Glider\n#C x = 9\r\nx = 3, y = 3{rule}\r\nb\no$2b\n\no $3o!anything\nafter it"
    (tmp_path / "glider.rle").write_text(text)
    assert np.array_equal(read_pattern(tmp_path / "glider.rle"), GLIDER)


def test_what_a_line_leaves_out_is_dead():
    assert np.array_equal(read_rle("x=4,y=5\no3$bo!", "it").nonzero(), ([0, 3], [0, 1]))
    assert np.array_equal(
        read_cells("O\n\n.O..\n*\n\n", "it").astype(int), [[1, 0, 0, 0], [0] * 4, [0, 1, 0, 0], [1, 0, 0, 0]]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no line 'x = WIDTH"),
        ("#only\n# comments", "it has no line 'x = WIDTH"),
        ("3o!", "it, line 1: cells begin with a line"),
        ("x = 3\n3o!", "it, line 1: cells begin with a line"),
        ("x = 3, y = 1" + " " * 300 + "\n3o!", "it, line 1: cells begin with a line"),
        ("#\nx = 3, y = 1, rule = B36/S23\n3o!", "it, line 2: the rule 'B36/S23' is not Conway's"),
        ("x = 3, y = 1, rule = B3/S23:T9,9\n3o!", "the rule 'B3/S23:T9,9' is not"),
        ("x = 0, y = 1\n!", "it, line 1: x = 0, y = 1: a pattern has 1 to 256 cells a side"),
        ("x = 999999999, y = 999999999\n!", "line 1: x = 999999999"),
        ("x = 99999999999999999999, y = 1\n!", "line 1: cells begin"),
        ("x = 3, y = 1\n4o!", "it, line 2: a cell lies outside x = 3, y = 1"),
        ("x = 3, y = 1\n\n$o!", "it, line 3: a cell lies outside"),
        ("x = 3, y = 1\n999999999o!", "a cell lies outside"),
        ("x = 3, y = 1\n" + "9" * 5000 + "o!", "a run of 999999999999 is not one of"),
        ("x = 3, y = 1\n0o!", "a run of 0 is not one of"),
        ("x = 3, y = 1\n3o", "it, line 2: the cells do not end with '!'"),
        ("x = 3, y = 1\n2o3", "it, line 2: '3' in column 3 is none of"),
        ("x = 3, y = 1\noAo!", "it, line 2: 'A' in column 2 is none of"),
        ("x = 3, y = 1\no\x1bo!", r"it, line 2: '\\x1b' in column 2"),
        ("x = 3, y = 1\n٣o!", "line 2: '٣' in column 1"),
    ],
)
def test_run_lengths_that_cannot_be_read_are_one_line_with_its_number(text, message):
    with pytest.raises(UserError, match=message) as raised:
        read_rle(text, "it")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!only\n", "it holds no cells"),
        ("", "it holds no cells"),
        ("...\n..x\n", "it, line 2: 'x' is no cell"),
        ("!\n. O", "it, line 2: ' ' is no cell"),
        ("." * (LONGEST_SIDE + 1), "it, line 1: 1 lines of 257 cells are more than 256 a side"),
        (".\n" * LONGEST_SIDE + ".", "it, line 257: 257 lines of 1 cells"),
    ],
)
def test_plaintext_that_cannot_be_read_is_one_line_with_its_number(text, message):
    with pytest.raises(UserError, match=message):
        read_cells(text, "it")


@given(st.one_of(st.text(), st.text("xy=, rule0123B/S\n"), st.text("bo$!0123456789 \n").map("x = 9, y = 9\n".__add__)))
def test_no_text_makes_a_reader_fail_in_another_way(text):
    for read in (read_rle, read_cells):
        try:
            cells = read(text, "it")
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert cells.dtype == bool
            assert 1 <= min(cells.shape) <= max(cells.shape) <= LONGEST_SIDE


@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_cells_that_are_written_as_run_lengths_are_read_as_they_were(height, width, random):
    cells = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    text = f"x = {width}, y = {height}\n" + "$\n".join("".join("bo"[int(c)] for c in row) for row in cells) + "!"
    assert np.array_equal(read_rle(text, "it"), cells)


def test_files_that_cannot_be_read_or_are_too_large_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read"):
        read_pattern(tmp_path / "none.rle")
    os.mkfifo(tmp_path / "pipe.rle")
    for path in (tmp_path, tmp_path / "pipe.rle"):
        with pytest.raises(UserError, match=r"cannot read .+: it is no file"):
            read_pattern(path)
    (tmp_path / "raw.cells").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_pattern(tmp_path / "raw.cells")
    with (tmp_path / "large.rle").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(UserError, match="has more than 1 MB: this is no pattern for a board"):
        read_pattern(tmp_path / "large.rle")
