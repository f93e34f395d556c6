"""The speed of large matrix products: what a processor reaches at best."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from benchmarks.turns import serve

SIZE, REPEATS = 2048, 5


def on_torch() -> dict[str, Callable[[], object]]:
    """For each dtype a product of two square matrices; it returns when the device has computed it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def product(dtype: torch.dtype) -> Callable[[], object]:
        a, b = (torch.randn(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))
        return lambda: float((a @ b)[0, 0])

    return {"float32": product(torch.float32), "bfloat16": product(torch.bfloat16)}


def on_mlx() -> dict[str, Callable[[], object]]:
    """The same on MLX, which computes in bfloat16 on a GPU only."""
    import mlx.core as mx

    def product(dtype: mx.Dtype) -> Callable[[], object]:
        a, b = (mx.random.normal((SIZE, SIZE)).astype(dtype) for _ in range(2))
        return lambda: mx.eval(a @ b)

    float32 = {"float32": product(mx.float32)}
    return {**float32, "bfloat16": product(mx.bfloat16)} if mx.default_device() == mx.Device(mx.gpu) else float32


def speed(product: Callable[[], object]) -> float:
    """Floating-point operations per second."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / statistics.median(seconds)


def main(engine: str, rounds: int) -> None:
    products = {"torch": on_torch, "mlx": on_mlx}[engine]()

    def turn() -> dict[str, float]:
        return {dtype: speed(product) for dtype, product in products.items()}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
