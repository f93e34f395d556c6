"""`smdm` against LitGPT's GPT of the same shape: training passes and forward passes, in one run.

python -m benchmarks smdm --rounds 5 --steps 4
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from tzd.bench.turns import Numbers, in_turns

BATCHES = {"Diff_LLaMA_6M": 8, "Diff_LLaMA_19M": 4, "Diff_LLaMA_113M": 2}  # sequences, by size
LENGTH = 256
DTYPES, PASSES = ("float32", "bfloat16"), ("training", "forward")
LITGPT, OURS = "litgpt", "smdm"


def measure(rounds: int, passes: int) -> dict[str, Any]:
    """Runs the contenders in turns, size after size.

    Args:
        rounds: turns of each.
        passes: passes of each kind in a turn.

    Returns:
        `size, dtype, training or forward` -> the seconds of a pass of LitGPT (causal) and of ours (bidirectional), and
        how many times as fast ours is, turn by turn, the median of it.
    """
    result: dict[str, Any] = {}
    for size, batch in BATCHES.items():
        workers = {name: ["benchmarks.smdm_pass", name, size, str(batch), str(passes)] for name in (LITGPT, OURS)}
        result |= {f"{size[11:]}, {name}": row for name, row in summary(in_turns(workers, rounds), passes).items()}
    return result


def summary(said: dict[str, list[Numbers]], passes: int) -> dict[str, Any]:
    """What the workers of one size said, as figures; see `measure`."""
    kinds = [f"{dtype}, {kind}" for dtype in DTYPES for kind in PASSES]
    turns = list(zip(said[LITGPT][1:-1], said[OURS][1:-1], strict=True))
    return {
        kind: {
            "litgpt": statistics.median(theirs[kind] for theirs, _ in turns) / passes,
            "smdm": statistics.median(ours[kind] for _, ours in turns) / passes,
            "ratio": statistics.median(theirs[kind] / ours[kind] for theirs, ours in turns),
        }
        for kind in kinds
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    batches = ", ".join(f"{batch} of {size[11:]}" for size, batch in BATCHES.items())
    rows = Table(title=f"smdm and LitGPT's causal GPT of one shape on torch, length {LENGTH}, sequences: {batches}")
    for heading in ("", "LitGPT, ms", "smdm, ms", "ratio"):
        rows.add_column(heading, justify="right")
    for name, row in result.items():
        rows.add_row(name, f"{1000 * row['litgpt']:,.0f}", f"{1000 * row['smdm']:,.0f}", f"{row['ratio']:.2f}")
    return rows
