"""`tzd.stream` on MLX by the rule of the plain sampler, `renoise`, that takes turns."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import tzd
from benchmarks.same import CONFIG, weights
from benchmarks.sizes import LENGTH
from benchmarks.turns import serve
from tzd.api import Model
from tzd.engines import engine_module


def main(batch: int, passes: int, rounds: int) -> None:
    load = engine_module("mlx", "denoiser").load_denoiser
    model = Model(load(CONFIG, weights(), context_len=0, where=Path("benchmarks")))
    seeds = itertools.count()

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        request = {"length": LENGTH, "batch_size": batch, "sampler": "renoise", "steps": passes, "seed": next(seeds)}
        *_, last = tzd.stream(model, **request)
        return {"seconds": (time.perf_counter() - start) / last.nfe}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
