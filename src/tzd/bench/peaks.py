"""What the machine reaches at best, a worker that takes turns: products of large matrices, and memory.

Where it is told to, it also times the very products of a forward pass of a cell, alone.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from tzd.bench.machine import dtype_of, torch_device
from tzd.bench.products import Product, products
from tzd.bench.sizes import Cell
from tzd.bench.turns import serve

REPEATS = 5
_LONG = 2.0  # seconds: what takes longer is timed once
_HELD = 2**26  # numbers that a product takes or gives at most; larger ones are cut


class Machine(Protocol):
    """An array library on its device.

    Attributes:
        dtypes: in which it multiplies.
        square: rows of the matrices that show its peak.
        stream: numbers of each array that shows its bandwidth, several times what caches usually hold.
    """

    dtypes: tuple[str, ...]
    square: int
    stream: int

    def random(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An array of random numbers, made by now."""

    def laid_out(self, b: Any) -> Any:
        """A matrix (n, k) as this library multiplies with it at its best, if it is kept."""

    def multiply(self, a: Any, b: Any) -> Any:
        """(…, m, k) times the transposed of (…, n, k), begun by now."""

    def triad(self) -> Callable[[], None]:
        """Computes a = b + 3 c over arrays of `stream` float32 numbers."""

    def wait(self, x: Any) -> None:
        """Returns when it, and all that was begun before, is computed."""


class OnTorch:
    """Implements `Machine`, on the processor, on CUDA or on Apple's GPU.

    Args:
        device: one of them; where PyTorch computes here if None.
    """

    def __init__(self, device: str | None = None) -> None:
        import torch

        self._torch = torch
        self.device = device or torch_device()
        self.dtypes: tuple[str, ...] = ("float32", "bfloat16")
        self.square, self.stream = {"cuda": (8192, 2**28), "mps": (8192, 2**26), "cpu": (2048, 2**25)}[self.device]

    def random(self, shape: tuple[int, ...], dtype: str) -> Any:
        """See `Machine`."""
        return self._torch.randn(shape, device=self.device, dtype=getattr(self._torch, dtype))

    def laid_out(self, b: Any) -> Any:
        """See `Machine`: by oneDNN, whose float32 kernels may be twice as fast as those of `@`."""
        if self.device != "cpu" or not self._torch.backends.mkldnn.is_available():
            return b
        onednn = self._torch.ops.mkldnn
        if b.dtype == self._torch.bfloat16 and not onednn._is_mkldnn_bf16_supported():
            return b
        return onednn._reorder_linear_weight(b, None)

    def multiply(self, a: Any, b: Any) -> Any:
        """See `Machine`."""
        if b.is_mkldnn:
            return self._torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return a @ b.mT

    def triad(self) -> Callable[[], None]:
        """See `Machine`."""
        a, b, c = (self._torch.ones(self.stream, device=self.device) for _ in range(3))
        return lambda: self.wait(self._torch.add(b, c, alpha=3, out=a))

    def wait(self, x: Any) -> None:
        """See `Machine`."""
        if self.device != "cpu":
            getattr(self._torch, self.device).synchronize()


class OnMlx:
    """Implements `Machine`. MLX computes in bfloat16 on a GPU only, and adds on one core of a processor."""

    def __init__(self) -> None:
        import mlx.core as mx

        self._mx = mx
        on_gpu = mx.default_device() == mx.Device(mx.gpu)
        self.dtypes: tuple[str, ...] = ("float32", "bfloat16") if on_gpu else ("float32",)
        self.square, self.stream = (8192, 2**26) if on_gpu else (2048, 2**25)
        self._on_gpu = on_gpu

    def random(self, shape: tuple[int, ...], dtype: str) -> Any:
        """See `Machine`."""
        x = self._mx.random.normal(shape).astype(getattr(self._mx, dtype))
        self.wait(x)
        return x

    def laid_out(self, b: Any) -> Any:
        """See `Machine`."""
        return b

    def multiply(self, a: Any, b: Any) -> Any:
        """See `Machine`."""
        x = a @ b.swapaxes(-1, -2)
        (self._mx.async_eval if self._on_gpu else self._mx.eval)(x)
        return x

    def triad(self) -> Callable[[], None]:
        """See `Machine`; a processor's memory is read by PyTorch, on all cores."""
        if not self._on_gpu:
            return OnTorch("cpu").triad()
        b, c = (self._mx.ones(self.stream) for _ in range(2))
        add = self._mx.compile(lambda b, c: b + 3 * c)  # in one pass over memory
        return lambda: self.wait(add(b, c))

    def wait(self, x: Any) -> None:
        """See `Machine`."""
        self._mx.eval(x)


