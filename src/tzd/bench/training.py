"""Training: ours and a plain loop in turns, with the machine's peaks between them."""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from tzd.bench.openblas import environment, preload
from tzd.bench.products import parameters, training_flop_per_token
from tzd.bench.sizes import Cell
from tzd.bench.turns import Numbers, compared, in_turns, seconds_of

MACHINE, PLAIN = "machine", "plain loop, AdamW"
OPTIMIZERS = {"tzd, AdamW": "adamw", "tzd, Muon": "muon"}


def measure(cell: Cell, rounds: int, steps: int) -> dict[str, Any]:
    """Runs the contenders in turns.

    Args:
        cell: what is trained.
        rounds: turns of each.
        steps: optimizer steps of a turn, two or more.

    Returns:
        Plain data; see `summary`.

    Raises:
        WorkerError: a contender could not.
    """
    contenders = {
        MACHINE: ["tzd.bench.peaks", cell.argument, ""],
        PLAIN: [f"tzd.bench.plain_{cell.engine}", cell.argument, str(steps)],
        **{
            name: ["tzd.bench.ours_training", cell.argument, optimizer, str(steps)]
            for name, optimizer in OPTIMIZERS.items()
        },
    }
    on_mlx = cell.engine == "mlx"
    said = in_turns(contenders, rounds, environment() if on_mlx else None)
    return {**vars(cell), "preload": preload() if on_mlx else None, **summary(cell, said, steps)}


def peaks_of(said: list[Numbers]) -> dict[str, float]:
    """The best of what the machine reached in any turn: operations and bytes per second."""
    names = [name for name in said[0] if not name.startswith("own_")]
    return {name: max(turn[name] for turn in said[:-1]) for name in names}


def summary(cell: Cell, said: dict[str, list[Numbers]], steps: int) -> dict[str, Any]:
    """What workers said, as figures.

    Returns:
        `parameters`, `flop_per_token`, `peaks` (operations per second by dtype, bytes per second of `bandwidth`), and
        of each of the `contenders` its tokens per second (median of the turns, and all of them), the ratio to the plain
        loop, turn by turn, its model FLOP utilisation, the seconds that its first step took beyond others, memory.
    """
    peaks, plain = peaks_of(said[MACHINE]), said[PLAIN]
    flop = training_flop_per_token(cell.model, cell.length)
    return {
        "parameters": parameters(cell.model),
        "flop_per_token": flop,
        "peaks": peaks,
        "contenders": {
            name: _row(cell, ours, plain, steps, flop, peaks) for name, ours in said.items() if name != MACHINE
        },
    }


def _row(
    cell: Cell, ours: list[Numbers], plain: list[Numbers], steps: int, flop: float, peaks: dict[str, float]
) -> dict[str, Any]:
    dtype = "bfloat16" if ours[0].get("bf16") else "float32"
    tokens = cell.batch * cell.length
    speeds = [steps * tokens / seconds for seconds in seconds_of(ours)]
    speed = statistics.median(speeds)
    return {
        "tokens_per_second": speed,
        "turns": speeds,
        "dtype": dtype,
        "mfu": speed * flop / peaks[dtype],
        "compile_seconds": max(0.0, ours[0]["first_step"] - tokens / speed) if ours is not plain else 0.0,
        **compared(ours, plain),
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    preloaded = f"; preloaded: {result['preload']}" if result["preload"] else ""
    rows = Table(
        title=f"training {named(result)}: {result['parameters'] / 1e6:.1f}M parameters,"
        f" {result['flop_per_token'] / 1e6:.0f} MFLOP a token",
        caption=f"{reached(result['peaks'])}{preloaded}",
    )
    for heading in ("", "tokens/s", "turns", "ratio", "of the peak", "compile", "memory", "ratio"):
        rows.add_column(heading, justify="right")
    for name, row in result["contenders"].items():
        rows.add_row(
            name,
            f"{row['tokens_per_second']:,.0f}",
            f"{min(row['turns']):,.0f}-{max(row['turns']):,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['mfu']:.0%} of {row['dtype']}",
            f"{row['compile_seconds']:.0f} s" if row["compile_seconds"] else "-",
            f"{row['peak_mib']:,.0f} MiB",
            f"{row['memory_ratio']:.2f}",
        )
    return rows


def named(result: dict[str, Any]) -> str:
    """What was measured, in a title."""
    return str(Cell(*(result[name] for name in ("engine", "size", "vocab", "batch", "length"))))


def reached(peaks: dict[str, float]) -> str:
    """What the machine reached, in a caption."""
    products = [f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in peaks.items() if name != "bandwidth"]
    return f"the machine reaches {', '.join(products)}; memory: {peaks['bandwidth'] / 1e9:.0f} GB/s"
