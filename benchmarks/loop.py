"""What a sampler costs beside its denoiser: everything but the passes, as a share of them, in one run.

python -m benchmarks loop --rounds 3
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tzd.bench.sizes import Cell
from tzd.bench.weights import weights
from tzd.diffusion.denoiser import Denoiser
from tzd.engines import engine_module
from tzd.sampling import descriptions, sampler, settings_of, stream

BATCHES, LENGTH = (1, 64), 256
STEPS = {1: 32, 64: 4}  # enough passes to tell at batch 1, few enough to wait for at 64


class Timed:
    """A denoiser that knows how long its passes took."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)

    def forward(self, tokens: np.ndarray, **inputs: Any) -> Any:
        start = time.perf_counter()
        answer = self._denoiser.forward(tokens, **inputs)
        self.seconds += time.perf_counter() - start
        return answer


def measure(rounds: int) -> dict[str, Any]:
    """Has every sampler write whole texts with the 10.7M model.

    Args:
        rounds: texts of each, and batches of texts.

    Returns:
        Plain data: of each sampler and batch the milliseconds of a pass and of all else for each pass, and their ratio,
        the median of the rounds.
    """
    load = engine_module("torch", "denoiser").load_denoiser
    model = Cell("torch", "10.7M", 66, 1, LENGTH).model
    denoiser = load(model, weights(model), context_len=0, where=Path("benchmarks"))
    rows = []
    for batch in BATCHES:
        _write(denoiser, "ancestral", batch, 0)  # warm-up
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in descriptions()}
        for seed in range(rounds):
            for name, figures in turns.items():
                figures.append(_write(denoiser, name, batch, seed))
        for name, figures in turns.items():
            inside, beside = (statistics.median(column) for column in zip(*figures, strict=True))
            share = statistics.median(rest / own for own, rest in figures)
            rows.append({"sampler": name, "batch": batch, "pass_ms": inside, "beside_ms": beside, "share": share})
    return {"rows": rows}


def _write(denoiser: Denoiser, name: str, batch: int, seed: int) -> tuple[float, float]:
    """Milliseconds of a pass, and of what else was done for each."""
    known, steps = settings_of(name), STEPS[batch]
    settings = {"steps": steps} if "steps" in known else {}
    if "k" in known:
        settings["k"] = LENGTH // steps
    timed = Timed(denoiser)
    canvas = np.full((batch, LENGTH), denoiser.mask_id)
    start = time.perf_counter()
    frames = stream(timed, canvas, sampler=sampler(name, **settings), seed=seed)
    # a count that the model decides, of one that knows nothing, takes a pass a token: some of them will do
    (last,) = deque(islice(frames, 2 * steps + 1), maxlen=1)
    total = time.perf_counter() - start
    return 1000 * timed.seconds / last.nfe, 1000 * (total - timed.seconds) / last.nfe


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    rows = Table(title="what a sampler costs beside the passes of a 10.7M denoiser")
    for heading in ("sampler", "batch", "ms a pass", "ms beside", "share"):
        rows.add_column(heading, justify="left" if heading == "sampler" else "right")
    for row in result["rows"]:
        rows.add_row(
            row["sampler"],
            str(row["batch"]),
            f"{row['pass_ms']:.1f}",
            f"{row['beside_ms']:.2f}",
            f"{row['share']:.1%}",
        )
    return rows
