"""Runs the command, for the tests of this folder."""

from __future__ import annotations

import os
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
