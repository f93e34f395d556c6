"""What lives first on a board: known patterns, random cells, the parity of a text, or a file."""

from __future__ import annotations

import numpy as np

from tzd.errors import ConfigError, UserError, nearest
from tzd.randomness import uniforms
from tzd.sampling.pattern_files import ENDINGS, LONGEST_SIDE, read_pattern, read_rle

SMALLEST_SIDE, LARGEST_SIDE = 3, LONGEST_SIDE  # of a board: cells have eight neighbours, and a board is one batch

_KNOWN = {  # in RLE: run lengths of dead (b) and living (o) cells, $ ends a line
    "block": "x=2,y=2\n2o$2o!",
    "blinker": "x=3,y=1\n3o!",
    "beacon": "x=4,y=4\n2o$2o$2b2o$2b2o!",
    "toad": "x=4,y=2\nb3o$3o!",
    "pulsar": "x=13,y=13\n2b3o3b3o2$o4bobo4bo$o4bobo4bo$o4bobo4bo$2b3o3b3o2$"
    "2b3o3b3o$o4bobo4bo$o4bobo4bo$o4bobo4bo2$2b3o3b3o!",
    "pentadecathlon": "x=10,y=3\n2bo4bo$2ob4ob2o$2bo4bo!",
    "glider": "x=3,y=3\nbo$2bo$3o!",
    "spaceship": "x=5,y=4\nbo2bo$o$o3bo$4o!",
    "r-pentomino": "x=3,y=3\nb2o$2o$bo!",
    "acorn": "x=7,y=3\nbo$3bo$2o2b3o!",
    "diehard": "x=8,y=3\n6bo$2o$bo3b3o!",
    "gosper-gun": "x=36,y=9\n24bo$22bobo$12b2o6b2o12b2o$11bo3bo4b2o12b2o$2o8bo5bo3b2o$"
    "2o8bo3bob2o4bobo$10bo5bo7bo$11bo3bo$12b2o!",
}
NAMES = ("text", "random", *_KNOWN)


def first_cells(pattern: str | np.ndarray, tokens: np.ndarray, *, density: float, seed: int) -> np.ndarray:
    """The living cells with which a board begins.

    Args:
        pattern: "text", cells by the parity of token + a random number in 0..255, as Tiny Diffusion's MLX port has it;
            "random"; a known pattern or the name of a file, or cells (h, w) bool, which are put in the middle.
        tokens: (H, W) int, the board's text.
        density: share of the cells that live (random).
        seed: of the random numbers.

    Returns:
        (H, W) bool.

    Raises:
        UserError: there is no such pattern, its file cannot be used, or it is larger than the board.
    """
    if isinstance(pattern, np.ndarray):
        return centred(pattern, tokens.shape, "the pattern")
    if pattern == "text":
        offset = np.floor(256 * uniforms(seed, "life-text", 0, *tokens.shape)).astype(np.int64)
        return (tokens + offset) % 2 == 1
    if pattern == "random":
        return random_cells(tokens.shape, density=density, seed=seed)
    if pattern in _KNOWN:
        return centred(read_rle(_KNOWN[pattern], pattern), tokens.shape, f"the pattern '{pattern}'")
    if pattern.lower().endswith(ENDINGS):
        return centred(read_pattern(pattern), tokens.shape, pattern)
    raise ConfigError(
        f"unknown pattern '{pattern}'{nearest(pattern, NAMES)}; files of patterns end in {' or '.join(ENDINGS)}"
    )


def random_cells(shape: tuple[int, ...], *, density: float, seed: int, generation: int = 0) -> np.ndarray:
    """(H, W) bool, each cell alive with probability `density`."""
    height, width = shape
    return uniforms(seed, "life-random", generation, height, width) < density


def centred(cells: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    """(H, W) bool: `cells` (h, w) bool in the middle of a board; UserError, about `what`, if they do not fit it."""
    if cells.ndim != 2 or cells.dtype != bool:
        raise UserError(f"a pattern is an (h, w) array of truth values, not {cells.dtype} of shape {cells.shape}")
    (height, width), (lines, columns) = cells.shape, shape
    if height > lines or width > columns:
        raise UserError(
            f"{what} has {height} lines of {width} cells, more than a board of {lines}x{columns} has: give a size of"
            f" {max(height, lines)}x{max(width, columns)} at least"
        )
    board = np.zeros(shape, dtype=bool)
    top, left = (lines - height) // 2, (columns - width) // 2
    board[top : top + height, left : left + width] = cells
    return board
