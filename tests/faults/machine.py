"""Faults of the machine, made on purpose: a small disk, one that may not be written to, a clock that jumps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tzd.training.task import Task

# On both engines, the one that takes longer to begin beside the everyday suite: what is tested is the same in both.
EACH_IN_ITS_TIME = pytest.mark.parametrize(
    "engine", ["mlx", pytest.param("torch", marks=pytest.mark.slow)], indirect=True
)
PAGE = 4096  # bytes that a file on a tmpfs takes at least


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes; the test is skipped where this user may not mount one."""
    folder.mkdir()
    options = f"size={size},nr_inodes=1000"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs Linux, to mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """A mounted disk that nobody may write to, root neither; what is open already stays so."""
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def free(disk: Path) -> int:
    """Bytes that may still be written."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, room: int) -> Path:
    """Fills a disk but for some bytes; the ballast, to be removed again."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(free(disk) - room))
    assert free(disk) == room
    return ballast


def at_step(patch: pytest.MonkeyPatch, step: int, fault: Callable[[], object]) -> None:
    """Has something happen while the batch of a step is made, the first time."""
    original, happened = Task.noised, []

    def noised(self: Task, at: int) -> Any:
        if at == step and not happened:
            happened.append(at)
            fault()
        return original(self, at)

    patch.setattr(Task, "noised", noised)


def let_the_clock_jump(patch: pytest.MonkeyPatch) -> None:
    """Puts the wall clock a day forwards and an hour back, in turns, whenever it is looked at."""
    real, looks = time.time, count()

    def offset() -> float:
        return 86400.0 if next(looks) % 2 else -3600.0

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=offset())

    patch.setattr(time, "time", lambda: real() + offset())
    patch.setattr(time, "time_ns", lambda: int((real() + offset()) * 1e9))
    patch.setattr("tzd.checkpoint.run_folder.datetime", Jumping)


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by path; what a run's lock says aside."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
