"""`tzd corpus build` when it is stopped in the middle of a file that would take it a minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


TO_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # by a terminal, or by what ends a group of processes


@pytest.mark.parametrize("number", [*TO_ALL, signal.SIGKILL])
def test_a_build_that_is_stopped_leaves_no_process_and_nothing_that_looks_whole(number: int, tmp_path: Path) -> None:
    source, out, part = tmp_path / "a.txt", tmp_path / "out", tmp_path / "out.part"
    with source.open("wb") as file:
        file.truncate(8 << 30)  # of zeros, which take no room on the disk
    build = [sys.executable, "-m", "tzd", "corpus", "build", str(source), "--out", str(out), "--tokenizer", "byte"]
    process = subprocess.Popen([*build, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for((part / "tokens-00000.bin").exists)
        if number in TO_ALL:
            os.killpg(process.pid, number)  # to the workers too
        else:
            process.kill()
        message = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    wait_for(lambda: is_gone(process.pid))
    assert not out.exists()
    if number in TO_ALL:
        assert (process.returncode, message) == (128 + number, "tzd: interrupted\n")
        assert not part.exists()
    else:
        again = subprocess.run([*build, "--workers", "0"], check=False, capture_output=True, text=True, timeout=120)
        assert again.returncode == 2
        assert "another build is writing there, or one was killed" in again.stderr
