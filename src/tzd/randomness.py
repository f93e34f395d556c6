"""Randomness that is counted, not carried.

Every draw is a pure function of (seed, stream, step, row): there is no generator whose state could be lost when
a run is interrupted, and a process that handles rows 8 to 15 of a batch sees just what a single process would
have seen there. The generator is NumPy's Philox-4x64 (Salmon et al., 2011), whose counter is addressed directly.
"""

from __future__ import annotations

import zlib

import numpy as np

_WORDS = 4  # 64-bit words that one tick of the Philox counter yields
_MASK64 = (1 << 64) - 1


def _generator(seed: int, stream: str, step: int, tick: int) -> np.random.Generator:
    key = np.array([seed & _MASK64, zlib.crc32(stream.encode())], dtype=np.uint64)
    counter = np.array([tick, step, 0, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def uniforms(seed: int, stream: str, step: int, rows: int, width: int, *, first_row: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1) that depend on nothing but what is given.

    Args:
        seed: the seed of the run or sample.
        stream: what the numbers are for; different streams are independent.
        step: the step of the run or sampler.
        rows: number of rows wanted.
        width: numbers per row. A row's numbers depend on its index and on `width`, not on `rows`.
        first_row: index of the first row wanted.

    Returns:
        (rows, width) float64.
    """
    ticks = -(-width // _WORDS)
    draws = _generator(seed, stream, step, first_row * ticks).random((rows, ticks * _WORDS))
    return draws[:, :width]


def normals(seed: int, stream: str, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that depend on nothing but what is given. Returns (*shape,) float32."""
    return _generator(seed, stream, step, 0).standard_normal(shape, dtype=np.float32)


def permutation(seed: int, stream: str, step: int, n: int) -> np.ndarray:
    """A permutation of range(n) that depends on nothing but what is given. Returns (n,) int64."""
    return _generator(seed, stream, step, 0).permutation(n)


def integer(seed: int, stream: str, step: int, row: int = 0) -> int:
    """An integer in [0, 2^62) that depends on nothing but what is given: a seed for another library's generator."""
    return int(_generator(seed, stream, step, row).integers(1 << 62))
