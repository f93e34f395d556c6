"""What it saves to run the head on masked positions only: a training step with 32,000 tokens, in one run.

python -m benchmarks masked-head --rounds 5 --steps 4
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from tzd.bench.turns import Numbers, compared, in_turns, seconds_of

SIZE, BATCH, LENGTH = "Diff_LLaMA_6M", 8, 256
PLAIN = "all positions, cross_entropy"
CONTENDERS = {PLAIN: "plain", "all positions, our loss": "all", "masked positions, our loss": "masked"}


def measure(rounds: int, steps: int) -> dict[str, Any]:
    """Runs the contenders in turns.

    Args:
        rounds: turns of each.
        steps: optimizer steps of a turn.

    Returns:
        Of each contender its seconds a step, the ratio to the head at all positions pair by pair, its memory.
    """
    commands = {name: ["benchmarks.masked_head_step", kind, str(steps)] for name, kind in CONTENDERS.items()}
    return summary(in_turns(commands, rounds), steps)


def summary(said: dict[str, list[Numbers]], steps: int) -> dict[str, Any]:
    """What workers said, as figures; see `measure`."""
    return {
        name: {
            "seconds_per_step": statistics.median(seconds_of(turns)) / steps,
            "ready_mib": turns[0]["ready_mib"],
            **compared(turns, said[PLAIN]),
        }
        for name, turns in said.items()
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    rows = Table(title=f"training {SIZE} with 32,000 tokens on torch, {BATCH} x {LENGTH} tokens a step")
    for heading in ("", "seconds a step", "ratio", "memory", "ratio", "before the first step"):
        rows.add_column(heading, justify="right")
    for name, row in result.items():
        rows.add_row(
            name,
            f"{row['seconds_per_step']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['peak_mib']:,.0f} MiB",
            f"{row['memory_ratio']:.2f}",
            f"{row['ready_mib']:,.0f} MiB",
        )
    return rows
