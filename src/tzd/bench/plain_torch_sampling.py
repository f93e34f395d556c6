"""Ancestral sampling as a tutorial would write it: one text, 256 steps, float32, every pass computes every logit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tzd.bench.machine import torch_device
from tzd.bench.plain_torch import Plain
from tzd.bench.sizes import PLAIN_STEPS, Cell
from tzd.bench.turns import serve
from tzd.bench.weights import plainly_named, weights


@torch.no_grad()
def write(model: Callable[[Tensor], Tensor], shape: tuple[int, int], mask_id: int, passes: int) -> Tensor:
    """Tokens (B, L) after the first passes of the reverse process, t from 1 to 0 in `PLAIN_STEPS` equal steps."""
    device = torch_device()
    tokens = torch.full(shape, mask_id, device=device)
    for step in range(passes):
        t, s = 1 - step / PLAIN_STEPS, 1 - (step + 1) / PLAIN_STEPS
        probabilities = torch.softmax(model(tokens), dim=-1)
        drawn = torch.multinomial(probabilities.flatten(0, 1), 1).view(shape)
        revealed = (tokens == mask_id) & (torch.rand(shape, device=device) < (t - s) / t)
        tokens = torch.where(revealed, drawn, tokens)
        (tokens == mask_id).sum().item()  # says how many are left, as a progress bar does
    return tokens


def main(cell: Cell, passes: int, rounds: int) -> None:
    """Takes turns, of so many passes each; all passes cost alike."""
    architecture = cell.model
    model = Plain(architecture)
    named = plainly_named(architecture, weights(architecture))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in named.items()})
    model.to(torch_device())

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        write(model, (1, cell.length), cell.vocab, passes)
        return {"seconds": (time.perf_counter() - start) / passes, "nfe": passes}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(Cell.parse(sys.argv[1]), *map(int, sys.argv[2:]))
