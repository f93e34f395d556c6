"""Peak memory of training steps of models, in a process of its own for each: prints measured and predicted bytes.

python tests/peak_memory.py "WIDTH LAYERS PRECISION VOCAB BATCH LENGTH MODEL_TYPE OPTIMIZER" ...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tzd.config import run_config
from tzd.diffusion.objective import head_rows
from tzd.engines.torch.denoiser import build
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.optim import make_optimizer
from tzd.engines.torch.shapes import parameter_shapes
from tzd.training.plan import make_plan


def peak() -> int:
    """Bytes that the process has held at most; `getrusage` would count those of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def steps(settings: dict[str, object], vocab: int, count: int) -> float:
    """Runs a few steps; what a plan predicts."""
    config = run_config(settings)
    model = config.model.architecture(vocab)
    network = build(model)
    optimizer = make_optimizer(network, config.model, config.training)
    mixed = config.training.precision == "bf16-mixed"
    shape = (config.data.batch_size, config.data.block_size)
    for _ in range(count):
        x = torch.randint(0, vocab, shape)
        weight = (torch.arange(x.numel()).reshape(shape) % 2).float() / x.numel()
        rows = head_rows(weight.numpy(), vocab)
        at = None if rows is None else torch.from_numpy(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = network(x, rows=at)
            pick = slice(None) if at is None else at
            loss = weighted_cross_entropy(logits, x.flatten()[pick], weight.flatten()[pick], overwrite=True)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return make_plan(config, model, parameter_shapes(model), count).memory["one process"].peak


def settings(arguments: list[str]) -> tuple[dict[str, object], int]:
    """A run's settings, and the size of its vocabulary."""
    width, layers, precision, vocab, batch, length, model_type, optimizer = arguments
    return {
        "model": {"n_layer": int(layers), "n_head": max(1, int(width) // 64), "n_embd": int(width)}
        | {"block_size": int(length), "model_type": model_type},
        "data": {"batch_size": int(batch), "block_size": int(length)},
        "training": {"precision": precision, "optimizer": optimizer},
    }, int(vocab)


def measure(size: str) -> None:
    """Prints a line."""
    arguments = size.split()
    small, _ = settings(["64", "1", arguments[2], "16", "1", "16", *arguments[6:]])
    steps(small, 16, 2)  # what the library itself takes
    before = peak()
    predicted = steps(*settings(arguments), 3)
    print(peak() - before, round(predicted), flush=True)


if __name__ == "__main__":
    for size in sys.argv[1:]:
        child = os.fork()  # begins with what this process holds, and importing takes longest
        if not child:
            measure(size)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{size}: failed")
