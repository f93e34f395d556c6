"""The names under which dashboards show what a run reports; they group by what stands before the slash."""

from __future__ import annotations

import math
from collections.abc import Mapping


def tags(record: Mapping[str, float]) -> dict[str, float]:
    """A row of metrics without its step, by the names of dashboards.

    Args:
        record: `step` and other columns of `tzd.training.records.COLUMNS`.

    Returns:
        `train/loss`, `val/nats_per_token`, `test/nats_per_token` and the like; what could not be measured (NaN) is
        left out.
    """
    return {_tag(name): float(value) for name, value in record.items() if name != "step" and not math.isnan(value)}


def _tag(column: str) -> str:
    phase, _, name = column.partition("_")
    return f"{phase}/{name}" if phase in ("val", "test") else f"train/{column}"
