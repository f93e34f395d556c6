"""What a pattern of cells, an objective and a text are refused with, word by word."""

import numpy as np
import pytest

from tzd.config import ObjectiveSettings
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.diffusion.likelihood import exact_nelbo, log_likelihood, nelbo
from tzd.diffusion.masking import draw_times
from tzd.diffusion.objective import Objective
from tzd.diffusion.schedule import schedule
from tzd.errors import ConfigError, UserError
from tzd.sampling.pattern_files import read_cells, read_rle
from tzd.sampling.patterns import first_cells
from tzd.sampling.tiles import TiledDenoiser

BOARD = np.zeros((9, 9), int)


def denoiser(**settings):
    return FunctionDenoiser(lambda x: np.zeros((*x.shape, 5)), 5, 4, **settings)


UNKNOWN = [
    (
        lambda: TiledDenoiser(denoiser(block_len=2), 6, wrap=True),
        (
            "a model of block diffusion (block_len=2) sees nothing of what comes after a block: this takes one "
            "that looks both ways"
        ),
    ),
    (
        lambda: first_cells("glidr", BOARD, density=0.5, seed=0),
        "unknown pattern 'glidr' (did you mean 'glider'?); files of patterns end in .cells or .rle",
    ),
    (
        lambda: Objective(ObjectiveSettings(name="nelbo_x")),
        "unknown objective.name 'nelbo_x' (did you mean 'nelbo_t'?)",
    ),
    (
        lambda: Objective(ObjectiveSettings(time_sampling="jitter")),
        "unknown objective.time_sampling 'jitter' (did you mean 'jittered'?)",
    ),
    (
        lambda: draw_times("systemic", np.zeros(2)),
        "unknown objective.time_sampling 'systemic' (did you mean 'systematic'?)",
    ),
    (lambda: schedule("lineal"), "unknown masking schedule 'lineal' (did you mean 'linear'?)"),
]
IMPOSSIBLE = [
    (
        lambda: TiledDenoiser(denoiser(), 6, wrap=True).forward(np.zeros((1, 5), int)),
        "windows over 6 tokens take sequences of just that length, without padding",
    ),
    (
        lambda: first_cells("pulsar", np.zeros((9, 20), int), density=0.5, seed=0),
        ("the pattern 'pulsar' has 13 lines of 13 cells, more than a board of 9x20 has: give a size of 13x20 at least"),
    ),
    (
        lambda: first_cells(np.zeros((2, 2)), BOARD, density=0.5, seed=0),
        "a pattern is an (h, w) array of truth values, not float64 of shape (2, 2)",
    ),
    (
        lambda: first_cells(np.zeros(2, bool), BOARD, density=0.5, seed=0),
        "a pattern is an (h, w) array of truth values, not bool of shape (2,)",
    ),
    (
        lambda: read_cells("!c\n.O\n.x*", "a.cells"),
        "a.cells, line 3: 'x' is no cell: '.' is dead, 'O' alive, '!' begins a comment",
    ),
    (
        lambda: read_cells("\n".join(["O"] * 257), "a.cells"),
        "a.cells, line 257: 257 lines of 1 cells are more than 256 a side",
    ),
    (
        lambda: read_cells(".\n" + "O" * 257, "a.cells"),
        "a.cells, line 2: 2 lines of 257 cells are more than 256 a side",
    ),
    (lambda: read_cells("!only this\n", "a.cells"), "a.cells holds no cells"),
    (lambda: read_rle("#C nothing\n\n", "a.rle"), "a.rle has no line 'x = WIDTH, y = HEIGHT', with which cells begin"),
    (
        lambda: read_rle("#C\ny = 3, x = 3\nbo!", "a.rle"),
        "a.rle, line 2: cells begin with a line 'x = WIDTH, y = HEIGHT, rule = B3/S23'",
    ),
    (
        lambda: read_rle("x = 3, y = 3, rule = " + "b" * 200 + "\n", "a.rle"),
        "a.rle, line 1: cells begin with a line 'x = WIDTH, y = HEIGHT, rule = B3/S23'",
    ),
    (
        lambda: read_rle("x = 3, y = 3, rule = B36/S23\nbo!", "a.rle"),
        "a.rle, line 1: the rule 'B36/S23' is not Conway's, B3/S23, the only one here",
    ),
    (lambda: read_rle("x = 0, y = 3\n!", "a.rle"), "a.rle, line 1: x = 0, y = 3: a pattern has 1 to 256 cells a side"),
    (
        lambda: read_rle("x = 3, y = 257\n!", "a.rle"),
        "a.rle, line 1: x = 3, y = 257: a pattern has 1 to 256 cells a side",
    ),
    (
        lambda: read_rle("x = 3, y = 3\n2b o4x!", "a.rle"),
        "a.rle, line 2: '4' in column 5 is none of b, o, $, ! with a count before it",
    ),
    (lambda: read_rle("x = 3, y = 3\n0b!", "a.rle"), "a.rle, line 2: a run of 0 is not one of 1 to 256"),
    (
        lambda: read_rle("x = 3, y = 3\n9999999999999b!", "a.rle"),
        "a.rle, line 2: a run of 999999999999 is not one of 1 to 256",
    ),
    (lambda: read_rle("x = 3, y = 3\n2b2o!", "a.rle"), "a.rle, line 2: a cell lies outside x = 3, y = 3"),
    (lambda: read_rle("x = 3, y = 3\n3$o!", "a.rle"), "a.rle, line 2: a cell lies outside x = 3, y = 3"),
    (
        lambda: read_rle("x = 3, y = 3\nbo$", "a.rle"),
        "a.rle, line 2: the cells do not end with '!': the file is not whole",
    ),
    (
        lambda: nelbo(denoiser(), [np.zeros((0, 4), int)]),
        "there is nothing to score: the text is empty, or no longer than the model's context_len",
    ),
    (lambda: nelbo(denoiser(), [np.zeros((1, 4), int)], draws=0), "draws must be at least 1, not 0"),
    (
        lambda: log_likelihood(denoiser(), np.zeros(2, int), np.zeros(0, int)),
        "the answer is empty: there is nothing to score",
    ),
    (
        lambda: log_likelihood(denoiser(), np.zeros(2, int), np.zeros(3, int)),
        "prompt and answer have 5 tokens; the model takes 4",
    ),
    (
        lambda: log_likelihood(denoiser(), np.zeros(2, int), np.zeros(1, int), draws=0),
        "draws must be at least 1, not 0",
    ),
    (lambda: exact_nelbo(denoiser(), np.zeros(17, int)), "17 tokens are too many to enumerate; 16 are the most"),
]


