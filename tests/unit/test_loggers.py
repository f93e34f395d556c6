"""Which loggers a run gets, and what dashboards call its metrics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tzd.checkpoint import RunFolder
from tzd.config import run_config
from tzd.errors import ConfigError, MissingExtraError
from tzd.loggers import run_loggers
from tzd.loggers.tags import tags
from tzd.training.records import COLUMNS


def test_dashboards_group_training_and_validation_and_leave_out_what_is_not_measured() -> None:
    assert tags({"step": 3, "loss": 1, "epoch": 0.5}) == {"train/loss": 1.0, "train/epoch": 0.5}
    assert tags({"step": 3, "val_nats_per_token": 2.0, "val_bits_per_char": float("nan")}) == {
        "val/nats_per_token": 2.0
    }
    assert len(tags(dict.fromkeys(COLUMNS, 1.0))) == len(COLUMNS) - 1


@pytest.mark.parametrize("kind", ["csv", "tensorboard", ["tensorboard"], ["csv", "tensorboard", "tensorboard"], []])
def test_files_and_progress_are_there_whatever_is_asked_for(kind: Any, tmp_path: Path) -> None:
    config = run_config({"logger": {"kind": kind}})
    loggers = run_loggers(config)(RunFolder(tmp_path), None, 10)
    for logger in loggers:
        logger.close()
    names = ["CsvLogger", *["TensorBoardLogger"] * ("tensorboard" in kind), "ProgressLogger"]
    assert [type(logger).__name__ for logger in loggers] == names


@pytest.mark.parametrize(
    "kind, message",
    [
        ("tensorbord", "unknown logger.kind 'tensorbord' .did you mean 'tensorboard'"),
        (["csv", "wnadb"], "unknown logger.kind 'wnadb' .did you mean 'wandb'"),
        (["csv", 3], "logger.kind cannot be .* it takes a text or a list, each entry a text"),
    ],
)
def test_an_unknown_logger_names_the_nearest(kind: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_loggers(run_config({"logger": {"kind": kind}}))


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_missing_extra_is_one_line_before_a_run_has_a_folder(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == kind or name == f"tzd.loggers.{kind}"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtraError, match=f"logger.kind={kind} needs the extra '{kind}': uv sync --extra {kind}"):
        run_loggers(run_config({"logger": {"kind": ["csv", kind]}}))
