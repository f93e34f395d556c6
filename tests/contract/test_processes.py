"""Several processes under Lightning: started by a script, by the command and by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import runs
from runs import TEXT, assert_same_weights, rows, weights
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.errors import ConfigError
from tzd.training.records import read_metrics

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
BOTH = {"training.devices": 2, "data.batch_size": 4}
LONG = {"training.max_steps": 20, "training.eval_interval": 10}
ADAMW = {"training.optimizer": "adamw"}
REST = {
    "model.dropout": 0.1,
    "model.n_layer": 2,
    "model.value_residual": True,
    "training.ema_decay": 0.9,
    "training.gradient_accumulation_steps": 2,
    "data.batch_size": 2,
}
NAN = "nan from 4"
STOP = "SIGTERM to 1 at 4"

# name -> (changes, what happens): every run that two processes make; each starts when the one before it has ended
PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "adamw": ({**ADAMW, **LONG}, ""),
    "muon": ({**LONG}, ""),
    "sharded-adamw": ({**ADAMW, **LONG, "training.strategy": "fsdp", "training.ema_decay": 0.9}, ""),
    "sharded-muon": ({**LONG, "training.strategy": "fsdp"}, ""),
    "whole": ({**REST}, ""),
    "parts": ({**REST}, STOP),
    "parts again": ({**REST, "training.resume": True}, ""),
    "sharded-whole": ({**REST, "training.strategy": "fsdp"}, ""),
    "sharded-parts": ({**REST, "training.strategy": "fsdp"}, STOP),
    "sharded-parts again": ({**REST, "training.strategy": "fsdp", "training.resume": True}, ""),
    "from-two": ({**ADAMW, "training.lr_schedule": "constant"}, STOP),
    "spoiled": ({}, NAN),
    "tested": (
        {"training.test": True, "training.val_generation_freq": 1, "sampler": {"name": "llada", "steps": 2}},
        "",
    ),
}
SETTINGS = (  # of a command
    *("model.n_layer=1", "model.n_head=2", "model.n_embd=16", "sampler.steps=2", "training.max_steps=3"),
    *("data=text", "data.path=text.txt", "data.block_size=24", "training.val_windows=4", "training.accelerator=cpu"),
    *("training.val_generation_freq=0", "training.test=false", "logger.name=run"),
)
SCRIPT = """
import json, os, signal, sys
import runs, tzd
from tzd.cli import main
from tzd.errors import TzdError
from tzd.training.task import Task
noised, rank = Task.noised, os.environ.get("LOCAL_RANK", "0")
for name, (changes, event) in json.load(open("pairs.json")).items():
    def spoilt(self, step):
        if event.startswith("SIG") and step == 4 and rank == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        made = noised(self, step)
        if event.startswith("nan") and step >= 4:
            made.weight[:] = float("nan")
        return made
    Task.noised = spoilt
    changes["logger.name"] = name.split()[0]
    try:
        said = str(tzd.train(runs.config_in(runs.Path("."), changes)))
    except TzdError as error:
        said = f"{error.exit_code}: {error}"
    with open("said." + rank, "a") as file:
        file.write(json.dumps([name, said]) + "\\n")
