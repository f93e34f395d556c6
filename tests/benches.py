"""What contenders of `tzd bench` have said."""

from __future__ import annotations

from typing import Any

from tzd.bench import sampling, training
from tzd.bench.sizes import Cell

CELL = Cell("torch", "10.7M", 66, 16, 256)
MACHINE: list[dict[str, Any]] = [
    {"float32": 1e11, "bfloat16": 3e11, "bandwidth": 5e10, "own_float32": 0.1, "own_bfloat16": 0.05},
    {"float32": 2e11, "bfloat16": 4e11, "bandwidth": 4e10, "own_float32": 0.1, "own_bfloat16": 0.05},
    {"float32": 1e11, "bfloat16": 3e11, "bandwidth": 4e10, "own_float32": 0.1, "own_bfloat16": 0.1},
    {"peak_mib": 1.0},
]
TRAINING: dict[str, list[dict[str, Any]]] = {
    training.MACHINE: MACHINE,
    training.PLAIN: [{"first_step": 3.0}, {"seconds": 2.0}, {"seconds": 8.0}, {"peak_mib": 200.0}],
    "tzd, AdamW": [{"first_step": 31.0, "bf16": True}, {"seconds": 1.0}, {"seconds": 1.0}, {"peak_mib": 100.0}],
}
SAMPLING: dict[str, list[dict[str, Any]]] = {
    sampling.MACHINE: MACHINE,
    sampling.PLAIN: [{"seconds": 9.0, "nfe": 32}, {"seconds": 0.1}, {"seconds": 0.2}, {"peak_mib": 50.0}],
    "tzd, auto": [
        {"seconds": 9.0, "nfe": 32, "bf16": True},
        {"seconds": 0.2, "pass_seconds": 0.1},
        {"seconds": 0.2, "pass_seconds": 0.3},
        {"peak_mib": 100.0},
    ],
}
