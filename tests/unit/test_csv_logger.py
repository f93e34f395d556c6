"""The CSV logger: what it wrote is there at once, and a resumed run's files equal those of one never stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tzd.checkpoint import RunFolder
from tzd.errors import TzdError, UserError
from tzd.loggers.csv import CsvLogger
from tzd.training.records import COLUMNS, Logger, Written, read_metrics

HEADER = (
    "step,epoch,tokens,seconds,loss,lr,grad_norm,tokens_per_second,val_nats_per_token,val_stderr,val_bits_per_char,"
    "test_nats_per_token,test_stderr,test_bits_per_char\n"
)
TEXTS = ["one\ntwo", "=== step 99, sample 1 of 1 ===\r=== step 98, sample 1 of 1 ===\n=== step 97, sample 1 of 1 ==="]
SAMPLES = [Written(0.7, text) for text in TEXTS]


def log_steps(logger: Logger, *steps: int) -> None:
    for step in steps:
        logger.log({"step": step, "loss": 1 / step, "tokens": step * 100})
        logger.log({"step": step, "val_nats_per_token": 2.5, "val_stderr": np.float32(0.1)})
        logger.log_samples(step, SAMPLES)
        logger.log_samples(step, SAMPLES, "test")


def finish(folder: Path, step: int) -> None:
    """Says that a run has come to its end, test and all."""
    run = RunFolder(folder)
    run.checkpoint_path(step).mkdir()
    run.point("finished", step)


def files(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "metrics.csv").read_bytes(), (folder / "samples.txt").read_bytes()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    logger = CsvLogger(tmp_path)
    log_steps(logger, 10, 20, 30)
    logger.close()
    return tmp_path


def test_rows_stand_in_the_file_as_they_were_logged(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == HEADER
    logger.log({"loss": 0.1, "step": 3})
    assert (tmp_path / "metrics.csv").read_text() == HEADER + "3,,,,0.1,,,,,,,,,\n"
    logger.log({"step": 4, "val_bits_per_char": float("inf"), "lr": 1e-5})
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1] == "4,,,,,1e-05,,,,,inf,,,"


def test_numbers_are_read_back_exactly(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    values = [0.1 + 0.2, np.float64(1) / 3, 5e-324, 1e300, 7]
    for step, value in enumerate(values):
        logger.log({"step": step, "loss": value})
    assert read_metrics(tmp_path)["loss"].tolist() == values


def test_samples_are_indented_under_a_header_that_says_step_and_temperature(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    logger.log_samples(20, [Written(0.5, "one\ntwo"), Written(1.0, "\udcff")])
    logger.log_samples(20, [Written(0.5, "three")], "test")
    assert (tmp_path / "samples.txt").read_text() == (
        "=== step 20, sample 1 of 2, temperature 0.5 ===\n    one\n    two\n\n"
        "=== step 20, sample 2 of 2, temperature 1.0 ===\n    \\udcff\n\n"
        "=== step 20, test sample 1 of 1, temperature 0.5 ===\n    three\n\n"
    )


@pytest.mark.parametrize("resume_step", [0, 10, 15, 20, 30])
def test_a_resumed_run_ends_with_the_bytes_of_one_never_stopped(
    resume_step: int, written: Path, tmp_path: Path
) -> None:
    expected = files(written)
    finish(written, resume_step)
    logger = CsvLogger(written, resume_step=resume_step)
    log_steps(logger, *(step for step in (10, 20, 30) if step > resume_step))
    assert files(written) == expected


def test_every_torn_end_is_mended_on_resume(written: Path) -> None:
    metrics, samples = files(written)
    finish(written, 20)
    logger = CsvLogger(written, resume_step=20)
    kept = files(written)
    for torn in range(len(kept[0]), len(metrics)):
        (written / "metrics.csv").write_bytes(metrics[:torn])
        CsvLogger(written, resume_step=20)
        assert files(written)[0] == kept[0]
    for torn in range(len(kept[1]), len(samples)):
        (written / "samples.txt").write_bytes(samples[:torn])
        CsvLogger(written, resume_step=20)
        assert files(written)[1] == kept[1]
    log_steps(logger, 30)
    assert files(written) == (metrics, samples)


def test_a_test_that_did_not_come_to_its_end_is_dropped_on_resume(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    logger.log({"step": 20, "loss": 0.1})
    logger.log_samples(20, SAMPLES)
    untested = files(tmp_path)
    logger.log({"step": 20, "test_nats_per_token": 2.5})
    logger.log_samples(20, SAMPLES[:1], "test")
    CsvLogger(tmp_path, resume_step=20)
    assert files(tmp_path) == untested


def test_a_new_run_starts_with_empty_files(written: Path) -> None:
    CsvLogger(written)
    assert files(written) == (HEADER.encode(), b"")


def test_a_run_without_files_can_go_on(tmp_path: Path) -> None:
    CsvLogger(tmp_path, resume_step=5)
    assert files(tmp_path) == (HEADER.encode(), b"")


def test_metrics_of_an_earlier_version_gain_the_new_columns(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n10,1.50\n")
    CsvLogger(tmp_path, resume_step=10)
    assert (tmp_path / "metrics.csv").read_text() == HEADER + "10,,,,1.50,,,,,,,,,\n"


def test_damaged_metrics_stop_a_resume_before_anything_is_rewritten(written: Path) -> None:
    damaged = files(written)[0].replace(b"20,", b"oops,", 1)
    (written / "metrics.csv").write_bytes(damaged)
    with pytest.raises(UserError, match="line 4 is no row"):
        CsvLogger(written, resume_step=30)
    assert files(written)[0] == damaged


@pytest.mark.parametrize("record", [{"loss": 1.0}, {"step": 1, "los": 1.0}])
def test_a_row_without_its_step_or_with_an_unknown_column_is_an_error(record: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a row of metrics has 'step' and other columns of step, epoch"):
        CsvLogger(tmp_path).log(record)
    assert (tmp_path / "metrics.csv").read_text() == HEADER


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        TzdError,
        match=r"cannot write .+: Not a directory \(.+\); choose a folder that is there and that you may write to",
    ):
        CsvLogger(tmp_path / "file")


def test_a_folder_that_vanishes_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    logger = CsvLogger(folder)
    for name in ("metrics.csv", "samples.txt"):
        (folder / name).unlink()
    folder.rmdir()
    with pytest.raises(TzdError, match=r"^cannot write .*metrics.csv: No such file or directory"):
        logger.log({"step": 1})
    with pytest.raises(TzdError, match=r"^cannot write .*samples.txt: No such file or directory"):
        logger.log_samples(1, SAMPLES)


def test_every_column_says_what_it_holds() -> None:
    assert ",".join(COLUMNS) + "\n" == HEADER
    assert all(COLUMNS.values())
