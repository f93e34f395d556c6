"""Which cells are measured, and which would not fit: in memory, in time, or on what is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from typing import Any

from tzd.bench.products import parameters, products, training_flop_per_token
from tzd.bench.sizes import SIZES, Cell
from tzd.engines import ENGINES
from tzd.errors import MissingExtraError, UserError, nearest

GRID: dict[str, Any] = {"sizes": tuple(SIZES), "vocab": (66, 4096, 32000), "batch": (1, 16, 64), "length": (256, 1024)}
LARGEST = {"vocab": 32000, "batch": 4096, "length": 16384}

# Rules of thumb, on the safe side. A plain loop keeps so many float32 numbers per token, layer and unit of width for
# its backward pass, and so many per logit; every process holds the libraries; products reach that share of the peak.
_KEPT, _KEPT_LOGITS, _LIBRARIES, _SHARE, _STARTING = 42, 4, 4e8, 0.4, 20.0
IN_FLOAT32 = ("plain", "32")  # contenders that never multiply in anything else
LACKING: dict[str, tuple[str, ...]] = {"torch": ("int4",), "mlx": ()}  # precisions that an engine has on no machine


@dataclass(frozen=True)
class Limits:
    """What a cell may take.

    Attributes:
        memory: bytes that are free.
        seconds: of a cell.
        speeds: operations per second of products, by dtype.
    """

    memory: float
    seconds: float
    speeds: Mapping[str, float]


def names(text: str, flag: str, known: Sequence[str]) -> list[str]:
    """Names separated by commas, each once.

    Raises:
        UserError: one is unknown.
    """
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in chosen:
        if name not in known:
            raise UserError(f"{flag} {text}: unknown '{name}'{nearest(name, known)}")
    return chosen


def numbers(text: str, flag: str, most: int) -> list[int]:
    """Whole numbers separated by commas, each once.

    Raises:
        UserError: one is none, or out of 1..most.
    """
    try:
        chosen = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        chosen = [0]
    if min(chosen) < 1 or max(chosen) > most:
        raise UserError(f"{flag} {text}: give whole numbers from 1 to {most}, separated by commas")
    return chosen


def cells(
    engines: Sequence[str], sizes: Sequence[str], vocab: Sequence[int], batch: Sequence[int], length: Sequence[int]
) -> list[Cell]:
    """All combinations, the smallest first within an engine.

    Raises:
        MissingExtraError: an engine is not installed.
    """
    for engine in engines:
        if find_spec(engine) is None:
            raise MissingExtraError(f"--engine {engine}", engine)
    chosen = [Cell(*values) for values in product(engines, sizes, vocab, batch, length)]
    return sorted(chosen, key=lambda cell: (engines.index(cell.engine), training_work(cell, 1)))


def installed() -> list[str]:
    """The engines that are."""
    return [engine for engine in ENGINES if find_spec(engine) is not None]


def training_work(cell: Cell, steps: int) -> float:
    """Operations of so many optimizer steps."""
    return steps * cell.batch * cell.length * training_flop_per_token(cell.model, cell.length)


def training_bytes(cell: Cell, contenders: int) -> float:
    """Memory of contenders that train, each as much as a plain loop: weights four times, and what it keeps."""
    m: Any = cell.model
    kept = cell.batch * cell.length * (_KEPT * m.n_layer * m.n_embd + _KEPT_LOGITS * m.vocab_size)
    return contenders * (_LIBRARIES + 16.0 * parameters(m) + 4.0 * kept)


def sampling_work(cell: Cell, steps: int) -> float:
    """Operations of so many passes of a batch."""
    return steps * sum(p.flop for p in products(cell.model, cell.batch, cell.length))


def sampling_bytes(cell: Cell, contenders: int) -> float:
    """Memory of contenders that sample: weights as read and as used, a layer's numbers, logits at blanks."""
    m: Any = cell.model
    held = cell.batch * cell.length * (16.0 * m.n_embd + 2 * m.vocab_size)
    return contenders * (_LIBRARIES + 8.0 * parameters(m) + 4.0 * held)


def why_not(needed: float, works: Mapping[str, float], rounds: int, limits: Limits) -> str | None:
    """Why a cell is skipped, or None.

    Args:
        needed: bytes of all contenders.
        works: operations of a turn of each contender; all but the plain one take the quicker dtype.
        rounds: turns of each; one more warms up.
        limits: what it may take.
    """
    if needed > limits.memory:
        return f"needs some {needed / 1e9:.0f} GB of memory, {limits.memory / 1e9:.0f} GB are free"
    best = max(limits.speeds.values())
    seconds = 0.0
    for name, work in works.items():
        speed = limits.speeds["float32"] if name in IN_FLOAT32 else best
        seconds += _STARTING + (rounds + 1) * work / (_SHARE * speed)
    if seconds > limits.seconds:
        return f"would take some {_time(seconds)}, more than the {_time(limits.seconds)} of --minutes"
    return None


def _time(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds >= 100 else f"{seconds:.0f} s"
