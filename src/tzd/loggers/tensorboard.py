"""Metrics, samples and the configuration for TensorBoard: event files in the run folder."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from tzd.checkpoint import RunFolder
from tzd.checkpoint.durable import append_bytes, one_line_errors, replace_file
from tzd.config import RunConfig
from tzd.errors import UserError, first_line
from tzd.loggers.tags import tags
from tzd.mapping import to_mapping
from tzd.printable import printable
from tzd.training.records import Phase, Written

_FILES = "events.out.tfevents.{}.tzd"
_NAME = re.compile(re.escape(_FILES).replace(r"\{\}", r"(\d{1,18})"), re.ASCII)


class TensorBoardLogger:
    """A `Logger` that writes TensorBoard's event files, by its own library, which needs neither PyTorch nor TensorFlow.

    An event is in the file once the call returns. A run that goes on begins a new file with what it keeps of the last
    one: a TensorBoard that watches takes it for a restart, one that is started later sees a run that never stopped.
    """

    def __init__(self, config: RunConfig, folder: Path, resume_step: int | None = None) -> None:
        """Opens the file of a new run, or of one that goes on.

        Args:
            config: the run's, which is shown among the texts.
            folder: the run folder.
            resume_step: step of the checkpoint from which the run goes on; what was logged after it is dropped, and
                so is a test that did not come to its end. None for a new run.

        Raises:
            UserError: the last file is no such file.
            TzdError: the folder cannot be read or written.
        """
        with one_line_errors(folder):
            numbers = {
                int(name[1]): path for path in folder.glob(_FILES.format("*")) if (name := _NAME.fullmatch(path.name))
            }
            number, old = max(numbers, default=-1) + 1, [numbers[key] for key in sorted(numbers)]
            old = [file for file in old if not file.is_dir()]
            kept = [] if resume_step is None or not old else _events_until(resume_step, old[-1])
        begin = 0 if resume_step is None else resume_step + 1
        settings = json.dumps(to_mapping(config), indent=2)
        events = [
            _event(file_version="brain.Event:2"),
            _event(session_log=SessionLog(status=SessionLog.START)),
            *kept,
            _event(summary=text_pb("config", _verbatim(settings)), step=begin),
        ]
        self._file = folder / _FILES.format(f"{number:010d}")
        replace_file(self._file, b"".join(map(_record, events)))
        for file in old:
            file.unlink(missing_ok=True)

    def log(self, record: Mapping[str, float]) -> None:
        """Appends a row of metrics, each a scalar.

        Raises:
            TzdError: the file cannot be written.
        """
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in tags(record).items()]
        self._append(_event(summary=Summary(value=values), step=int(record["step"])))

    def log_samples(self, step: int, samples: Sequence[Written], phase: Phase = "val") -> None:
        """Appends texts: `val-samples/1`, `val-samples/2`, ..., each with its temperature in the first line.

        Raises:
            TzdError: the file cannot be written.
        """
        for number, sample in enumerate(samples, start=1):
            text = f"temperature {sample.temperature}\n\n{_verbatim(sample.text)}"
            self._append(_event(summary=text_pb(f"{phase}-samples/{number}", text), step=step))

    def close(self) -> None:
        """Does nothing: no file stays open."""

    def _append(self, event: Event) -> None:
        append_bytes(self._file, _record(event))


def _event(**content: Any) -> Event:
    return Event(wall_time=time.time(), **content)


def _record(event: Event) -> bytes:
    """An event as it stands in a file: with its length and checksums."""
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()


def _events_until(step: int, file: Path) -> list[Event]:
    """What was logged up to a step; a torn end is dropped."""
    run = RunFolder(file.parent)
    try:
        events = LegacyEventFileLoader(str(file)).Load() if file.is_file() else ()
        told = [event for event in events if event.HasField("summary")]
        return [event for event in told if run.keeps(event.step, step, test=_is_test(event))]
    except Exception as error:  # whatever a damaged file makes the library raise
        raise UserError(f"{file} cannot be read: {first_line(error)}; remove it, and what it shows is gone") from error


def _is_test(event: Event) -> bool:
    return any(value.tag.startswith(("test/", "test-samples/")) for value in event.summary.value)


def _verbatim(text: str) -> str:
    """A block of code in Markdown, which is how TensorBoard reads texts."""
    return "\n".join(f"    {line}" for line in printable(text).split("\n"))
