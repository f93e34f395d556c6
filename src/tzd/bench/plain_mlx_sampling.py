"""Ancestral sampling on MLX as a tutorial would write it: one text, 256 steps, every pass computes every logit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import mlx.core as mx

from tzd.bench.plain_mlx import Plain
from tzd.bench.sizes import PLAIN_STEPS, Cell
from tzd.bench.turns import serve
from tzd.bench.weights import plainly_named, weights


def write(model: Callable[[mx.array], mx.array], shape: tuple[int, int], mask_id: int, passes: int) -> mx.array:
    """Tokens (B, L) after the first passes of the reverse process, t from 1 to 0 in `PLAIN_STEPS` equal steps."""
    tokens = mx.full(shape, mask_id, mx.int32)
    for step in range(passes):
        t, s = 1 - step / PLAIN_STEPS, 1 - (step + 1) / PLAIN_STEPS
        drawn = mx.random.categorical(model(tokens)).astype(mx.int32)
        revealed = (tokens == mask_id) & (mx.random.uniform(shape=shape) < (t - s) / t)
        tokens = mx.where(revealed, drawn, tokens)
        mx.eval(tokens)
    return tokens


def main(cell: Cell, passes: int, rounds: int) -> None:
    """Takes turns, of so many passes each; all passes cost alike."""
    architecture = cell.model
    model = Plain(architecture)
    named = plainly_named(architecture, weights(architecture))
    model.load_weights([(name, mx.array(value)) for name, value in named.items()])

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        write(model, (1, cell.length), cell.vocab, passes)
        return {"seconds": (time.perf_counter() - start) / passes, "nfe": passes}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(Cell.parse(sys.argv[1]), *map(int, sys.argv[2:]))
