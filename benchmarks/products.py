"""The speed of large matrix products: what a processor reaches at best."""

from __future__ import annotations

import statistics
import sys
import time

import torch

from benchmarks.turns import serve

SIZE, REPEATS = 2048, 5


def speed(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations per second of a product of two square matrices."""
    a, b = (torch.randn(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / statistics.median(seconds)


def main(rounds: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def turn() -> dict[str, float]:
        return {"float32": speed(torch.float32, device), "bfloat16": speed(torch.bfloat16, device)}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(int(sys.argv[1]))
