"""The same seed plays the same Game of Life on the same text, in this version as in earlier ones."""

import zlib
from itertools import pairwise

import numpy as np
import pytest

from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.sampling import sampler
from tzd.sampling.life import period, play
from tzd.sampling.patterns import first_cells, random_cells

V, SHAPE = 7, (6, 9)
BLANK = np.full(SHAPE, V)


def logits(tokens):
    left, right = np.roll(tokens, 1, axis=1), np.roll(tokens, -1, axis=1)
    return 3 * np.sin((1 + 2 * left + 3 * right)[..., None] * (1 + np.arange(V)) * 0.7)


def game(tokens, pattern, window=16, **settings):
    denoiser = FunctionDenoiser(logits, V, window, time_conditioned=True, time_steps=9, context_len=2)

    def begin(text):
        return first_cells(pattern, text, density=0.4, seed=3)

    rules = {"sampler": sampler("llada-random", steps=2), "opening": sampler("ancestral", steps=5)}
    return list(play(denoiser, tokens, begin, **rules, **settings, seed=3))


def summary(frames):
    checksum = 0
    for frame in frames:
        counted = np.array([frame.step, frame.nfe, frame.generation, *frame.tokens[0], *frame.alive[0]])
        checksum = zlib.crc32(counted.astype("<i4").tobytes(), checksum)
        assert frame.tokens.shape == frame.alive.shape == frame.confidence.shape == (1, 54)
    return len(frames), frames[-1].step, frames[-1].nfe, frames[-1].generation, checksum


GAMES = {
    "glider, on a ring": (13, 8, 8, 4, 56974895),
    "glider, that falls off": (16, 10, 10, 5, 2241304639),
    "an empty board": (15, 11, 11, 3, 1315915917),
    "a board that begins anew": (10, 6, 6, 3, 1222954172),
    "a text with blanks": (11, 9, 8, 2, 852948584),
}


def played(name):
    text = np.arange(54).reshape(SHAPE) % V
    if name == "glider, on a ring":
        return game(text, "glider", generations=4)
    if name == "glider, that falls off":
        return game(text, "glider", wrap=False, generations=5)
    if name == "an empty board":
        return game(BLANK, "r-pentomino", generations=3, banned=np.arange(V) == 2)
    if name == "a board that begins anew":
        return game(
            text, "block", generations=3, again=lambda g: random_cells(SHAPE, density=0.2, seed=5, generation=g)
        )
    return game(np.where(text == 3, V, text), "text", generations=2, window=60)


@pytest.mark.parametrize("name", GAMES)
def test_a_seed_plays_what_it_always_played(name):
    assert summary(played(name)) == GAMES[name]


def test_cells_that_were_not_alive_keep_their_token_and_its_probability():
    frames = played("glider, on a ring")
    for before, after in pairwise(frames):
        still = ~after.alive
        assert (before.tokens == after.tokens)[still].all()
        if before.generation != after.generation:
            assert (before.confidence == after.confidence)[still].all()
            assert after.masked.sum() == after.alive.sum()


def test_random_cells_are_those_that_they_always_were():
    cells = [first_cells(name, BLANK, density=0.3, seed=2) for name in ("text", "random", "toad")]
    rows = ["".join(".O"[int(cell)] for cell in grid.ravel()) for grid in cells]
    assert rows == [
        "O..OO..OOOO.OOOO.O..OO..OOOO.O....O.O..O.O.OOOO..O.OO.",
        ".O.OOOO.O...O...O.OO......O..O..O.....O.OO..O....OO.O.",
        ".....................OOO.....OOO......................",
    ]
    other = random_cells(SHAPE, density=0.3, seed=2, generation=1)
    assert random_cells(SHAPE, density=0.3, seed=2).tolist() == cells[1].tolist() != other.tolist()


def test_a_board_repeats_after_its_period_or_not_within_the_longest():
    toad, still = first_cells("toad", BLANK, density=0, seed=0), first_cells("block", BLANK, density=0, seed=0)
    assert (period(toad), period(still), period(toad, longest=1), period(toad, longest=2)) == (2, 1, None, 2)
    assert period(first_cells("glider", np.zeros((8, 8)), density=0, seed=0), longest=31) is None
    assert period(first_cells("glider", np.zeros((8, 8)), density=0, seed=0), longest=32) == 32
