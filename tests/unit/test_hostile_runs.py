"""Run folders from anybody: pointers that a bit changed, links that lead elsewhere, names that are commands."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tzd.checkpoint import RunFolder, read_checkpoint, write_checkpoint
from tzd.checkpoint.layout import signed, to_json
from tzd.engines.formats import read_any
from tzd.errors import CheckpointError, TzdError, UserError
from tzd.loggers.csv import CsvLogger
from tzd.training.records import Written

links = pytest.mark.skipif(os.name == "nt", reason="links need rights there")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Steps 1 to 9, so that a name with another digit is that of another checkpoint."""
    run = RunFolder.create(tmp_path / "runs", "a")
    for step in range(1, 10):
        run.checkpoint_path(step).mkdir()
    return run


@pytest.mark.parametrize("pointer", ["last", "best"])
def test_a_flipped_bit_of_a_pointer_is_noticed_or_changes_nothing(pointer: str, run: RunFolder) -> None:
    run.point(pointer, 5)  # type: ignore[arg-type]
    whole = (run.path / pointer).read_bytes()
    noticed = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (run.path / pointer).write_bytes(flipped)
        try:
            assert run.resolve(pointer) == run.checkpoint_path(5)  # type: ignore[arg-type]
        except CheckpointError as error:
            assert f"{run.path / pointer} is damaged" in str(error)
            noticed += 1
    assert noticed >= 8 * (len(whole) - 1)  # all but the line's end


def test_a_pointer_of_an_older_version_has_no_checksum_and_is_read(run: RunFolder) -> None:
    (run.path / "last").write_text("step-00000003\n")
    assert run.resolve("last") == run.checkpoint_path(3)


def test_a_pointer_with_the_checksum_of_another_name_is_damaged(run: RunFolder) -> None:
    run.point("last", 3)
    (run.path / "last").write_text((run.path / "last").read_text().replace("step-00000003", "step-00000004"))
    with pytest.raises(CheckpointError, match=r"last is damaged: it should hold the name of a checkpoint"):
        run.resolve("last")


@links
@pytest.mark.parametrize("name", ["step-00000010", "metrics.csv", "samples.txt", "wandb", "last", "lock", "anything"])
def test_a_run_writes_nothing_where_a_link_in_its_folder_leads(name: str, tmp_path: Path) -> None:
    run, outside = RunFolder.create(tmp_path / "runs", "a"), tmp_path / "outside"
    outside.mkdir()
    (run.path / name).symlink_to(outside / "new")
    with pytest.raises(TzdError) as error, run.lock():
        pass
    assert str(error.value) == (f"{run.path / name} is a link, and a run writes into its own folder alone: remove it")
    assert list(outside.iterdir()) == []


@links
def test_what_a_run_logs_takes_the_place_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("mine")
    (tmp_path / "run").mkdir()
    for name in ("metrics.csv", "samples.txt"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "profile")
    logger = CsvLogger(tmp_path / "run")
    logger.log({"step": 1})
    logger.log_samples(1, [Written(1.0, "touch /tmp/sprung")])
    assert (tmp_path / "profile").read_text() == "mine"


@pytest.mark.parametrize(
    "cell", ["=1+1", "=HYPERLINK(1)", "@x", '"1\n9,9"', '"1,2"', "-1|x", "\x1b[2J", "\N{NO-BREAK SPACE}"]
)
def test_a_cell_that_is_no_number_does_not_pass_into_the_metrics_of_a_resumed_run(cell: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(f"step,loss\n1,{cell}\n2,1.5e-3\n")
    with pytest.raises(UserError, match=r"metrics\.csv, line [23] is no row of metrics: remove the line"):
        CsvLogger(tmp_path, resume_step=2)
    (tmp_path / "metrics.csv").write_text("step,loss\n1,-inf\n2,1.5e-3\n")
    CsvLogger(tmp_path, resume_step=2)
    assert (tmp_path / "metrics.csv").read_text().endswith("1,,,,-inf,,,,,,,,,\n2,,,,1.5e-3,,,,,,,,,\n")


def test_a_text_that_says_it_is_a_header_stays_a_text(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    logger.log_samples(1, [Written(1.0, "a\n=== step 99, sample 1 of 1, temperature 1.0 ===\nb")])
    logger.log_samples(2, [Written(1.0, "c")])
    CsvLogger(tmp_path, resume_step=2)
    assert "    b" in (tmp_path / "samples.txt").read_text() and "    c" in (tmp_path / "samples.txt").read_text()


def test_nothing_that_a_checkpoint_says_is_looked_up_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    said = {"run": {"data": {"name": "${oc.env:SECRET}", "path": "${oc.env:SECRET}"}}, "corpus": "${calc:'1+1'}"}
    config = {"model": {"model_type": "tiny"}, "tokenizer": {}, "diffusion": {}, "provenance": said}
    write_checkpoint(tmp_path / "c", config=config, weights={"a": np.ones(2)})
    assert read_checkpoint(tmp_path / "c").section("provenance") == said


@pytest.mark.parametrize("changed", [("n_head", 7), ("context_len", 3), ("vocab_size", 9)])
def test_what_lies_beside_single_file_of_weights_has_a_digest_of_its_own(
    changed: tuple[str, int], tmp_path: Path
) -> None:
    (tmp_path / "x.npz").write_bytes(b"")
    described = signed(
        {"format": "tzd", "format_version": 1, "model": {"n_head": 1, "vocab_size": 2}, "context_len": 1}
    )
    described[changed[0]] = changed[1]
    (tmp_path / "x.json").write_bytes(to_json(described))
    np.savez(tmp_path / "x.npz", a=np.ones(2, np.float32))
    with pytest.raises(CheckpointError, match=r"x\.json is damaged: its sha256 is not that of what it says"):
        read_any(tmp_path / "x.npz")
