"""Runs the command, for the tests of this folder."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tzd.cli import main

TZD = Path(sys.executable).with_name("tzd")
TEXT = "the quick brown fox jumps over the lazy dog. " * 200

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_tzd(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [TZD, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TZD_DATA_DIR": str(cwd), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def on_terminal(
    *arguments: object, interrupt_at: str | None = None, size: tuple[int, int] = (80, 24), **environment: str
) -> tuple[int, str]:
    """The command in this process, on a terminal of its own: exit code, and what it wrote there.

    `interrupt_at` is a text at whose first appearance Ctrl-C is pressed.
    """
    outer, inner = pty.openpty()
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(_read, outer, lambda: os.kill(os.getpid(), signal.SIGINT), interrupt_at)
        code = into(inner, *arguments, **_environment(size, environment))
        return code, written.result(60)


def on_terminal_alone(
    *arguments: object, interrupt_at: str | None = None, by: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    """The same in a process of its own, and by any signal."""
    outer, inner = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **_environment((80, 24), {})}
    process = subprocess.Popen([TZD, *map(str, arguments)], stdin=inner, stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    written = _read(outer, lambda: process.send_signal(by), interrupt_at)
    return process.wait(60), written


def into(descriptor: int, *arguments: object, **environment: str) -> int:
    """The command in this process, writing to a file that is open, and closed then; its exit code."""
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "stderr", stream)
        return main([str(argument) for argument in arguments])


def _environment(size: tuple[int, int], more: dict[str, str]) -> dict[str, str]:
    return {"TERM": "xterm-256color", "COLUMNS": str(size[0]), "LINES": str(size[1]), **more}


def _read(outer: int, interrupt: Callable[[], None], at: str | None) -> str:
    """What is written to a terminal until it is closed."""
    written = b""
    try:
        while chunk := os.read(outer, 65536):
            written += chunk
            if at is not None and (at.encode() in written or len(written) > 2**20):  # it would go on for ever
                interrupt()
                at = None
    except OSError:  # the other end was closed
        pass
    os.close(outer)
    return written.decode()
