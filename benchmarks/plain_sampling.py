"""Sampling on MLX as a tutorial would do it: every pass computes, and draws, every position of the window."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import mlx.core as mx

from benchmarks.plain_mlx import Plain
from benchmarks.same import plainly_named, weights
from benchmarks.sizes import LENGTH, VOCABULARY
from benchmarks.turns import serve


def write(model: Callable[[mx.array], mx.array], batch: int, passes: int) -> mx.array:
    """Tokens (batch, LENGTH) from nothing: each pass masks a share of what is there anew, and fills all blanks."""
    tokens = mx.zeros((batch, LENGTH), mx.int32)
    for t in range(passes, 0, -1):
        masked = mx.random.uniform(shape=tokens.shape) < t / passes
        drawn = mx.random.categorical(model(mx.where(masked, VOCABULARY, tokens)))
        tokens = mx.where(masked, drawn.astype(mx.int32), tokens)
        mx.eval(tokens)
    return tokens


def network() -> Plain:
    """The plain model with the weights that ours has."""
    model = Plain()
    model.load_weights([(name, mx.array(value)) for name, value in plainly_named(weights()).items()])
    return model


def main(batch: int, passes: int, rounds: int) -> None:
    model = network()

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        write(model, batch, passes)
        return {"seconds": (time.perf_counter() - start) / passes}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
