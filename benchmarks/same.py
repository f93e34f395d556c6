"""The same model for all contenders: our architecture, and weights under our names and under those of a plain loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.sizes import HEADS, LAYERS, LENGTH, VOCABULARY, WIDTH
from tzd.config import TinyConfig

CONFIG = TinyConfig(vocab_size=VOCABULARY, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, block_size=LENGTH)


def weights() -> dict[str, np.ndarray]:
    """Canonical names -> float32, the same at every call; none of them is without effect."""
    shapes = {"token_embedding.weight": (VOCABULARY + 1, WIDTH), "head.weight": (VOCABULARY, WIDTH)}
    for block in (f"blocks.{i}" for i in range(LAYERS)):
        shapes[f"{block}.attention.qkv.weight"] = (3 * WIDTH, WIDTH)
        shapes[f"{block}.attention.out.weight"] = (WIDTH, WIDTH)
        shapes[f"{block}.mlp.up.weight"] = (4 * WIDTH, WIDTH)
        shapes[f"{block}.mlp.down.weight"] = (WIDTH, 4 * WIDTH)
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape, np.float32) * WIDTH**-0.5 for name, shape in shapes.items()}


def plainly_named(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same for a model that keeps queries, keys and values apart, and has no module for the MLP."""
    named = {}
    for name, value in weights.items():
        plain = name.replace("mlp.", "").replace("token_embedding", "embedding")
        if "qkv" in plain:
            named |= {plain.replace("qkv", part): rows for part, rows in zip("qkv", np.split(value, 3), strict=True)}
        else:
            named[plain] = value
    return named
