"""TensorBoard: what it was given is read back from what was written."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from tensorboard_events import events, scalars, texts
from tzd.checkpoint import RunFolder
from tzd.config import RunConfig, run_config
from tzd.errors import TzdError, UserError
from tzd.loggers.tensorboard import TensorBoardLogger
from tzd.mapping import to_mapping
from tzd.training.records import Written

TEXTS = ["one\n    two\n\n<b>*three*</b>", "\udcff\r\x1b[31m", ""]
VAL = "val/nats_per_token"


def log_steps(logger: Any, *steps: int, scale: float = 1.0) -> None:
    for step in steps:
        logger.log({"step": step, "loss": scale / step})
        logger.log({"step": step, "val_nats_per_token": scale * step})
        logger.log_samples(step, [Written(0.7, f"text {scale} at {step}")])


def test_tensorboard_reads_metrics_back_at_once(tmp_path: Path) -> None:
    logger = TensorBoardLogger(RunConfig(), tmp_path)
    log_steps(logger, 1, 2, 4)
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 2.0), (4, 4.0)]
    assert set(events(tmp_path).PluginTagToContent("scalars")) == {"train/loss", VAL}


def test_tensorboard_shows_samples_and_the_configuration_verbatim(tmp_path: Path) -> None:
    config = run_config({"logger": {"kind": ["csv", "tensorboard"]}, "seed": 7})
    logger = TensorBoardLogger(config, tmp_path)
    logger.log_samples(5, [Written(0.7, text) for text in TEXTS])
    logger.log_samples(6, [Written(0.7, "at the end")], "test")
    assert texts(tmp_path, "val-samples/1") == [(5, TEXTS[0])]
    assert texts(tmp_path, "val-samples/2") == [(5, "\N{REPLACEMENT CHARACTER}␍␛[31m")]
    assert texts(tmp_path, "val-samples/3") == [(5, "")]
    ((step, settings),) = texts(tmp_path, "config")
    assert step == 0 and json.loads(settings) == to_mapping(config)
    assert set(events(tmp_path).PluginTagToContent("text")) == {
        "config",
        *(f"val-samples/{number}" for number in (1, 2, 3)),
        "test-samples/1",
    }
    assert texts(tmp_path, "test-samples/1") == [(6, "at the end")]


@pytest.mark.parametrize("resume_step", [0, 2, 3, 4])
def test_tensorboard_drops_what_was_logged_after_the_checkpoint(resume_step: int, tmp_path: Path) -> None:
    log_steps(TensorBoardLogger(RunConfig(), tmp_path), 1, 2, 4)
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, resume_step), 5, scale=10.0)
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, 5), 6, scale=100.0)
    kept = [step for step in (1, 2, 4) if step <= resume_step]
    assert scalars(tmp_path, VAL) == [(step, float(step)) for step in kept] + [(5, 50.0), (6, 600.0)]
    assert [step for step, _ in texts(tmp_path, "val-samples/1")] == [*kept, 5, 6]
    assert [step for step, _ in texts(tmp_path, "config")] == [0, *[resume_step + 1] * (resume_step < 5), 6]
    assert len(list(tmp_path.iterdir())) == 1  # a server that knows nothing of restarts sees nothing stale


@pytest.mark.parametrize("ended", [False, True])
def test_a_test_that_did_not_come_to_its_end_is_dropped_from_events(ended: bool, tmp_path: Path) -> None:
    run, logger = RunFolder(tmp_path), TensorBoardLogger(RunConfig(), tmp_path)
    log_steps(logger, 1, 2)
    logger.log({"step": 2, "test_nats_per_token": 2.5})
    logger.log_samples(2, [Written(0.7, "at the end")], "test")
    run.checkpoint_path(2).mkdir()
    if ended:
        run.point("finished", 2)
    logger = TensorBoardLogger(RunConfig(), tmp_path, 2)
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 2.0)]
    told = [tag for tag in events(tmp_path).Tags()["tensors"] if tag.startswith("test")]
    assert told == ["test/nats_per_token", "test-samples/1"] * ended


def test_tensorboard_goes_on_after_a_torn_end(tmp_path: Path) -> None:
    log_steps(TensorBoardLogger(RunConfig(), tmp_path), 1, 2)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, 1), 2, scale=10.0)
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 20.0)]


def test_tensorboard_goes_on_after_a_resume_that_was_killed(tmp_path: Path) -> None:
    log_steps(TensorBoardLogger(RunConfig(), tmp_path), 1, 2)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    TensorBoardLogger(RunConfig(), tmp_path, 1)
    file.write_bytes(before)  # as if it had been killed before the old file was removed
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, 1), 2, scale=10.0)
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 20.0)]
    assert len(list(tmp_path.iterdir())) == 1


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("0x", "1.5", "9" * 5000, "-1", "\N{ARABIC-INDIC DIGIT THREE}"):
        with suppress(OSError):  # a name that is too long
            (tmp_path / f"events.out.tfevents.{name}.tzd").write_text("mine")
    count = len(list(tmp_path.iterdir()))
    TensorBoardLogger(RunConfig(), tmp_path, 1)
    assert (tmp_path / "events.out.tfevents.0000000000.tzd").exists()
    assert [path.read_text() for path in tmp_path.iterdir() if "00000" not in path.name] == ["mine"] * count


def test_an_event_that_is_none_is_one_line(tmp_path: Path) -> None:
    record = io.BytesIO()
    RecordWriter(record).write(b"\xff" * 20)
    file = tmp_path / "events.out.tfevents.0000000003.tzd"
    file.write_bytes(record.getvalue())
    with pytest.raises(UserError, match=r"tfevents\.0000000003\.tzd cannot be read: .*; remove it, and what it shows"):
        TensorBoardLogger(RunConfig(), tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_is_called_like_a_file_of_events_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.out.tfevents.0000000003.tzd")
    TensorBoardLogger(RunConfig(), tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["events.out.tfevents.0000000004.tzd"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TzdError, match=r"^cannot write .*tfevents.*: No such file or directory"):
        TensorBoardLogger(RunConfig(), tmp_path / "none")
