"""`tzd.stream` by the default sampler, in one precision, that takes turns."""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from typing import Any

import numpy as np

import tzd
from tzd.bench.machine import dtype_of
from tzd.bench.peaks import median_seconds
from tzd.bench.sizes import Cell
from tzd.bench.turns import serve

_LOGITS = 2**26  # numbers that a pass over blanks alone may return; a sampler takes larger ones some rows at a time


def main(cell: Cell, folder: str, precision: str, steps: int, rounds: int) -> None:
    """Takes turns.

    Args:
        cell: how many texts are written, and how long they are.
        folder: of the checkpoint.
        precision: one of `tzd.engines.inputs.PRECISIONS`.
        steps: of the sampler.
        rounds: turns.
    """
    model = tzd.load(folder, engine=cell.engine, precision=precision)
    blank = np.full((cell.batch, cell.length), model.mask_id, np.int32)
    seeds = itertools.count()
    half = dtype_of(precision, cell.engine) == "bfloat16"
    request: dict[str, Any] = {"length": cell.length, "batch_size": cell.batch, "steps": steps}

    def passed() -> None:
        model.denoiser.xp.to_numpy(model.logits(blank))

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        (last,) = deque(tzd.stream(model, **request, seed=next(seeds)), maxlen=1)  # frames are not kept
        numbers = {"seconds": (time.perf_counter() - start) / last.nfe, "nfe": last.nfe}
        if blank.size * cell.vocab <= _LOGITS:
            numbers["pass_seconds"] = median_seconds(passed)
        return numbers

    serve(turn, rounds, **turn(), bf16=half)


if __name__ == "__main__":
    main(Cell.parse(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