def machine(engine: str) -> Machine:
    """The machine as an engine uses it."""
    return OnMlx() if engine == "mlx" else OnTorch()


def median_seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Of some runs, after one that is not counted unless it is long."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
        if seconds[0] > _LONG:
            return seconds[0]
    return statistics.median(seconds[1:])


def peak(on: Machine, dtype: str) -> Callable[[], float]:
    """Measures operations per second of the product of two square matrices, the second as it is or laid out."""
    a, b = (on.random((on.square, on.square), dtype) for _ in range(2))
    ways = [b, on.laid_out(b)]

    def seconds(way: Any) -> float:
        return median_seconds(lambda: on.wait(on.multiply(a, way)))

    return lambda: 2 * on.square**3 / min(map(seconds, ways))


def bandwidth(on: Machine) -> Callable[[], float]:
    """Measures bytes per second that memory reads and writes, two arrays in and one out (STREAM's triad)."""
    triad = on.triad()
    return lambda: 3 * 4 * on.stream / median_seconds(triad)


def alone(on: Machine, wanted: list[Product], dtype: str) -> Callable[[], float]:
    """Measures the seconds of products alone; each layer has matrices of its own, as a network has."""
    pairs = []
    for p in wanted:
        wider = max(p.k, p.n)
        rows = max(1, min(p.m, _HELD // wider) if p.weight else min(p.batch, _HELD // (p.m * wider)))
        whole, rest = divmod(p.m if p.weight else p.batch, rows)
        left = (rows, p.k) if p.weight else (rows, p.m, p.k)
        right = (p.n, p.k) if p.weight else (rows, p.n, p.k)
        a, last = on.random(left, dtype), rest or None
        rights = [on.random(right, dtype) for _ in range(p.count if p.weight else 1)]
        rights = [on.laid_out(b) for b in rights] if p.weight else rights
        pairs += [(a, b, whole, last, p.weight) for b in (rights if p.weight else rights * p.count)]

    def run() -> None:
        for a, b, whole, last, shared in pairs:
            for _ in range(whole):
                x = on.multiply(a, b)
            if last is not None:
                x = on.multiply(a[:last], b if shared else b[:last])
        on.wait(x)

    return lambda: median_seconds(run, 3)


def main(cell: Cell, precisions: list[str], rounds: int) -> None:
    """Takes turns.

    Args:
        cell: whose engine is asked, and whose products.
        precisions: in which the products of a pass are timed alone.
        rounds: turns.
    """
    on = machine(cell.engine)
    measures = {dtype: peak(on, dtype) for dtype in on.dtypes} | {"bandwidth": bandwidth(on)}
    of_a_pass = products(cell.model, cell.batch, cell.length)
    for dtype in dict.fromkeys(dtype_of(precision, cell.engine) for precision in precisions):
        if dtype in on.dtypes:
            measures[f"own_{dtype}"] = alone(on, of_a_pass, dtype)

    def turn() -> dict[str, float]:
        return {name: measure() for name, measure in measures.items()}

    serve(turn, rounds, **turn())


if __name__ == "__main__":
    main(Cell.parse(sys.argv[1]), [name for name in sys.argv[2].split(",") if name], int(sys.argv[3]))
