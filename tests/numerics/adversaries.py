"""Denoisers that answer what no sensible model does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tzd.diffusion.denoiser import FunctionDenoiser

_LARGEST = np.finfo(np.float32).max


def _always(row: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The same logits (V,) at every position of every canvas."""
    return lambda tokens: np.broadcast_to(row.astype(np.float32), (*tokens.shape, len(row)))


class _Fickle:
    """Sure of another token at every pass."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size, self.calls = vocab_size, 0

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        self.calls += 1
        logits = np.full((*tokens.shape, self.vocab_size), -40.0, np.float32)
        logits[..., self.calls % self.vocab_size] = 40
        return logits


def _noise(vocab_size: int, scale: float, dtype: type) -> Callable[[np.ndarray], np.ndarray]:
    """Other logits at every position, the same for the same canvas."""

    def logits(tokens: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(int(tokens.sum()))
        return (scale * rng.standard_normal((*tokens.shape, vocab_size))).astype(dtype)

    return logits


# name -> a denoiser's function, for V tokens
ADVERSARIES: dict[str, Callable[[int], Callable[[np.ndarray], np.ndarray]]] = {
    "constant, so that no confidence reaches a threshold": lambda v: _always(np.zeros(v)),
    "one at 1e30, the rest at -1e30": lambda v: _always(np.where(np.arange(v) == v - 1, 1e30, -1e30)),
    "one at the largest number, the rest at the smallest": lambda v: _always(
        np.where(np.arange(v) == 0, _LARGEST, -_LARGEST)
    ),
    "all at the smallest number": lambda v: _always(np.full(v, -_LARGEST)),
    "-inf in all but one": lambda v: _always(np.where(np.arange(v) == v - 1, 0.0, -np.inf)),
    "sure of another token at every pass": _Fickle,
    "noise in half precision, probabilities that underflow": lambda v: _noise(v, 1000, np.float16),
    "differences that underflow": lambda v: _noise(v, 1e-38, np.float32),
}


def adversary(name: str, vocab_size: int, seq_len: int) -> FunctionDenoiser:
    return FunctionDenoiser(ADVERSARIES[name](vocab_size), vocab_size, seq_len)