@pytest.mark.parametrize(("attempt", "message"), UNKNOWN)
def test_what_is_unknown_is_refused_in_these_words(attempt, message):
    with pytest.raises(ConfigError) as error:
        attempt()
    assert str(error.value) == message


@pytest.mark.parametrize(("attempt", "message"), IMPOSSIBLE)
def test_what_cannot_be_is_refused_in_these_words(attempt, message):
    with pytest.raises(UserError) as error:
        attempt()
    assert str(error.value) == message


@pytest.mark.parametrize("rule", ["B3/S23", "b3/s23", "23/3", "Life", "Conway's Life"])
def test_a_pattern_may_name_conways_rule_as_others_do(rule):
    assert read_rle(f"#C a comment\n x=3 , y = 2,rule={rule} \n2b\no$3o!b", "a.rle").tolist() == [
        [False, False, True],
        [True, True, True],
    ]


def test_a_pattern_may_be_as_large_as_a_board():
    assert read_cells("\n".join(["." * 255 + "O"] * 256), "a").sum() == 256
    assert read_rle("x = 256, y = 256\n255$256o!", "a")[255].all()


def test_blanks_behind_a_line_of_cells_are_no_cells():
    assert read_cells("!c\n.O \t\nO\r\n\n", "a").tolist() == [[False, True], [True, False]]
