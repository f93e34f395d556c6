"""Runs that are killed at random instants, and runs that lose their terminal or who started them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.kills import campaign
from faults.kills_aims import RUN, STEPS, command, prepare, start, wait_until
from faults.kills_folder import check, compared, named

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
CHEAP = ["mlx", pytest.param("torch", marks=pytest.mark.slow)]  # to start
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.xdist_group("kills")
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(engine: str, tmp_path: Path) -> None:
    kills = {"torch": 2, "mlx": 3}[engine]
    survived = campaign(engine, kills, seed=2, folder=tmp_path, forked=1.0)
    assert survived.kills == kills and survived.bytes > 100_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run to which nothing happens, of an engine."""
    folder, made = tmp_path_factory.mktemp("whole"), dict[str, Path]()

    def run(engine: str) -> Path:
        if engine == "mlx":
            pytest.importorskip("mlx.core")
        if engine not in made:
            made[engine] = prepare(folder / engine)
            assert start(made[engine], engine).wait() == 0
        return made[engine]

    return run


def begun(folder: Path) -> bool:
    return named(folder / RUN, "last") > 0


def finished(folder: Path) -> bool:
    return named(folder / RUN, "finished") == STEPS


@pytest.mark.xdist_group("kills")
@pytest.mark.parametrize("engine", CHEAP)
def test_a_run_goes_on_when_who_started_it_and_who_reads_it_have_died(
    engine: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    theirs, ours = whole(engine), prepare(tmp_path / "orphan")
    shell = ["bash", "-c", '"$@" & wait', "bash", *command(engine)]
    parent = subprocess.Popen(shell, cwd=ours, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert parent.stdout is not None
    wait_until((ours / RUN / "lock").exists)
    parent.kill()
    parent.stdout.close()
    parent.wait()
    wait_until(lambda: finished(ours))
    assert compared(ours, theirs) > 100_000


@pytest.mark.xdist_group("kills")
@pytest.mark.parametrize("engine", CHEAP)
@pytest.mark.parametrize("nohup", [False, True])
def test_a_run_whose_terminal_is_closed_is_saved_or_goes_on_under_nohup(
    nohup: bool, engine: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    theirs, ours = whole(engine), prepare(tmp_path / "closed")
    outer, inner = pty.openpty()
    words = [sys.executable, "-c", IN_A_TERMINAL, *(["nohup"] if nohup else []), *command(engine)]
    process = subprocess.Popen(
        words, cwd=ours, env=ENVIRONMENT, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    wait_until(lambda: begun(ours))
    os.close(outer)
    code = process.wait(300)
    check(ours, engine)
    if nohup:
        (ours / "nohup.out").unlink()
    else:
        assert code == 128 + signal.SIGHUP or finished(ours)
        if not finished(ours):
            assert start(ours, engine).wait() == 0
    assert finished(ours) and compared(ours, theirs) > 100_000
