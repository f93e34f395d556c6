"""Sampling: ours in several precisions and a plain loop in turns, with the products of a pass alone between them."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tzd.bench.openblas import environment, preload
from tzd.bench.products import parameters, products
from tzd.bench.sizes import PLAIN_STEPS, Cell
from tzd.bench.training import MACHINE, named, peaks_of, reached
from tzd.bench.turns import Numbers, in_turns, seconds_of
from tzd.bench.weights import write_model

PLAIN = "plain loop, one text"


def measure(cell: Cell, precisions: Sequence[str], rounds: int, steps: int) -> dict[str, Any]:
    """Runs the contenders in turns.

    Args:
        cell: what samples; the plain loop writes one text at a time.
        precisions: some of `tzd.engines.inputs.PRECISIONS`, a contender each.
        rounds: turns of each.
        steps: of the default sampler, which writes whole texts, and passes of the plain loop that are timed.

    Returns:
        Plain data; see `summary`.

    Raises:
        WorkerError: a contender could not.
    """
    own = [*precisions, *(["32"] if cell.batch == 1 else [])]  # the plain loop's, too
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(write_model(Path(folder, "model"), cell.model))
        contenders = {
            MACHINE: ["tzd.bench.peaks", cell.argument, ",".join(own)],
            PLAIN: [f"tzd.bench.plain_{cell.engine}_sampling", cell.argument, str(min(steps, PLAIN_STEPS))],
            **{
                f"tzd, {precision}": ["tzd.bench.ours_sampling", cell.argument, checkpoint, precision, str(steps)]
                for precision in precisions
            },
        }
        on_mlx = cell.engine == "mlx"
        said = in_turns(contenders, rounds, environment() if on_mlx else None)
    return {**vars(cell), "preload": preload() if on_mlx else None, **summary(cell, said)}


def summary(cell: Cell, said: dict[str, list[Numbers]]) -> dict[str, Any]:
    """What workers said, as figures.

    Returns:
        `parameters`, `flop_per_pass` of the whole batch, `peaks`, and of each of the `contenders`: `nfe` of a text;
        `seconds_per_step`, everything but loading divided by `nfe`; `seconds_per_pass`, of the denoiser alone with
        logits of all tokens; that over the time of its operations at the peak (`over_peak`), and over that of its very
        products timed alone (`over_products`); `characters_per_second` of whole texts, and over the plain loop's, turn
        by turn (`ratio`); memory.
    """
    peaks = peaks_of(said[MACHINE])
    return {
        "parameters": parameters(cell.model),
        "flop_per_pass": sum(p.flop for p in products(cell.model, cell.batch, cell.length)),
        "peaks": peaks,
        "contenders": {
            name: _row(cell, ours, said, peaks, rows=1 if name == PLAIN else cell.batch)
            for name, ours in said.items()
            if name != MACHINE
        },
    }


def _row(
    cell: Cell, ours: list[Numbers], said: dict[str, list[Numbers]], peaks: dict[str, float], rows: int
) -> dict[str, Any]:
    plain, alone = said[PLAIN], said[MACHINE][1:-1]
    dtype = "bfloat16" if ours[0].get("bf16") and "bfloat16" in peaks else "float32"
    nfe = PLAIN_STEPS if ours is plain else ours[0]["nfe"]
    steps, plain_steps = seconds_of(ours), seconds_of(plain)
    speeds = [rows * cell.length / (nfe * seconds) for seconds in steps]
    plain_speeds = [cell.length / (PLAIN_STEPS * seconds) for seconds in plain_steps]
    key = "seconds" if ours is plain else "pass_seconds"  # each of the plain loop's passes is a whole one
    passes = [turn[key] for turn in ours[1:-1] if key in turn]
    at_peak = sum(p.flop for p in products(cell.model, rows, cell.length)) / peaks[dtype]
    row: dict[str, Any] = {
        "dtype": dtype,
        "nfe": nfe,
        "seconds_per_step": statistics.median(steps),
        "characters_per_second": statistics.median(speeds),
        "turns": speeds,
        "ratio": statistics.median(own / theirs for own, theirs in zip(speeds, plain_speeds, strict=True)),
        "seconds_per_pass": None,
        "over_peak": None,
        "over_products": None,
        "peak_mib": ours[-1]["peak_mib"],
        "memory_ratio": ours[-1]["peak_mib"] / plain[-1]["peak_mib"],
    }
    if passes:
        seconds = statistics.median(passes)
        row |= {"seconds_per_pass": seconds, "over_peak": seconds / at_peak}
        if rows == cell.batch and f"own_{dtype}" in alone[0]:  # the products are those of the whole batch
            own = [turn[f"own_{dtype}"] for turn in alone]
            row["over_products"] = statistics.median(a / b for a, b in zip(passes, own, strict=True))
    return row


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    preloaded = f"; preloaded: {result['preload']}" if result["preload"] else ""
    rows = Table(
        title=f"sampling {named(result)}: {result['flop_per_pass'] / 1e9:,.1f} GFLOP a pass",
        caption=f"{reached(result['peaks'])}{preloaded}",
    )
    headings = ("", "ms a pass", "of peak", "of products", "NFE", "ms a step", "characters/s", "ratio", "memory")
    for heading in headings:
        rows.add_column(heading, justify="right")
    for name, row in result["contenders"].items():
        rows.add_row(
            name,
            _shown(row["seconds_per_pass"], 1000, ",.1f"),
            _shown(row["over_peak"], 1, ".2f"),
            _shown(row["over_products"], 1, ".2f"),
            f"{row['nfe']:.0f}",
            f"{1000 * row['seconds_per_step']:,.1f}",
            f"{row['characters_per_second']:,.0f}",
            f"{row['ratio']:.1f}",
            f"{row['peak_mib']:,.0f} MiB",
        )
    return rows


def _shown(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else format(scale * value, form)
