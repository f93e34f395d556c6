"""Weights in a quarter of their size: matrices of whole numbers from -127 to 127, with a scale for each row.

A matrix NAME is stored as int8, its scales beside it as `NAME.scale`, float32; its values are number times scale. All
else (norms, biases) is small and stays float32. What this costs a model is in docs/checkpoints.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tzd.errors import CheckpointError
from tzd.printable import printable

_LARGEST = 127  # and not -128: zero stays in the middle


def to_eight_bits(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that a file of weights in eight bits holds.

    Args:
        weights: name -> float32 array, all numbers finite.

    Returns:
        Name -> array: (rows, columns) int8 and `NAME.scale` (rows,) float32 for a matrix, every other array as it is.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        if weight.ndim != 2 or 0 in weight.shape:
            arrays[name] = weight
            continue
        scale = np.abs(weight).max(axis=1) / np.float32(_LARGEST)
        divisor = np.where(scale > 0, scale, 1)[:, None]  # a row of zeros, or of numbers too small to be divided
        arrays[name] = np.clip(np.rint(weight / divisor), -_LARGEST, _LARGEST).astype(np.int8)
        arrays[_scale(name)] = scale
    return arrays


def from_eight_bits(arrays: Mapping[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
    """The weights of a file, whichever way its matrices are stored.

    Args:
        arrays: what it holds, by name; without int8 arrays they are returned as they are.
        file: it, for messages.

    Raises:
        CheckpointError: an int8 array is no matrix, or has no scale for each of its rows.
    """
    stored = {name for name, array in arrays.items() if array.dtype == np.int8}
    scales = {_scale(name) for name in stored}
    weights = {name: array for name, array in arrays.items() if name not in stored | scales}
    for name in sorted(stored):
        array, scale = arrays[name], arrays.get(_scale(name))
        if scale is None or scale.dtype != np.float32 or array.ndim != 2 or scale.shape != array.shape[:1]:
            raise CheckpointError(
                f"{file} holds {printable(name)} in eight bits without a float32 scale for each of its rows"
                f" ({printable(_scale(name))}); get the checkpoint again"
            )
        with np.errstate(all="ignore"):  # a scale that is not finite is found with the weights
            weights[name] = array * scale[:, None]
    return weights


def _scale(name: str) -> str:
    return f"{name}.scale"
