"""A training run of `tzd.train`, on either engine, that takes turns."""

from __future__ import annotations

import os
import random
import string
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.sizes import BATCH, HEADS, LAYERS, LENGTH, VOCABULARY, WIDTH
from benchmarks.turns import hear, peak_memory, say
from tzd.config import run_config
from tzd.engines import engine_module


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

    def log_samples(self, step: int, texts: Sequence[str]) -> None: ...

    def close(self) -> None: ...


def computes_in_bfloat16(engine: str) -> bool:
    """Whether `training.precision=auto` means bf16-mixed here."""
    if engine == "mlx":
        import mlx.core as mx

        return mx.default_device() == mx.Device(mx.gpu)
    import torch

    from tzd.engines.torch.trainer import auto_precision

    return auto_precision("cuda" if torch.cuda.is_available() else "cpu") == "bf16-mixed"


def main(engine: str, optimizer: str, compiled: str, steps: int, rounds: int) -> None:
    alphabet = (string.ascii_letters + string.digits + string.punctuation)[:VOCABULARY]
    bf16 = computes_in_bfloat16(engine)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # compiles anew, as a first run does
        text = Path(folder) / "text.txt"
        text.write_text("".join(random.Random(0).choices(alphabet, k=200_000)))
        training = {
            "optimizer": optimizer,
            "compile": compiled == "true" or compiled,
            "max_steps": (1 + rounds) * steps,
            "log_every_n_steps": steps,
            "eval_interval": (1 + rounds) * steps,
            "val_windows": BATCH // 2,  # with their draws, one batch of the usual size
            "val_generation_freq": 0,
            "save_dir": folder,
        }
        config = run_config(
            {
                "model": {"n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "block_size": LENGTH},
                "data": {"name": "text", "path": str(text), "batch_size": BATCH, "block_size": LENGTH},
                "training": training,
                "engine": {"name": engine},
            }
        )
        engine_module(engine, "train").train(config, lambda run, resumed, total: [TurnsLogger(steps, bf16)])
    say(peak_mib=peak_memory())


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
