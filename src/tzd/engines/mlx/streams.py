"""How the rows of a batch are shared out over a processor's cores.

On a CPU, MLX runs all of an operation but its matrix products on one thread. A stream is a thread: a batch that is
split by rows, one share per core and stream, keeps every core busy, with each product on its stream's own thread.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path

import mlx.core as mx

from tzd.engines.mlx.openblas import places

_PAIRS = 2**19  # of a row's tokens with those that they attend to, as many as a pass holds the weights of at a time
_WIDTH = "MLX_BFS_MAX_WIDTH"  # of the graph, up to which MLX walks it breadth first


def _walk_in_step() -> None:
    """Has MLX take the operations of a batch's shares in turns, before it computes anything.

    It lets a few operations wait in all streams together. Depth first, as it walks a wide graph, the first share's
    would fill the queue, and the others would wait for it: no faster than one stream.
    """
    if _on_cpu():
        os.environ.setdefault(_WIDTH, "1000")


_made = threading.local()  # MLX's streams belong to the Python thread that made them


def split(rows: int) -> list[tuple[mx.Stream, slice]]:
    """Contiguous, nearly equal shares of the rows of a batch, each with the stream that is to compute it.

    Args:
        rows: number of rows, at least 1.

    Returns:
        On a CPU a share per core, as far as there are rows; on a GPU one.
    """
    shares = min(rows, cores()) if _on_cpu() else 1
    edges = [rows * i // shares for i in range(shares + 1)]
    return [(stream, slice(*edges[i : i + 2])) for i, stream in enumerate(_streams(shares))]


def chunks(rows: int, pairs: int) -> list[list[tuple[mx.Stream, slice]]]:
    """The shares of a batch that is computed without gradients, some of its rows after the others.

    On a CPU the weights of the attention are held in full: many rows at a time take much memory, and are no faster.

    Args:
        rows: number of rows, at least 1.
        pairs: of tokens with those that they attend to, in each row.

    Returns:
        For each chunk, one after another, what `split` gives for its rows.
    """
    at_once = max(cores(), _PAIRS // pairs) if _on_cpu() else rows
    count = -(-rows // at_once)
    edges = [rows * i // count for i in range(count + 1)]
    return [
        [(stream, slice(start + part.start, start + part.stop)) for stream, part in split(stop - start)]
        for start, stop in pairwise(edges)
    ]


def cores() -> int:
    """How many threads may compute: OMP_NUM_THREADS where it is set, else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def blas_threads(shares: int) -> Iterator[None]:
    """While it lasts, BLAS has one thread for each of several shares, and all cores for a single one.

    What is to profit must be evaluated within. Only OpenBLAS can be told; anything else is left as it is.

    Args:
        shares: number of shares that are computed at once.
    """
    library = _openblas()
    if library is None:
        yield
        return
    before = library.openblas_get_num_threads()
    library.openblas_set_num_threads(1 if shares > 1 else cores())
    try:
        yield
    finally:
        library.openblas_set_num_threads(before)


def hint() -> str | None:
    """How to get a fast BLAS, in a line, where MLX computes with the reference one; else None."""
    if sys.platform != "linux" or not _on_cpu() or _openblas() is not None:
        return None
    installed = [path for path in places() if _is_file(path)]
    install = "" if installed else "install OpenBLAS (Debian, Ubuntu: apt install libopenblas0-pthread) and "
    return (
        "MLX multiplies with the reference BLAS here, about 30 times slower than need be: "
        f"{install}start with LD_PRELOAD={[*installed, *places()][0]}"
    )


def _streams(count: int) -> list[mx.Stream]:
    """As many streams of this thread, the default one first; made when they are first needed, and kept."""
    device = mx.default_device()
    if not hasattr(_made, "streams"):
        _made.streams = []
        if threading.current_thread() is not threading.main_thread():
            _made.end = _EndOfThread()
    while len(_made.streams) < count - 1:
        _made.streams.append(mx.new_stream(device))
    return [mx.default_stream(device), *_made.streams[: count - 1]]


class _EndOfThread:
    """Lies in what Python keeps of a thread: when that ends, so do its streams, and what MLX has compiled for it.

    MLX asks for this. Left to the destructors of the thread itself, which run when Python counts it as ended, it aborts
    processes that leave at that moment.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def __del__(
        self, this_thread: Callable[[], int] = threading.get_ident, clear: Callable[[], None] = mx.clear_streams
    ) -> None:
        if this_thread() == self._thread:  # a thread that never ends is cleared up by the main one, which has its own
            clear()


def _on_cpu() -> bool:
    return mx.default_device() == mx.Device(mx.cpu)


def _is_file(path: str) -> bool:
    return Path(path).is_file()


@cache
def _openblas() -> ctypes.CDLL | None:
    """What this process was started with, if it is OpenBLAS: MLX finds it there, and so does this."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "openblas_set_num_threads") else None


_walk_in_step()
