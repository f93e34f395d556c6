"""Metrics to `metrics.csv` and samples to `samples.txt`, plain files in the run folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tzd.checkpoint import RunFolder
from tzd.checkpoint.durable import append_bytes, one_line_errors, replace_file
from tzd.training.records import COLUMNS, METRICS, Phase, Written, read_rows
from tzd.untrusted import read_file

SAMPLES = "samples.txt"
_HEADER = re.compile(rb"^=== step (\d{1,18}), (test )?sample", re.MULTILINE)
_END = b"\n\n"  # of a text; within one, lines are indented


class CsvLogger:
    """A `Logger` that writes plain files.

    A row or sample is in the file once the call returns, whatever becomes of the process. Texts are indented, so
    that a line that starts with === is always a header, whatever the denoiser wrote.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        """Opens the files of a new run, or of one that goes on.

        Args:
            folder: the run folder.
            resume_step: step of the checkpoint from which the run goes on; what was logged after it is dropped, and
                so is a test that did not come to its end. None for a new run.

        Raises:
            UserError: the metrics of the run that goes on are damaged.
            TzdError: the folder cannot be written.
        """
        self._metrics, self._samples = folder / METRICS, folder / SAMPLES
        rows, samples = [], b""
        if resume_step is not None:
            run = RunFolder(folder)
            if self._metrics.exists():
                rows = read_rows(self._metrics)
                rows = [row for row in rows if run.keeps(int(row["step"]), resume_step, test=_is_test(row))]
            with one_line_errors(self._samples), suppress(FileNotFoundError):
                samples = _samples_until(resume_step, read_file(self._samples), run)
        replace_file(self._metrics, "".join([_line(COLUMNS), *(_row(row) for row in rows)]).encode())
        replace_file(self._samples, samples)

    def log(self, record: Mapping[str, float]) -> None:
        """Appends a row of metrics; cells that it lacks stay empty.

        Raises:
            ValueError: it lacks `step`, or has a column that is not in `COLUMNS`.
            TzdError: the file cannot be written.
        """
        if "step" not in record or (record.keys() - COLUMNS.keys()):
            raise ValueError(f"a row of metrics has 'step' and other columns of {', '.join(COLUMNS)}, not {record}")
        head = "" if self._metrics.exists() else _line(COLUMNS)  # somebody has removed it: what comes can be read
        append_bytes(self._metrics, (head + _row(record)).encode())

    def log_samples(self, step: int, samples: Sequence[Written], phase: Phase = "val") -> None:
        """Appends texts, each under a line that says the step and the temperature.

        Raises:
            TzdError: the file cannot be written.
        """
        kind = "test sample" if phase == "test" else "sample"
        for number, sample in enumerate(samples, start=1):
            indented = sample.text.replace("\n", "\n    ")
            header = f"=== step {step}, {kind} {number} of {len(samples)}, temperature {sample.temperature} ==="
            entry = f"{header}\n    {indented}\n\n"
            append_bytes(self._samples, entry.encode("utf-8", errors="backslashreplace"))

    def close(self) -> None:
        """Does nothing: no file stays open."""


def _row(record: Mapping[str, object]) -> str:
    return _line(record.get(name, "") for name in COLUMNS)


def _line(cells: Iterable[object]) -> str:
    return ",".join(map(str, cells)) + "\n"


def _is_test(row: Mapping[str, str]) -> bool:
    return any(cell for name, cell in row.items() if name.startswith("test_"))


def _samples_until(step: int, data: bytes, run: RunFolder) -> bytes:
    """The texts up to a step; what follows the last blank line, which ends each, was torn."""
    whole = data[: data.rfind(_END) + len(_END)] if _END in data else b""
    for header in _HEADER.finditer(whole):
        if not run.keeps(int(header[1]), step, test=bool(header[2])):
            return whole[: header.start()]
    return whole
