"""Training throughput, memory and compilation of `tiny`: ours against a plain loop, in one run.

python -m benchmarks training mlx-training --rounds 5 --steps 6
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from benchmarks.openblas import environment, preload
from benchmarks.sizes import FLOP_PER_TOKEN, PARAMETERS, TOKENS_PER_STEP
from benchmarks.turns import Numbers, compared, in_turns, seconds_of

PLAIN, PRODUCTS = "plain loop, AdamW", "matrix products"
LOOPS = {"torch": "benchmarks.plain", "mlx": "benchmarks.plain_mlx"}
# The runs of ours: training.optimizer and training.compile, "auto" being as it comes (not compiled, if so short).
RUNS = {
    "torch": {"tzd, AdamW": ("adamw", "true"), "tzd, Muon": ("muon", "true")},
    "mlx": {
        "tzd, AdamW": ("adamw", "auto"),
        "tzd, AdamW, compiled": ("adamw", "true"),
        "tzd, Muon": ("muon", "auto"),
        "tzd, Muon, compiled": ("muon", "true"),
    },
}


def measure(engine: str, rounds: int, steps: int) -> dict[str, Any]:
    """Runs the contenders in turns.

    Args:
        engine: torch or mlx.
        rounds: turns of each.
        steps: optimizer steps of a turn.

    Returns:
        Plain data: `engine`, `preload`, `peak_gflops`, and of each contender its speed, the ratio to the plain loop's
        pair by pair, its share of the peak, its memory.
    """
    contenders = {
        PRODUCTS: ["benchmarks.products", engine],
        PLAIN: [LOOPS[engine], str(steps)],
        **{name: ["benchmarks.ours", engine, *settings, str(steps)] for name, settings in RUNS[engine].items()},
    }
    said = in_turns(contenders, rounds, environment() if engine == "mlx" else None)
    return {"engine": engine, "preload": preload() if engine == "mlx" else None, **summary(said, steps)}


def summary(said: dict[str, list[Numbers]], steps: int) -> dict[str, Any]:
    """What workers said, as figures; see `measure`."""
    peaks = {dtype: max(turn[dtype] for turn in said[PRODUCTS][:-1]) for dtype in said[PRODUCTS][0]}
    plain = said[PLAIN]
    return {
        "parameters": PARAMETERS,
        "mflop_per_token": FLOP_PER_TOKEN / 1e6,
        "peak_gflops": {dtype: peak / 1e9 for dtype, peak in peaks.items()},
        "contenders": {name: _row(ours, plain, steps, peaks) for name, ours in said.items() if name != PRODUCTS},
    }


def _row(ours: list[Numbers], plain: list[Numbers], steps: int, peaks: dict[str, float]) -> dict[str, Any]:
    dtype = "bfloat16" if ours[0].get("bf16") else "float32"
    speeds = [steps * TOKENS_PER_STEP / seconds for seconds in seconds_of(ours)]
    speed = statistics.median(speeds)
    return {
        "tokens_per_second": speed,
        "turns": speeds,
        "dtype": dtype,
        "share_of_peak": speed * FLOP_PER_TOKEN / peaks[dtype],
        "compile_seconds": max(0.0, ours[0]["first_step"] - TOKENS_PER_STEP / speed) if ours is not plain else 0.0,
        **compared(ours, plain),
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    peaks = {dtype: f"{peak:.0f} GFLOP/s in {dtype}" for dtype, peak in result["peak_gflops"].items()}
    size = f"{result['parameters'] / 1e6:.1f}M parameters, {result['mflop_per_token']:.0f} MFLOP a token"
    preloaded = f"; preloaded: {result['preload']}" if result["preload"] else ""
    rows = Table(
        title=f"training tiny on {result['engine']}: {size}",
        caption=f"matrix products reach {' and '.join(peaks.values())}{preloaded}",
    )
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
