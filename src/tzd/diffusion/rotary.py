"""Rotary positions (RoFormer, arXiv:2104.09864): the tables that every engine and file format share."""

from __future__ import annotations

import numpy as np


def rotary_tables(length: int, width: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the angles p · base^(−2i / width), by position p and pair i.

    Args:
        length: number of positions.
        width: of a head; even.
        base: of the frequencies.

    Returns:
        Two (length, width / 2) float32 arrays, rounded once: in float32 the angles themselves would be off.
    """
    frequency = base ** (-np.arange(0, width, 2) / width)
    angle = np.outer(np.arange(length), frequency)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def float32_angles(length: int, width: int, base: float) -> np.ndarray:
    """The angles p · base^(−2i / width), each step of them rounded to float32, as SMDM and LitGPT compute them.

    The last position of 2048 is off by up to 1e-4; a model that was trained with these angles wants them.

    Args:
        length: number of positions.
        width: of what is rotated of a head; even.
        base: of the frequencies.

    Returns:
        (length, width / 2) float32.
    """
    exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    power = np.float32(base ** exponent.astype(np.float64))  # NumPy's own power of float32 is less exact
    frequency = np.float32(1) / power
    return np.outer(np.arange(length, dtype=np.float32), frequency)
