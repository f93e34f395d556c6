"""A training run of `tzd train`, on either engine, that takes turns."""

from __future__ import annotations

import os
import random
import string
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tzd.bench.machine import computes_in_bfloat16
from tzd.bench.sizes import SIZES, Cell
from tzd.bench.turns import hear, peak_memory, say
from tzd.config import run_config
from tzd.engines import engine_module

# Letters, then Chinese characters and Korean syllables: one of them for each token of a vocabulary.
_LETTERS = string.ascii_letters + string.digits + string.punctuation
_SYLLABLES = [*range(0x4E00, 0x9FA6), *range(0xAC00, 0xD7A4)]


class TurnsLogger:
    """Implements `tzd.training.records.Logger`: says how long the steps since the last row took, and waits.

    Args:
        steps: steps of a turn, and between rows.
        bf16: whether products are computed in bfloat16.
    """

    def __init__(self, steps: int, bf16: bool) -> None:
        self.steps, self.bf16 = steps, bf16
        self.first_step = 0.0
        self.clock = time.perf_counter()

    def log(self, record: Mapping[str, float]) -> None:
        """Takes a turn; the rows of validations are none."""
        elapsed = time.perf_counter() - self.clock
        if "loss" in record:
            if record["step"] == 1:
                self.first_step = elapsed
            elif record["step"] == self.steps:  # warm by now
                say(first_step=self.first_step, bf16=self.bf16)
                hear()
            else:
                say(seconds=elapsed)
                hear()
        self.clock = time.perf_counter()

    def log_samples(self, step: int, texts: Sequence[str]) -> None:
        """Has no use for texts."""

    def close(self) -> None:
        """Has nothing to close."""


def alphabet(vocab: int) -> str:
    """So many characters; each is a token."""
    return (_LETTERS + "".join(map(chr, _SYLLABLES)))[:vocab]


def settings(cell: Cell, optimizer: str, steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """The run, by its defaults but for what is measured; long runs are compiled, so this one is.

    Args:
        cell: what is trained.
        optimizer: adamw or muon.
        steps: of a turn.
        rounds: turns, and one to warm up.
        folder: of its text and its checkpoints.
    """
    characters = alphabet(cell.vocab)
    drawn = random.Random(0).choices(characters, k=max(200_000, 20 * cell.batch * cell.length))
    text = folder / "text.txt"
    text.write_text(characters + "".join(drawn), encoding="utf-8")
    total = (1 + rounds) * steps
    training = {
        "optimizer": optimizer,
        "compile": True,
        "max_steps": total,
        "log_every_n_steps": steps,
        "eval_interval": total,
        "val_windows": max(1, cell.batch // 2),  # with their draws, batches of the usual size
        "val_generation_freq": 0,
        "test": False,
        "save_dir": str(folder),
    }
    return {
        "model": {**SIZES[cell.size], "block_size": cell.length},
        "data": {"name": "text", "path": str(text), "batch_size": cell.batch, "block_size": cell.length},
        "training": training,
        "engine": {"name": cell.engine},
    }


def main(cell: Cell, optimizer: str, steps: int, rounds: int) -> None:
    """Takes turns, of so many optimizer steps each."""
    bf16 = computes_in_bfloat16(cell.engine)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"  # compiles anew, as a first run does
        config = run_config(settings(cell, optimizer, steps, rounds, Path(folder)))
        engine_module(cell.engine, "train").train(config, lambda run, resumed, total: [TurnsLogger(steps, bf16)])
    say(peak_mib=peak_memory())


if __name__ == "__main__":
    main(Cell.parse(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
