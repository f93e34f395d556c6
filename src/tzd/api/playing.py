"""Conway's Game of Life on a text that a model writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tzd.api.model import Model
from tzd.api.numbers import whole
from tzd.api.showing import Run, shown
from tzd.api.writing import Ban, banned_tokens
from tzd.errors import ConfigError, UserError
from tzd.mapping import require
from tzd.sampling import Frame, Sampler
from tzd.sampling import sampler as make_sampler
from tzd.sampling.life import play
from tzd.sampling.patterns import LARGEST_SIDE, SMALLEST_SIDE, first_cells, random_cells

STEPS = 3  # denoiser passes for a generation, where nothing says how many
OPENING_STEPS = 48  # for what is blank first, where the model brings no way of its own
_OF_BOTH = ("temperature", "top_p", "top_k_tokens")  # settings that hold for what is blank first, too


def life(
    model: Model,
    *,
    text: str | Sequence[int] | np.ndarray | None = None,
    pattern: str | np.ndarray = "text",
    size: int | tuple[int, int] = 32,
    wrap: bool = True,
    generations: int | None = None,
    density: float = 0.35,
    reseed: bool = False,
    sampler: str = "llada",
    seed: int = 0,
    ban: Ban = (),
    **settings: Any,
) -> Iterator[Frame]:
    """Plays the Game of Life on a board of text; each generation, the model writes the living cells anew.

    A board is a text, line by line. In each generation it makes a step by Conway's rule; then the cells that live are
    erased, and denoised conditioned on all others. A board longer than the model's window is seen in windows that
    overlap, so that every cell has a quarter of a window on both sides.

    Args:
        model: what `load` returned.
        text: what is on the board first, a text or (N,) tokens: its beginning, or the whole again and again. None has
            the model write it, as it does what is [MASK] in a text: as it is best sampled, where its checkpoint says
            so, or else in 48 passes at most.
        pattern: the cells that live first. "text": half of them, by the parity of their tokens and random numbers;
            "random"; "glider", "r-pentomino", "gosper-gun", "pulsar" and the like, or a file (`.cells`, `.rle`), in the
            middle; or cells, (h, w) bool.
        size: of the board, (lines, columns), or one number for both.
        wrap: whether the board is a torus, and its text a ring.
        generations: how many to play; None goes on while anything lives.
        density: share of the cells that live (random, and where a board begins anew).
        reseed: whether a board that is dead, still or does nothing but blink begins anew with random cells.
        sampler: a name; see `samplers`. What commits to its surest tokens first writes best in so few passes.
        seed: of every draw.
        ban: what is not to be written: single tokens, as texts or as their numbers.
        settings: the sampler's own; `steps` is how many denoiser passes a generation takes at most, 3 if not given.

    Yields:
        (1, lines · columns) frames, with `alive` and `generation`: one when cells have been erased, and one for each
        denoiser pass.

    Raises:
        UserError: a setting, a text or a pattern that cannot be used, or a model whose window is shorter than a line.
    """
    shape = _shape(size, model)
    require(0 <= density <= 1, f"density must lie in [0, 1], not {density}")
    seed = whole("seed", seed, 0)
    rule = make_sampler(sampler, **settings)
    if "steps" not in settings and rule.budget is not None:
        rule = replace(rule, steps=STEPS)
    tokens = _board(model, text, shape)

    def begin(written: np.ndarray) -> np.ndarray:
        return first_cells(pattern, written, density=density, seed=seed)

    def again(generation: int) -> np.ndarray:
        return random_cells(shape, density=density, seed=seed, generation=generation)

    begin(tokens)  # what is wrong with a pattern is said before anything is written
    frames = play(
        model.denoiser,
        tokens,
        begin,
        sampler=rule,
        opening=_opening(model, rule, settings),
        generations=None if generations is None else whole("generations", generations, 0),
        again=again if reseed else None,
        wrap=wrap,
        banned=banned_tokens(model, ban),
        seed=seed,
    )
    named = Path(pattern).name if isinstance(pattern, str) else "cells"
    run = Run.of(model, shape[1], sampler=sampler, settings=settings, seed=seed, pattern=named, wrap=wrap)
    return shown(frames, run)


def _opening(model: Model, rule: Sampler, settings: Mapping[str, Any]) -> Sampler:
    """How blanks are written before the game: not by its sampler, as surest tokens alone make a poor whole text."""
    if model.sampling is None:
        return replace(Sampler(steps=OPENING_STEPS), **{key: getattr(rule, key) for key in _OF_BOTH})
    name, own = model.way(None, {key: settings[key] for key in _OF_BOTH if key in settings})
    return make_sampler(name, **{**own, "cache": None})  # windows over a board keep nothing


def _shape(size: int | tuple[int, int], model: Model) -> tuple[int, int]:
    """(H, W) of a board that the model can write."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ConfigError(f"size is (lines, columns), not {size}")
    lines, columns = (whole("a side of the board", side, SMALLEST_SIDE) for side in sides)
    if max(lines, columns) > LARGEST_SIDE:
        raise ConfigError(f"a board of {lines}x{columns} is too large: {LARGEST_SIDE} cells a side at most")
    if columns > model.denoiser.seq_len:
        raise UserError(
            f"the model's window of {model.denoiser.seq_len} tokens is shorter than a line of the board,"
            f" {columns}: give a size of {lines}x{model.denoiser.seq_len} at most"
        )
    return lines, columns


def _board(model: Model, text: str | Sequence[int] | np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) int, a board with a text on it."""
    if text is None:
        return np.full(shape, model.mask_id)
    row = model.encode(text) if isinstance(text, str) else np.asarray(text)
    if row.ndim != 1 or not row.size or row.dtype.kind not in "iu":
        raise UserError("the text of a board is a text that is not empty, or (N,) tokens")
    return np.resize(row, shape)
