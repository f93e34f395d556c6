"""Runs the command, for the tests of this folder."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
    """The command on a terminal of its own: exit code, and what it wrote there.

    `interrupt_at` is a text at whose first appearance Ctrl-C is pressed.
    """
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [TZD, *map(str, arguments)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": str(size[0]),
             "LINES": str(size[1]), **environment},
    )  # fmt: skip
    os.close(inner)
    written = b""
    try:
        while chunk := os.read(outer, 65536):
            written += chunk
            if interrupt_at is not None and interrupt_at.encode() in written:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
    except OSError:  # the other end was closed
        pass
    os.close(outer)
    return process.wait(60), written.decode()
