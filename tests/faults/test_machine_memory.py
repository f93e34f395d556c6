"""Batches that do not fit into memory: the message names a size that does, and with it the run trains."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults.machine import EACH_IN_ITS_TIME
from runs import rows, train, weights
from tzd.checkpoint import RunFolder
from tzd.cli import main
from tzd.errors import InterruptedRunError, TzdError, is_out_of_memory
from tzd.training import memory
from tzd.training.task import Task

WORDS = {
    "torch": "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    " allocate 17592186044416 bytes. Error code 12 (Cannot allocate memory)",
    "mlx": "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum allowed buffer"
    " size of 30150672384 bytes.",
}
STEADY = {"training.lr_schedule": "constant", "training.optimizer": "adamw"}


def fits(patch: pytest.MonkeyPatch, rows: int, engine: str, step: int = 0) -> list[int]:
    """From a step on, memory is for so many rows in a forward pass; the sizes that are tried."""
    original, tried = Task.noised, []

    def noised(self: Task, at: int) -> Any:
        size = self.config.data.batch_size
        tried.append(size)
        if size > rows and at >= (step if size == 24 else 0):
            raise RuntimeError(WORDS[engine])
        return original(self, at)

    patch.setattr(Task, "noised", noised)
    return tried


@EACH_IN_ITS_TIME
@pytest.mark.parametrize(("fitting", "named"), [(23, 12), (7, 6)])
def test_a_batch_that_does_not_fit_is_named_one_that_does(
    fitting: int,
    named: int,
    engine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {**STEADY, "data.batch_size": 24, "training.max_steps": 3}
    straight = train(tmp_path / "straight", changes, engine=engine)
    tried = fits(monkeypatch, fitting, engine)
    with pytest.raises(TzdError) as error:
        train(tmp_path, changes, engine=engine)
    assert str(error.value) == (
        f"out of memory with data.batch_size=24: data.batch_size={named}"
        f" training.gradient_accumulation_steps={24 // named} fits, and trains alike"
    )
    assert error.value.exit_code == 1
    assert "out of memory with data.batch_size=24 training.gradient_accumulation_steps=1: trying what fits" in (
        capsys.readouterr().err
    )
    assert list(dict.fromkeys(tried)) == [size for size in (24, 12, 8, 6, 4, 3, 2, 1) if size >= named]
    parts = {"data.batch_size": named, "training.gradient_accumulation_steps": 24 // named}
    run = train(tmp_path, {**changes, **parts}, engine=engine)
    for name, value in weights(straight).items():
        np.testing.assert_allclose(weights(run)[name], value, atol=1e-5, err_msg=name)


@EACH_IN_ITS_TIME
def test_a_run_whose_memory_grows_short_goes_on_from_its_checkpoint(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**STEADY, "data.batch_size": 24, "training.max_steps": 6}
    straight = train(tmp_path / "straight", changes, engine=engine)
    fits(monkeypatch, 8, engine, step=4)
    with pytest.raises(TzdError) as error:
        train(tmp_path, changes, engine=engine)
    assert str(error.value) == (
        "out of memory with data.batch_size=24: data.batch_size=8 training.gradient_accumulation_steps=3 fits, and"
        f" trains alike; what was saved goes on with training.resume={tmp_path / 'run'}"
    )
    named = dict(re.findall(r"(\S+)=(\d+)(?= )", str(error.value).split(": ", 1)[1]))
    parts = {key: int(value) for key, value in named.items()}
    assert parts == {"data.batch_size": 8, "training.gradient_accumulation_steps": 3}
    run = train(tmp_path, {**changes, **parts, "training.resume": True}, engine=engine)
    for name, value in weights(straight).items():
        np.testing.assert_allclose(weights(run)[name], value, atol=1e-5, err_msg=name)
    assert [row["step"] for row in rows(run)] == [row["step"] for row in rows(straight)]


@EACH_IN_ITS_TIME
def test_where_nothing_fits_the_model_is_too_large(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits(monkeypatch, 0, engine)
    for size, said in ((4, "not even one window at a time fits: make"), (1, "make")):
        with pytest.raises(TzdError) as error:
            train(tmp_path, {"data.batch_size": size}, engine=engine)
        assert str(error.value) == (
            f"out of memory with data.batch_size={size}: {said} the model or data.block_size smaller"
        )


@EACH_IN_ITS_TIME
def test_who_stops_a_run_that_tries_what_fits_stops_it(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fits(monkeypatch, 12, engine)
    original = Task.noised

    def noised(self: Task, at: int) -> Any:
        if self.config.data.batch_size == 12 and at == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, at)

    monkeypatch.setattr(Task, "noised", noised)
    with pytest.raises(InterruptedRunError) as error:
        train(tmp_path, {"data.batch_size": 24}, engine=engine)
    assert str(error.value) == (
        "stopped while trying data.batch_size=12 training.gradient_accumulation_steps=2, for memory is too short for"
        " larger batches"
    )
    assert error.value.exit_code == 128 + signal.SIGINT and set(tried) == {24, 12}


@pytest.mark.parametrize(("size", "part", "less"), [(6, 3, "half"), (9, 3, "1/3")])
def test_where_it_cannot_be_tried_a_part_is_proposed(size: int, part: int, less: str, tmp_path: Path) -> None:
    from torch import nn

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(17, 16)

        def forward(self, tokens: Any) -> Any:
            raise RuntimeError(WORDS["torch"])

    with pytest.raises(TzdError) as error:
        train(tmp_path, {"data.batch_size": size}, denoiser=Own())
    assert str(error.value) == (
        f"out of memory with data.batch_size={size}: data.batch_size={part}"
        f" training.gradient_accumulation_steps={size // part} takes about {less} as much, and trains alike"
    )


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (RuntimeError(WORDS["torch"]), True),
        (RuntimeError(WORDS["mlx"]), True),
        (RuntimeError("[malloc] Unable to allocate 9663676416 bytes."), True),
        (RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not fit"), False),
        (TzdError("out of memory"), False),
    ],
)
def test_every_librarys_way_to_say_that_memory_is_short_is_understood(error: Exception, short: bool) -> None:
    assert is_out_of_memory(error) is short


def test_a_command_that_runs_out_of_memory_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def short(*_: object) -> int:
        raise RuntimeError(WORDS["torch"])

    monkeypatch.setattr("tzd.cli.samplers.run", short)
    assert main(["samplers"]) == 1
    assert capsys.readouterr().err == "tzd: out of memory: a smaller batch, length or model fits\n"


@EACH_IN_ITS_TIME
def test_what_cannot_fit_by_its_plan_is_refused_before_the_system_kills_it(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda all_of_it=False: 2.0**30 if all_of_it else 2.0**29)
    large = {"data.batch_size": 3 * 2**18, "model.block_size": 64, "data.block_size": 64}
    with pytest.raises(TzdError) as error:
        train(tmp_path, large, engine=engine)
    said = re.fullmatch(
        r"data\.batch_size=786432 takes about (\d+\.\d) GiB of memory, and there are 1\.0 GiB: data\.batch_size=(\d+)"
        r" training\.gradient_accumulation_steps=(\d+) fits, and trains alike",
        str(error.value),
    )
    assert said and float(said[1]) > 4 / 3 and int(said[2]) * int(said[3]) == 786432
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(memory, "free_memory", lambda all_of_it=False: 1000.0)
    with pytest.raises(TzdError, match=r"there are 0\.0 GiB: make the model or data\.block_size smaller$"):
        train(tmp_path, {"data.batch_size": 4}, engine=engine)


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from runs import train
from tzd.errors import TzdError
from tzd.training.memory import taken_addresses
engine, size, mebibytes, parts = sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6:]
changes = {"model.n_embd": 64, "model.n_layer": 2, "model.block_size": 64, "data.block_size": 64}
changes |= {"data.batch_size": size, "training.max_steps": 3, "training.optimizer": "adamw"}
small = {"data.batch_size": 2, "training.max_steps": 1, "training.val_windows": 1}
train(Path(sys.argv[2], "small"), {**changes, **small}, engine=engine)  # all libraries are there now
resource.setrlimit(resource.RLIMIT_AS, (taken_addresses() + (mebibytes << 20), -1))
changes |= {part.split("=")[0]: int(part.split("=")[1]) for part in parts}
try:
    train(Path(sys.argv[2]), changes, engine=engine)
except TzdError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="addresses are limited as on Linux")
@pytest.mark.parametrize(
    ("on", "size", "mebibytes", "message"),
    [
        ("torch", 256, 160, r"out of memory with data\.batch_size=256: (.*) fits, and trains alike"),
        ("mlx", 1024, 400, r"data\.batch_size=1024 takes about .* GiB of memory, and there are .*: (.*) fits, and .*"),
    ],
)
def test_the_size_that_is_named_trains_under_the_same_limit(
    on: str, size: int, mebibytes: int, message: str, tmp_path: Path
) -> None:
    if on == "mlx":
        pytest.importorskip("mlx.core")
    script = [sys.executable, "-c", LIMITED, str(Path(__file__).parents[1]), str(tmp_path), on]
    script += [str(size), str(mebibytes)]
    failed = subprocess.run(script, capture_output=True, text=True, check=False)
    said = re.fullmatch(message, failed.stderr.splitlines()[-1])
    assert failed.returncode == 1 and said, failed.stderr
    named = dict(part.split("=") for part in said[1].split())
    assert int(named["data.batch_size"]) * int(named["training.gradient_accumulation_steps"]) == size
    trained = subprocess.run([*script, *said[1].split()], capture_output=True, text=True, check=False)
    assert trained.returncode == 0, trained.stderr
    ended = [RunFolder(path) for path in tmp_path.glob("run*")]
    assert [3] in [run.steps() for run in ended]
