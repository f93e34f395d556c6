"""How long a command takes to begin.

python -m benchmarks startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.table import Table

COMMANDS = {
    "tzd --help": [str(Path(sys.executable).parent / "tzd"), "--help"],
    "import tzd": [sys.executable, "-c", "import tzd"],
    "import torch": [sys.executable, "-c", "import torch"],
    "python": [sys.executable, "-c", "pass"],
}


def measure(rounds: int) -> dict[str, float]:
    """Median wall times, in seconds; the commands take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def table(result: dict[str, float]) -> Table:
    """The result for a person."""
    rows = Table(title="start-up")
    rows.add_column("")
    rows.add_column("seconds", justify="right")
    for name, seconds in result.items():
        rows.add_row(name, f"{seconds:.3f}")
    return rows
