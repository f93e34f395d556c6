"""Training throughput, memory and compilation of `tiny`: ours against a plain loop, in one run.

python -m benchmarks training --rounds 5 --steps 6
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from benchmarks.sizes import FLOP_PER_TOKEN, PARAMETERS, TOKENS_PER_STEP
from benchmarks.turns import Numbers, in_turns

PLAIN, PRODUCTS = "plain loop, AdamW", "matrix products"


def measure(rounds: int, steps: int) -> dict[str, Any]:
    """Runs the contenders in turns.

    Args:
        rounds: turns of each.
        steps: optimizer steps of a turn.

    Returns:
        Plain data: `peak_gflops`, and of each contender its speed, the ratio to the plain loop's pair by pair, its
        share of the peak, its memory.
    """
    contenders = {
        PLAIN: ["benchmarks.plain", str(steps)],
        "tzd, AdamW": ["benchmarks.ours", "adamw", str(steps)],
        "tzd, Muon": ["benchmarks.ours", "muon", str(steps)],
    }
    return summary(in_turns({PRODUCTS: ["benchmarks.products"], **contenders}, rounds), steps)


def summary(said: dict[str, list[Numbers]], steps: int) -> dict[str, Any]:
    """What workers said, as figures; see `measure`."""
    peaks = {dtype: max(turn[dtype] for turn in said[PRODUCTS][:-1]) for dtype in ("float32", "bfloat16")}
    plain = said[PLAIN]
    return {
        "parameters": PARAMETERS,
        "mflop_per_token": FLOP_PER_TOKEN / 1e6,
        "peak_gflops": {dtype: peak / 1e9 for dtype, peak in peaks.items()},
        "contenders": {name: _row(ours, plain, steps, peaks) for name, ours in said.items() if name != PRODUCTS},
    }


def _row(ours: list[Numbers], plain: list[Numbers], steps: int, peaks: dict[str, float]) -> dict[str, Any]:
    seconds, their_seconds = ([turn["seconds"] for turn in said[1:-1]] for said in (ours, plain))
    dtype = "bfloat16" if ours[0].get("bf16") else "float32"
    speeds = [steps * TOKENS_PER_STEP / s for s in seconds]
    speed = statistics.median(speeds)
    return {
        "tokens_per_second": speed,
        "turns": speeds,
        "ratio": statistics.median(theirs / s for s, theirs in zip(seconds, their_seconds, strict=True)),
        "dtype": dtype,
        "share_of_peak": speed * FLOP_PER_TOKEN / peaks[dtype],
        "compile_seconds": ours[0]["first_step"] - TOKENS_PER_STEP / speed if ours is not plain else 0.0,
        "peak_mib": ours[-1]["peak_mib"],
        "memory_ratio": ours[-1]["peak_mib"] / plain[-1]["peak_mib"],
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    peaks = {dtype: f"{peak:.0f} GFLOP/s in {dtype}" for dtype, peak in result["peak_gflops"].items()}
    size = f"{result['parameters'] / 1e6:.1f}M parameters, {result['mflop_per_token']:.0f} MFLOP a token"
    rows = Table(title=f"training tiny: {size}", caption=f"matrix products reach {' and '.join(peaks.values())}")
    for heading in ("", "tokens/s", "turns", "ratio", "share of peak", "compile", "memory", "ratio"):
        rows.add_column(heading, justify="right")
    for name, row in result["contenders"].items():
        rows.add_row(
            name,
            f"{row['tokens_per_second']:,.0f}",
            f"{min(row['turns']):,.0f}-{max(row['turns']):,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['share_of_peak']:.0%} of {row['dtype']}",
            f"{row['compile_seconds']:.0f} s" if row["compile_seconds"] else "-",
            f"{row['peak_mib']:,.0f} MiB",
            f"{row['memory_ratio']:.2f}",
        )
    return rows
