"""Passes of one network in one of SMDM's published sizes, in float32 and bfloat16, that take turns."""

from __future__ import annotations

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.smdm import DTYPES, LENGTH, LITGPT
from tzd.bench.turns import serve
from tzd.config.smdm import SIZES, SmdmConfig

VOCABULARY = 512  # small, so that the blocks are what is timed; the head is the same product for both


def network(name: str, size: str) -> nn.Module:
    """LitGPT's GPT, or our encoder: RMSNorm, SwiGLU, no biases, rotary positions in whole heads, both."""
    shape = {**vars(SIZES[size]), "block_size": LENGTH, "vocab_size": VOCABULARY}
    if name != LITGPT:
        from tzd.engines.torch.smdm import Smdm

        return Smdm(SmdmConfig(**shape))
    from litgpt.config import Config
    from litgpt.model import GPT

    return GPT(
        Config(
            **shape,
            padded_vocab_size=VOCABULARY,
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            mlp_class_name="LLaMAMLP",
        )
    )


def main(name: str, size: str, batch: int, passes: int, rounds: int) -> None:
    torch.manual_seed(0)
    model = network(name, size)
    tokens = torch.randint(VOCABULARY, (batch, LENGTH))

    def train() -> None:
        F.cross_entropy(model(tokens).float().flatten(0, 1), tokens.flatten()).backward()
        model.zero_grad()

    def forward() -> None:
        with torch.no_grad():
            model(tokens)

    def turn() -> dict[str, float]:
        seconds = {}
        for dtype in DTYPES:
            for kind, run in (("training", train), ("forward", forward)):
                start = time.perf_counter()
                for _ in range(passes):
                    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                        run()
                seconds[f"{dtype}, {kind}"] = time.perf_counter() - start
        return seconds

    turn()
    serve(turn, rounds)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
