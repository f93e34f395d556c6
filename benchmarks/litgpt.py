"""What LitGPT's GPT loses by becoming bidirectional: forward and backward against its own causal one, in one run.

python -m benchmarks litgpt --rounds 5 --steps 6
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from tzd.bench.turns import Numbers, compared, in_turns, seconds_of

BATCH, LENGTH, VOCABULARY = 4, 256, 66
CAUSAL = "LitGPT's own, causal"
CONTENDERS = {CAUSAL: "causal", "litgpt, bidirectional": "bidirectional", "smdm": "smdm"}


def measure(rounds: int, passes: int) -> dict[str, Any]:
    """Runs the contenders in turns.

    Args:
        rounds: turns of each.
        passes: forward and backward passes of a turn.

    Returns:
        Of each contender its tokens per second, the ratio to the causal one pair by pair, its memory.
    """
    commands = {name: ["benchmarks.litgpt_pass", kind, str(BATCH), str(passes)] for name, kind in CONTENDERS.items()}
    return summary(in_turns(commands, rounds), passes)


def summary(said: dict[str, list[Numbers]], passes: int) -> dict[str, Any]:
    """What workers said, as figures; see `measure`."""
    return {
        name: {
            "tokens_per_second": passes * BATCH * LENGTH / statistics.median(seconds_of(turns)),
            **compared(turns, said[CAUSAL]),
        }
        for name, turns in said.items()
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    rows = Table(title=f"forward and backward of one shape, length {LENGTH}, PyTorch")
    for heading in ("", "tokens/s", "ratio", "memory", "ratio"):
        rows.add_column(heading, justify="right")
    for name, row in result.items():
        speed, peak = f"{row['tokens_per_second']:,.0f}", f"{row['peak_mib']:,.0f} MiB"
        rows.add_row(name, speed, f"{row['ratio']:.2f}", peak, f"{row['memory_ratio']:.2f}")
    return rows
