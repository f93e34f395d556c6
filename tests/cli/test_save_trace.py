"""`--save-trace`: the run is kept, and equals what was printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import Run

import tzd as package


@pytest.mark.parametrize(
    "command", [["sample", "--prompt", "the ", "--length", 12, "--steps", 4], ["infill", "the ____ fox", "--steps", 3]]
)
def test_a_kept_run_ends_with_the_text_that_was_printed(command: list, trained: Path, tzd: Run, tmp_path: Path) -> None:
    name, *flags = command
    result = tzd(name, trained, *flags, "--seed", 3, "--batch-size", 2, "--json", "--save-trace", "x.npz")
    assert (result.returncode, result.stderr) == (0, "")
    out, trace = json.loads(result.stdout.splitlines()[-1]), package.Trace.load(tmp_path / "x.npz")
    *_, last = trace.frames
    assert trace.text == out["text"] and last.tokens.tolist() == out["tokens"] and last.nfe == out["nfe"]
    assert trace.about["seed"] == 3 and trace.about["settings"] == {"steps": flags[-1]}
    assert trace.about["model"]["corpus"] == "text"
    assert str(tmp_path) not in str(trace.about) and str(trained) not in str(trace.about)


def test_a_name_that_cannot_be_is_said_before_the_model_is_loaded(tzd: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=np.zeros(2))
    for name, message in (
        ("x.txt", "a trace ends in .npz"),
        ("nowhere/x.npz", "there is no folder nowhere"),
        ("weights.npz", "it exists, and is no trace"),
    ):
        result = tzd("sample", "no-such-checkpoint", "--save-trace", name)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1


def test_nothing_is_kept_of_a_run_that_failed(trained: Path, tzd: Run, tmp_path: Path) -> None:
    assert tzd("sample", trained, "--steps", 0, "--save-trace", "x.npz").returncode == 2
    assert list(tmp_path.glob("*")) == []
