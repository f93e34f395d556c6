"""The weights that training begins with: the same on every engine."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tzd.randomness import integer, normals


def initial_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Initialises a `tiny` network as its PyTorch original does.

    Matrices are normal with standard deviation 1/√fan_in · min(1, √(fan_out/fan_in)) (arXiv:2310.17813), embeddings
    standard normal; output projections and head start at zero, so that the first prediction is uniform.

    Args:
        shapes: canonical name -> shape.
        seed: of the run.

    Returns:
        Canonical name -> float32 array. Each depends on the seed, its name and its shape alone.
    """
    return {name: _initial(name, shape, integer(seed, "weights", 0)) for name, shape in shapes.items()}


def _initial(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name == "head.weight" or name.endswith(("attention.out.weight", "mlp.down.weight")):
        return np.zeros(shape, np.float32)
    draws = normals(seed, name, 0, shape)
    if "embedding" in name:
        return draws
    fan_out, fan_in = shape
    if name.endswith("qkv.weight"):
        fan_out //= 3  # three square matrices
    return draws * np.float32(min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in))
