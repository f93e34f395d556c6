"""Frames to look at, made without a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tzd.sampling import Frame
from tzd.viewers.panel import Panel

LETTERS = "abcdefghijklmnopqrstuvwxyz .,;!?\n"
PANEL = Panel("letters", tuple(LETTERS))


def denoising(length: int = 24, steps: int = 6, rows: int = 1, given: int = 0, seed: int = 0) -> Iterator[Frame]:
    """A text of chance appears in random order behind `given` characters."""
    random = np.random.default_rng(seed)
    text = random.integers(len(LETTERS), size=(rows, length)).astype(np.int32)
    masked = np.broadcast_to(np.arange(length) >= given, text.shape).copy()
    confidence = (~masked).astype(np.float32)
    order = given + random.permutation(length - given)
    for step, columns in enumerate([order[:0], *np.array_split(order, steps)]):
        revealed = np.zeros_like(masked)
        revealed[:, columns] = True
        masked = masked & ~revealed
        confidence = np.where(revealed, random.random(text.shape), confidence).astype(np.float32)
        tokens = np.where(masked, len(LETTERS), text).astype(np.int32)
        yield Frame(step, tokens, masked.copy(), revealed, confidence, step, np.full(rows, length))


def blinking(generations: int = 4) -> Iterator[Frame]:
    """A blinker on 5 × 5 characters: each generation erases what lives, and writes it."""
    tokens, everywhere = np.zeros((1, 25), dtype=np.int32), np.ones((1, 25), dtype=np.float32)
    nothing = np.zeros((1, 25), dtype=bool)
    for generation in range(generations):
        alive = np.zeros((5, 5), dtype=bool)
        alive[(2, slice(1, 4)) if generation % 2 else (slice(1, 4), 2)] = True
        live = alive.reshape(1, -1)
        common = {"lengths": np.array([25]), "alive": live, "generation": generation}
        blank = np.where(live, len(LETTERS), tokens)
        yield Frame(2 * generation, blank, live, nothing, np.where(live, 0, everywhere), generation, **common)
        tokens = np.where(live, generation + 1, tokens).astype(np.int32)
        yield Frame(2 * generation + 1, tokens, nothing, live, everywhere, generation + 1, **common)


def alone(frames: Iterator[Frame]) -> Iterator[tuple[Frame, ...]]:
    """The moments of a run that is shown by itself."""
    return ((frame,) for frame in frames)
