"""Forward and backward of one network in the shape of the 10.7M model, that takes turns."""

from __future__ import annotations

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.litgpt import LENGTH, VOCABULARY
from tzd.bench.sizes import SIZES
from tzd.bench.turns import serve
from tzd.config import LitgptConfig, SmdmConfig
from tzd.engines.torch.litgpt import Litgpt, library_config
from tzd.engines.torch.smdm import Smdm

SHAPE = {k: v for k, v in SIZES["10.7M"].items() if k != "model_type"}
SHAPE |= {"vocab_size": VOCABULARY, "block_size": LENGTH}


def network(name: str) -> nn.Module:
    """LitGPT's own causal GPT, the same made bidirectional, or SMDM's encoder of that shape, RMSNorm and SwiGLU all."""
    if name == "causal":
        from litgpt.model import GPT

        return GPT(library_config(LitgptConfig(**SHAPE)))
    return Litgpt(LitgptConfig(**SHAPE)) if name == "bidirectional" else Smdm(SmdmConfig(**SHAPE))


def main(name: str, batch: int, passes: int, rounds: int) -> None:
    torch.manual_seed(0)
    model = network(name)
    tokens = torch.randint(VOCABULARY, (batch, LENGTH))

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        for _ in range(passes):
            model.zero_grad()
            F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        return {"seconds": time.perf_counter() - start}

    turn()
    serve(turn, rounds)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
