"""The MLX port's names for what is in `tzd`: `from mlx_model import DiffusionConfig, DiffusionTransformer`.

What differs from the port: the network's arguments and weights have the names of `tzd` (`tzd convert` translates files
of weights); weights are not initialised as the port does; the settings are called `block_size`, `mask_id` and
`time_steps`, and the context's length belongs to the objective; tokens are NumPy arrays. There is no
`DiffusionTransformer.sample` (use `tzd.sample`) and no `MaskedDiffusionSchedule` (use `tzd.diffusion.objective`).
"""

from dataclasses import dataclass

import numpy as np

from tzd.config import TinyConfig
from tzd.corpus import load_tokenizer
from tzd.engines import engine_module

__all__ = ["DiffusionConfig", "DiffusionTransformer", "decode_tokens", "encode_text"]

DiffusionTransformer = engine_module("mlx", "tiny").Tiny  # which says what is missing where MLX is
_ASCII = load_tokenizer({"kind": "ascii", "vocab_size": 128})


@dataclass(frozen=True)
class DiffusionConfig(TinyConfig):
    """The port's architecture: `TinyConfig` with its values as defaults."""

    vocab_size: int = 128
    mask_id: int = 0
    n_layer: int = 10
    n_head: int = 12
    n_embd: int = 768
    time_steps: int = 128


def encode_text(text: str) -> np.ndarray:
    """The codes of a text, (N,) int32; CorpusError for a character above 127, which the port turns into 127."""
    return _ASCII.encode(text)


def decode_tokens(tokens: np.ndarray) -> str:
    """The text of codes (N,)."""
    return _ASCII.decode(tokens)
