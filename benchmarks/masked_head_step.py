"""Optimizer steps of `smdm` with a large vocabulary, the head at all positions or at masked ones, that take turns."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.masked_head import BATCH, LENGTH, SIZE
from tzd.bench.turns import peak_memory, serve
from tzd.config import ObjectiveSettings
from tzd.config.smdm import SIZES, SmdmConfig
from tzd.diffusion.objective import Noised, Objective, head_rows
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.smdm import Smdm
from tzd.engines.torch.trainer import auto_precision

VOCABULARY = 32_000


def plain_cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · CE by PyTorch's own function."""
    losses = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="none")
    return (losses * weight.flatten()).sum()


def batches(masked: bool, seed: int) -> Noised:
    """A batch of random tokens, on the engine."""
    objective = Objective(ObjectiveSettings())
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (BATCH, LENGTH))
    batch = objective.noise(tokens, objective.maskable(tokens), mask_id=VOCABULARY, seed=0, step=seed)
    rows = head_rows(batch.weight, VOCABULARY) if masked else None
    parts = (torch.from_numpy(part) for part in (batch.x_0.astype(np.int64), batch.x_t, batch.weight, batch.t))
    return replace(Noised(*parts), head_rows=None if rows is None else torch.from_numpy(rows))


def main(kind: str, steps: int, rounds: int) -> None:
    torch.manual_seed(0)
    network = Smdm(SmdmConfig(vocab_size=VOCABULARY, block_size=LENGTH, **vars(SIZES[SIZE])))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    objective, half = Objective(ObjectiveSettings()), auto_precision("cpu") == "bf16-mixed"
    cross_entropy = plain_cross_entropy if kind == "plain" else partial(weighted_cross_entropy, overwrite=True)

    def forward(x_t: Tensor, t: Tensor, rows: Tensor | None = None) -> Tensor:
        return network(x_t, rows=rows)

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        for step in range(steps):
            optimizer.zero_grad()
            batch = batches(kind == "masked", step)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = objective.loss(forward, batch, cross_entropy)
            loss.backward()
            optimizer.step()
        return {"seconds": time.perf_counter() - start}

    ready = peak_memory()
    turn()
    serve(turn, rounds, ready_mib=ready)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
