"""Runs of two processes of which one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.kills_aims import RUN, SETTINGS, prepare, wait_until
from faults.kills_folder import check, compared, named

STEPS = 200
SCRIPT = """
import os, pathlib, sys
from tzd.cli import main
rank = os.environ.get("MLX_RANK") or os.environ.get("LOCAL_RANK", "0")
pathlib.Path("rank-" + rank).write_text(str(os.getpid()))
sys.exit(main(["train", *sys.argv[1:]]))
"""
LONG = (f"training.max_steps={STEPS}", "training.eval_interval=100", "training.checkpoint_interval=20")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def launch(folder: Path, engine: str) -> subprocess.Popen[bytes]:
    (folder / "script.py").write_text(SCRIPT)
    resume = ["training.resume=true"] if any((folder / RUN).glob("step-*")) else []
    words = [f"engine={engine}", *SETTINGS, *LONG, *resume]
    if engine == "torch":
        command = [sys.executable, "-m", "script", *words, "training.devices=2"]
    else:
        from contract.test_mlx_processes import launcher  # needs MLX

        command = [*launcher(2), sys.executable, str(folder / "script.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)


def tidied(folder: Path) -> Path:
    """Without what the launching left, which says who they were."""
    for file in (folder / "script.py", folder / "rank-0", folder / "rank-1"):
        file.unlink(missing_ok=True)
    return folder


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of two processes to which nothing happens, of an engine."""
    folder, made = tmp_path_factory.mktemp("whole"), dict[str, Path]()

    def run(engine: str) -> Path:
        if engine not in made:
            made[engine] = prepare(folder / engine)
            launch(made[engine], engine).wait()
            assert named(made[engine] / RUN, "finished") == STEPS, (made[engine] / "said.txt").read_text()
        return tidied(made[engine])

    return run


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_whose_process_is_killed_ends_in_one_line_and_goes_on_as_if_nothing_had_been(
    rank: int, engine: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    theirs, ours = whole(engine), prepare(tmp_path / "killed")
    process = launch(ours, engine)
    wait_until(lambda: named(ours / RUN, "last"))
    pids = [int((ours / f"rank-{number}").read_text()) for number in (0, 1)]
    os.kill(pids[rank], signal.SIGKILL)
    code = process.wait(120)
    assert engine == "mlx" or code == (1 if rank else -signal.SIGKILL)  # MLX's launcher says nothing by its own
    wait_until(lambda: not is_there(pids[1 - rank]))
    said = (ours / "said.txt").read_text()
    assert said.count("tzd: another process has gone; go on from the last checkpoint with training.resume=true") == 1
    assert "Traceback" not in said
    assert 0 < named(ours / RUN, "last") < STEPS
    check(ours, engine)
    launch(ours, engine).wait()
    assert named(ours / RUN, "finished") == STEPS, (ours / "said.txt").read_text()
    assert compared(tidied(ours), theirs) > 100_000
