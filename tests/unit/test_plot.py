from __future__ import annotations

from pathlib import Path

import pytest

from tzd.errors import UserError
from tzd.loggers.csv import CsvLogger
from tzd.viewers.plot import plot_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a-run"
    folder.mkdir()
    logger = CsvLogger(folder, None)
    for step in range(0, 50, 10):
        logger.log({"step": step, "val_nats_per_token": 3.0 - step / 50, "val_bits_per_char": 4.3 - step / 35})
        logger.log({"step": step + 10, "loss": 3.0 - step / 50})
    logger.close()
    return folder


def test_an_svg_shows_both_curves_and_a_unit_where_it_is_known(run: Path):
    picture = plot_run(run, run / "loss.svg").read_text()
    for words in ("a-run", "optimizer steps", "training objective", "validation NELBO (bits per character)"):
        assert f"<!-- {words} -->" in picture


def test_a_png_is_a_png(run: Path):
    assert plot_run(run, run / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_an_ending_that_cannot_be_written_is_refused(run: Path):
    with pytest.raises(UserError, match=r"loss\.txt: a picture ends in \.png, \.svg, \.pdf"):
        plot_run(run, run / "loss.txt")
    assert not (run / "loss.txt").exists()


def test_a_folder_without_metrics_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"metrics\.csv"):
        plot_run(tmp_path, tmp_path / "loss.png")
