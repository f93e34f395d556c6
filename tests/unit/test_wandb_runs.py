"""Runs that log to W&B by its own library, offline: what it wrote is read back."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runs import config_in, send_at, train
from tensorboard_events import scalars, texts
from tzd.errors import InterruptedRunError
from tzd.loggers.tags import tags
from tzd.mapping import to_mapping
from tzd.training.records import read_rows

pytestmark = pytest.mark.usefixtures("no_account")


def records(folder: Path) -> Iterator[Any]:
    """What W&B wrote for one process: LevelDB's log format, blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, at, block, whole = file.read_bytes(), 7, 1 << 15, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # full, or last of several
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def history(folder: Path) -> list[dict[str, Any]]:
    found = []
    for record in records(folder):
        if record.HasField("history"):
            found.append({".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
    return found


def offline_runs(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*"))


def assert_same_metrics(run: Path, folder: Path) -> None:
    """W&B's history holds the rows of metrics.csv, at their steps."""
    ours = [{k: float(v) for k, v in row.items() if v and v != "nan"} for row in read_rows(run / "metrics.csv")]
    theirs = [row for row in history(folder) if not any(key.endswith("samples.path") for key in row)]
    assert [{"step": row["step"], **tags(row)} for row in ours] == [
        {k: v for k, v in row.items() if not k.startswith("_")} for row in theirs
    ]


def test_a_run_on_mlx_writes_to_all_at_once_and_imports_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    changes = {"engine.name": "mlx", "logger.kind": ["tensorboard", "wandb"], "training.val_generation_freq": 1}
    changes |= {"training.test": True, "model.test_temperatures": [0.5, 1.0]}
    config = config_in(tmp_path, {**changes, "logger.project": "mine"})
    code = (
        "import json, sys, tzd; tzd.train(json.load(sys.stdin));"
        "print(sorted({'torch', 'tensorflow', 'lightning'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(to_mapping(config)), capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
    run = tmp_path / "run"
    said = f"W&B: offline (no API key was found); to upload the run: wandb sync {run}/wandb/offline-run-*"
    assert [line for line in result.stderr.splitlines() if "W&B" in line or "wandb" in line] == [said]

    (folder,) = offline_runs(run)
    assert_same_metrics(run, folder)
    begun = next(record.run for record in records(folder) if record.HasField("run"))
    assert (begun.project, begun.display_name, begun.entity) == ("mine", "run", "")
    kept = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert {key: value for key, value in kept.items() if key != "_wandb"} == to_mapping(config)
    axes = [record.metric for record in records(folder) if record.HasField("metric")]
    assert [(axis.name, axis.glob_name, axis.step_metric) for axis in axes[:2]] == [("step", "", ""), ("", "*", "step")]
    for name, steps, temperatures in (("val", [3, 6], [1.0]), ("test", [6], [0.5] * 4 + [1.0] * 4)):
        tables = [
            (row["step"], json.loads((folder / "files" / row[f"{name}/samples.path"]).read_bytes()))
            for row in history(folder)
            if f"{name}/samples.path" in row
        ]
        assert [step for step, _ in tables] == steps
        for step, table in tables:
            assert table["columns"] == ["step", "temperature", "text"]
            assert [row[:2] for row in table["data"]] == [[step, temperature] for temperature in temperatures]
            shown = [texts(run, f"{name}-samples/{number}") for number in range(1, len(temperatures) + 1)]
            assert [row[2] for row in table["data"]] == [dict(events)[step] for events in shown]
    assert [step for step, _ in scalars(run, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [record.exit.exit_code for record in records(folder) if record.HasField("exit")] == [0]


def test_a_resumed_run_goes_on_in_the_same_run_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def left_behind() -> tuple[Any, ...]:
        theirs = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
        return sys.excepthook, sys.exit, signal.getsignal(signal.SIGINT), theirs, wandb.run

    before = left_behind()
    logger = {"logger.kind": ["wandb", "tensorboard"]}
    with monkeypatch.context() as patch:
        send_at(patch, 4, signal.SIGINT)
        with pytest.raises(InterruptedRunError, match="stopped and saved at step 4"):
            train(tmp_path, logger)
    run = train(tmp_path, {**logger, "training.resume": True}).path
    first, second = offline_runs(run)
    begun = [next(record.run for record in records(folder) if record.HasField("run")) for folder in (first, second)]
    assert [part.run_id for part in begun] == [(run / "wandb" / "run-id").read_text().strip()] * 2
    assert [part.resume for part in begun] == [False, True]
    assert [row["step"] for row in history(first)] == [0, 1, 2, 3, 3, 4]
    assert [row["step"] for row in history(second)] == [5, 6, 6]
    assert [step for step, _ in scalars(run, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert left_behind() == before
