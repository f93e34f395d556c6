"""What is measured: a model of a named size, a vocabulary, and how many tokens at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tzd.config import Architecture
from tzd.config.model import model_config
from tzd.config.smdm import SIZES as SMDM_SIZES

# Settings of the group `model` that tell the sizes apart; parameters are those of the default vocabulary.
SIZES: dict[str, dict[str, Any]] = {
    "0.8M": {"model_type": "tiny", "n_layer": 4, "n_head": 4, "n_embd": 128},  # model=tiny_cpu
    "10.7M": {"model_type": "tiny", "n_layer": 6, "n_head": 6, "n_embd": 384},  # model=tiny
    "71M": {"model_type": "tiny", "n_layer": 10, "n_head": 12, "n_embd": 768},  # model=tiny_mlx
    "smdm-113M": {"model_type": "smdm", **vars(SMDM_SIZES["Diff_LLaMA_113M"])},  # beside embedding and head
}

PLAIN_STEPS = 256  # of the reverse process, as tutorials sample


@dataclass(frozen=True)
class Cell:
    """One line of a grid.

    Attributes:
        engine: what computes: torch or mlx.
        size: a name of `SIZES`.
        vocab: number of tokens, V.
        batch: rows, B.
        length: tokens of a row, L.
    """

    engine: str
    size: str
    vocab: int
    batch: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Cell:
        """The cell that a worker is told, as `argument` has it."""
        return cls(**json.loads(text))

    @property
    def argument(self) -> str:
        """The cell as an argument of a worker."""
        return json.dumps(vars(self))

    @property
    def model(self) -> Architecture:
        """Its architecture."""
        return model_config({**SIZES[self.size], "vocab_size": self.vocab, "block_size": self.length})

    def __str__(self) -> str:
        return f"{self.size} on {self.engine}, V={self.vocab}, {self.batch} × {self.length}"
