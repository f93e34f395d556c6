"""Conway's Game of Life, played on a text: the living cells are what a denoiser writes anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from tzd.diffusion.denoiser import Denoiser
from tzd.randomness import integer
from tzd.sampling.canvas import Frame
from tzd.sampling.combination import Sampler
from tzd.sampling.loop import stream
from tzd.sampling.tiles import TiledDenoiser

_BLINKING = 2  # a board that repeats within so many generations has nothing more to show


def step(alive: np.ndarray, *, wrap: bool = True) -> np.ndarray:
    """The next generation: born with three neighbours, alive on with two or three (B3/S23).

    Args:
        alive: (H, W) bool.
        wrap: whether the board is a torus; else nothing lives beyond its edges.

    Returns:
        (H, W) bool.
    """
    height, width = alive.shape
    padded = np.pad(alive.astype(np.uint8), 1, mode="wrap" if wrap else "constant")
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    neighbours = np.sum(around, axis=0)
    return (neighbours == 3) | (alive & (neighbours == 2))


def period(alive: np.ndarray, *, wrap: bool = True, longest: int = 256) -> int | None:
    """After how many generations a board is as it was: 1 where nothing changes; None if not within the `longest`."""
    later = alive
    for generation in range(1, longest + 1):
        later = step(later, wrap=wrap)
        if np.array_equal(later, alive):
            return generation
    return None


def play(
    denoiser: Denoiser,
    tokens: np.ndarray,
    begin: Callable[[np.ndarray], np.ndarray],
    *,
    sampler: Sampler,
    opening: Sampler,
    generations: int | None = None,
    again: Callable[[int], np.ndarray] | None = None,
    wrap: bool = True,
    banned: np.ndarray | None = None,
    seed: int = 0,
) -> Iterator[Frame]:
    """A game, generation by generation.

    Generation 0 is the text; where it has blanks, they are written first. In each later one the board makes a step, the
    cells that live in it are erased, and they are written anew, conditioned on all others.

    Args:
        denoiser: what writes; in overlapping windows where the board is longer than its own.
        tokens: (H, W) int, the text, `mask_id` at the blanks.
        begin: takes the written text, (H, W) int, and returns the first living cells, (H, W) bool.
        sampler: how a generation's living cells are written.
        opening: how the blanks of generation 0 are.
        generations: how many follow it; None goes on while anything lives.
        again: living cells (H, W) with which the board begins anew in a generation, once it is dead, still, or does
            nothing but blink. None ends the game when the last cell has died.
        wrap: whether the board is a torus; its text then goes on at the beginning where it ends.
        banned: (V,) bool, tokens that are not to be written.
        seed: of every draw.

    Yields:
        (1, H·W) frames: one when cells have been erased, and one for each step that writes. Steps and denoiser calls
        are counted through all generations.
    """
    tiled, tokens = TiledDenoiser(denoiser, tokens.size, wrap=wrap), np.asarray(tokens)
    opened = stream(tiled, tokens.reshape(1, -1), sampler=opening, banned=banned, seed=seed)
    for frame in opened:
        shown = replace(frame, alive=np.zeros(frame.masked.shape, dtype=bool), generation=0)
        if frame.masked.any():  # with the last frame, life begins
            yield shown
    alive = begin(shown.tokens.reshape(tokens.shape))
    shown = replace(shown, alive=alive.reshape(1, -1))
    yield _copy(shown)
    generation = 0
    while generation != generations and (again is not None or alive.any()):
        generation += 1
        over = again is not None and period(alive, wrap=wrap, longest=_BLINKING) is not None
        alive = again(generation) if over and again is not None else step(alive, wrap=wrap)
        frozen, before = ~alive.reshape(1, -1), shown
        blank = np.where(frozen, before.tokens, denoiser.mask_id)
        draws = integer(seed, "life", generation)
        for frame in stream(tiled, blank, frozen=frozen, sampler=sampler, banned=banned, seed=draws):
            shown = _later(frame, before, ~frozen, generation)
            yield _copy(shown)


def _copy(frame: Frame) -> Frame:
    """A frame for the reader, who may write on it; the game goes on from the other."""
    assert frame.alive is not None
    return replace(frame, tokens=frame.tokens.copy(), confidence=frame.confidence.copy(), alive=frame.alive.copy())


def _later(frame: Frame, before: Frame, alive: np.ndarray, generation: int) -> Frame:
    """A generation's frame as one of the whole game, `before` being the last one of the generation before it."""
    return replace(
        frame,
        step=before.step + frame.step,
        nfe=before.nfe + frame.nfe,
        confidence=np.where(alive, frame.confidence, before.confidence),
        alive=alive,
        generation=generation,
    )