sys.exit(main(["train", *sys.argv[1:]]))
"""


def start(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a command; the limit is for processes that wait for each other, not for a slow machine."""
    (folder / "text.txt").write_text(TEXT)
    paths = os.pathsep.join([str(Path(runs.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**ENVIRONMENT, "PYTHONPATH": paths}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Where two processes made all their runs and then obeyed a command, and what they said: starting is what costs."""
    folder = tmp_path_factory.mktemp("pair")
    pairs = {name: ({**BOTH, **changes}, event) for name, (changes, event) in PAIRS.items()}
    (folder / "pairs.json").write_text(json.dumps(pairs))
    (folder / "script.py").write_text(SCRIPT)
    command = (*SETTINGS, "training.devices=2", "training.strategy=ddp", "--json")
    result = start(folder, sys.executable, "-m", "script", *command)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return folder, result


@pytest.fixture(scope="module")
def pair(launched: tuple[Path, Any]) -> Callable[[str], RunFolder]:
    return lambda name: RunFolder(launched[0] / name)


def said(run: RunFolder, rank: int = 0) -> dict[str, str]:
    return dict(map(json.loads, (run.path.parent / f"said.{rank}").read_text().splitlines()))


def alone(folder: Path, changes: dict[str, Any]) -> RunFolder:
    return runs.train(folder, {"data.batch_size": 8, **changes})


def column(run: RunFolder, name: str) -> np.ndarray:
    values = read_metrics(run.path)[name]
    return values[~np.isnan(values)]


def assert_same_course(ours: RunFolder, theirs: RunFolder, bar: float) -> None:
    for name in ("loss", "val_nats_per_token"):
        a, b = column(ours, name), column(theirs, name)
        assert len(a) == len(b) > 1
        np.testing.assert_allclose(a, b, rtol=bar, err_msg=name)
    np.testing.assert_allclose(column(ours, "grad_norm"), column(theirs, "grad_norm"), rtol=10 * bar)
    np.testing.assert_array_equal(column(ours, "tokens"), column(theirs, "tokens"))


@pytest.mark.parametrize("strategy", ["", "sharded-"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_follow_one_within_a_ten_thousandth(
    strategy: str, optimizer: str, pair: Callable[[str], RunFolder], tmp_path: Path
) -> None:
    changes, _ = PAIRS[strategy + optimizer]
    one = alone(tmp_path, {key: value for key, value in changes.items() if key != "training.strategy"})
    assert_same_course(pair(strategy + optimizer), one, 1e-4)


def test_the_first_process_alone_writes_and_speaks(pair: Callable[[str], RunFolder]) -> None:
    run = pair("adamw")
    ours, theirs = said(run, 0), said(run, 1)
    assert ours.keys() == theirs.keys() == PAIRS.keys() and set(theirs.values()) == {"None"}
    assert ours["adamw"] == str(Path("adamw") / "step-00000020")
    folders = {path.name for path in run.path.parent.iterdir() if path.is_dir()}
    assert folders == {name for name in PAIRS if " " not in name} | {"runs"}


@pytest.mark.parametrize("strategy", ["", "sharded-"])
def test_processes_leave_at_one_step_and_go_on_as_if_nothing_had_been(
    strategy: str, pair: Callable[[str], RunFolder]
) -> None:
    whole, parts = pair(f"{strategy}whole"), pair(f"{strategy}parts")
    stopped = said(parts)[f"{strategy}parts"]  # told to the second one, heard by both
    assert stopped.startswith(("143: stopped and saved at step 4", "143: stopped and saved at step 5"))
    assert_same_weights(whole, parts)
    assert rows(whole) == rows(parts)
    ours, theirs = (load_file(run.resolve("last") / "training_state.safetensors") for run in (whole, parts))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_sharded_weights_become_the_checkpoint_that_one_process_writes(
    pair: Callable[[str], RunFolder], tmp_path: Path
) -> None:
    sharded = pair("sharded-whole")
    one = alone(tmp_path, {**PAIRS["whole"][0], "data.batch_size": 4})
    ours, theirs = (read_checkpoint(run.resolve("last")).training_state() for run in (sharded, one))
    assert weights(sharded).keys() == weights(one).keys() and ours["raw"].keys() == theirs["raw"].keys()
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        shapes = [
            {(i, key): np.shape(v) for i, state in optimizer["state"].items() for key, v in state.items()}
            for optimizer in (mine, other)
        ]
        assert shapes[0] == shapes[1] and mine["param_groups"] == other["param_groups"]


def test_one_process_goes_on_where_two_left(pair: Callable[[str], RunFolder], tmp_path: Path) -> None:
    left = pair("from-two")
    steady, _ = PAIRS["from-two"]
    straight = alone(tmp_path, steady)
    halves = {"training.gradient_accumulation_steps": 2, "data.batch_size": 4, "training.resume": str(left.path)}
    resumed = runs.train(left.path.parent, {**steady, **halves})
    assert_same_course(resumed, straight, 1e-4)
    assert column(resumed, "epoch").tolist() == column(straight, "epoch").tolist()


def test_a_loss_that_is_not_finite_ends_all_of_them(pair: Callable[[str], RunFolder]) -> None:
    line = said(pair("spoiled"))["spoiled"]
    assert line.startswith("1: the loss is nan at step 5; the last good checkpoint is") and "step-00000003" in line


def test_a_run_of_two_processes_ends_with_a_test(pair: Callable[[str], RunFolder]) -> None:
    run = pair("tested")
    assert len(column(run, "test_nats_per_token")) == 1
    assert (run.path / "samples.txt").read_text().count("test sample") == 12


def test_a_command_trains_in_two_processes_and_prints_once(
    launched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, result = launched
    assert result.stdout.count("best checkpoint") == 1
    assert json.loads(result.stdout.splitlines()[-1])["run"] == str(Path("runs") / "run")
    assert result.stderr.count("step 0/3") == 1 and not (folder / "runs" / "run-2").exists()
    windows = 2 * 16  # of both processes
    assert column(RunFolder(folder / "runs" / "run"), "tokens")[-1] == 3 * windows * 24


# --- other ways of starting them ---------------------------------------------------------------------------------

FAILING = """
import os, sys
import tzd.engines.torch.checkpoint_io as checkpoint_io
from tzd.cli import main
from tzd.errors import TzdError
from tzd.training.task import Task
def fail(*args, **kwargs):
    raise TzdError("it is broken")
if os.environ.get("LOCAL_RANK", "0") == "{rank}":
    {what} = fail
sys.exit(main(["train", *{settings!r}]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "what"), [(0, "checkpoint_io.write_checkpoint"), (1, "Task.noised")])
def test_what_one_process_cannot_do_ends_all_of_them(rank: int, what: str, tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.devices=2"]
    (tmp_path / "failing.py").write_text(FAILING.format(rank=rank, what=what, settings=settings))
    result = start(tmp_path, sys.executable, "failing.py")
    assert result.returncode == 1
    assert result.stderr.count("it is broken") == 1 and "Traceback" not in result.stderr


@pytest.mark.slow
def test_torchrun_starts_them_too(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tzd"]
    result = start(tmp_path, *launch, "train", *SETTINGS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best checkpoint") == 1
    assert column(RunFolder(tmp_path / "runs" / "run"), "tokens")[-1] == 3 * 32 * 24


def test_a_session_without_a_command_is_told_to_use_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # as a notebook has it, and `python -c`
    with pytest.raises(
        ConfigError,
        match=(
            r"training\.devices=2 takes 2 processes, which repeat the "
            "command that started this one, and a notebook or an "
            r"interactive session has none: train by a command \(tzd "
            r"train \.\.\.\) or a script of your own"
        ),
    ):
        runs.train(tmp_path, BOTH)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"training.devices": 1}, {}])
def test_processes_of_torchrun_that_the_settings_do_not_count_are_told_so(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_machine = 2 if changes else 1  # of two: on one machine, or on two that num_nodes does not tell of
    names = {"TORCHELASTIC_RUN_ID": "x", "RANK": 1, "LOCAL_RANK": per_machine - 1, "WORLD_SIZE": 2}
    for name, value in {**names, "LOCAL_WORLD_SIZE": per_machine}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(
        ConfigError,
        match=(
            r"torchrun has started 2 processes, and training\.devices=1 "
            r"on training\.num_nodes=1 takes 1: set them to what "
            "torchrun was told"
        ),
    ):
        runs.train(tmp_path, changes)
    assert not (tmp_path / "run").exists()
