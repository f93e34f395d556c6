"""What a run reports while it trains: the columns of its metrics, who takes them, and how they are read back."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np

from tzd.errors import UserError
from tzd.untrusted import read_file

METRICS = "metrics.csv"
_STEP = re.compile(r"\d{1,18}", re.ASCII)
_CELL = re.compile(r"[-+.\w]*", re.ASCII)  # no formula of a spreadsheet's, no comma, no line break

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "step": "optimizer steps done",
        "epoch": "passes over the training split",
        "tokens": "tokens seen, masked or not",
        "seconds": "time spent training",
        "loss": "training objective, the mean since the row before",
        "lr": "learning rate of AdamW",
        "grad_norm": "norm of the gradient before clipping",
        "tokens_per_second": "speed since the row before",
        "val_nats_per_token": "validation NELBO, in nats per token",
        "val_stderr": "its standard error",
        "val_bits_per_char": "validation NELBO, in bits per character",
        "test_nats_per_token": "NELBO of the test split by the run's best checkpoint, in nats per token",
        "test_stderr": "its standard error",
        "test_bits_per_char": "it, in bits per character",
    }
)


Phase = Literal["val", "test"]


@dataclass(frozen=True)
class Written:
    """A text that a denoiser wrote.

    Attributes:
        temperature: at which it was sampled.
        text: what it wrote.
    """

    temperature: float
    text: str


class Logger(Protocol):
    """Who takes what a run reports. A trainer is handed its loggers and calls each the same way.

    What belongs to a step is logged before the checkpoint of that step is written: a resumed run drops what was
    logged after its checkpoint, and logs it again.
    """

    def log(self, record: Mapping[str, float]) -> None:
        """Takes one row of metrics: `step` and any other of `COLUMNS`."""
        ...

    def log_samples(self, step: int, samples: Sequence[Written], phase: Phase = "val") -> None:
        """Takes what the denoiser wrote after `step` optimizer steps: at a validation, or when the run was over."""
        ...

    def close(self) -> None:
        """Says that nothing more will come."""
        ...


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file, cells as they stand there.

    A last line that does not end was torn by a dying process or a power cut, and is dropped. Of rows that measure the
    same of the same step the last one counts.

    Raises:
        UserError: the file cannot be read, or a row is damaged.
    """
    try:
        text = read_file(path).decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a run folder") from error
    whole, _, _ = text.rpartition("\n")
    reader = csv.DictReader(io.StringIO(whole))
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values() or not _STEP.fullmatch(row.get("step", "")):
                raise ValueError
            if not all(map(_CELL.fullmatch, row.values())):
                raise ValueError
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}, line {reader.line_num} is no row of metrics: remove the line") from error
    measured = {(row["step"], *(name for name, cell in row.items() if cell)): row for row in rows}
    return list(measured.values())


def read_metrics(folder: Path) -> dict[str, np.ndarray]:
    """The metrics of a run.

    Args:
        folder: a run folder.

    Returns:
        Column name -> (rows,) float64, NaN where a row lacks the column; every column of `COLUMNS`.

    Raises:
        UserError: there are none, or a row is damaged.
    """
    path = Path(folder) / METRICS
    rows = read_rows(path)
    try:
        return {name: np.array([float(row.get(name) or "nan") for row in rows]) for name in COLUMNS}
    except ValueError as error:
        raise UserError(f"{path} holds a cell that is no number: {error}; remove the line") from error
