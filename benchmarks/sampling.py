"""What a denoiser pass of sampling costs on MLX: ours against a plain loop, in one run.

python -m benchmarks mlx-sampling --rounds 5 --passes 16
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from benchmarks.openblas import environment, preload
from benchmarks.turns import Numbers, compared, in_turns, seconds_of

BATCHES = (1, 16)
PLAIN, OURS = "plain loop", "tzd"


def measure(rounds: int, passes: int) -> dict[str, Any]:
    """Runs the contenders in turns, at every batch size.

    Args:
        rounds: turns of each.
        passes: denoiser passes of a turn, in which whole texts are written. Ours computes logits at the blanks alone,
            half of a text on average, whatever their number.

    Returns:
        Plain data: `preload`, and of each contender the time of a pass, the ratio to the plain loop's pair by pair, its
        memory.
    """
    modules = {PLAIN: "benchmarks.plain_sampling", OURS: "benchmarks.ours_sampling"}
    contenders = {
        _named(name, batch): [module, str(batch), str(passes)] for batch in BATCHES for name, module in modules.items()
    }
    said = in_turns(contenders, rounds, environment())
    return {"passes": passes, "preload": preload(), "contenders": summary(said)}


def summary(said: dict[str, list[Numbers]]) -> dict[str, Any]:
    """What workers said, as figures; see `measure`."""
    return {
        _named(name, batch): _row(said[_named(name, batch)], said[_named(PLAIN, batch)])
        for batch in BATCHES
        for name in (PLAIN, OURS)
    }


def _named(name: str, batch: int) -> str:
    return f"{name}, batch {batch}"


def _row(ours: list[Numbers], plain: list[Numbers]) -> dict[str, Any]:
    seconds = seconds_of(ours)
    return {"seconds_per_pass": statistics.median(seconds), "turns": seconds, **compared(ours, plain)}


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    rows = Table(
        title=f"sampling tiny on mlx: {result['passes']} passes of a turn",
        caption=f"preloaded: {result['preload'] or 'nothing'}",
    )
    for heading in ("", "ms a pass", "turns", "ratio", "memory", "ratio"):
        rows.add_column(heading, justify="right")
    for name, row in result["contenders"].items():
        rows.add_row(
            name,
            f"{1000 * row['seconds_per_pass']:,.0f}",
            f"{1000 * min(row['turns']):,.0f}-{1000 * max(row['turns']):,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['peak_mib']:,.0f} MiB",
            f"{row['memory_ratio']:.2f}",
        )
    return rows
