"""How long commands take to begin, and what they import."""

from __future__ import annotations

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from tzd.bench.sizes import Cell
from tzd.bench.turns import WorkerError, progress, started
from tzd.bench.weights import write_model

TORCH, SAMPLE = "python, import torch", "tzd sample, to its first frame"
HEAVY = (
    "torch", "torch._dynamo", "torch._inductor", "lightning", "torchmetrics", "hydra", "omegaconf", "rich",
    "transformers", "tokenizers", "scipy", "sympy", "matplotlib", "mlx",
)  # fmt: skip
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\s")
_TEXT = Cell("torch", "10.7M", 128, 1, 256)  # its tokens are the ASCII codes


def measure(rounds: int) -> dict[str, Any]:
    """Runs the commands in turns.

    Returns:
        Plain data: `seconds`, the median of each; `beyond_torch`, of the first frame of `tzd sample` beyond a bare
        `import torch`, turn by turn; `modules`, how many are imported, and which heavy ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = str(write_model(Path(folder, "model"), _TEXT.model, {"kind": "ascii", "vocab_size": 128}))
        sample = ["sample", model, "--length", "64", "--engine", "torch"]
        commands = {
            "python": ["-c", "pass"],
            "tzd --help": ["-m", "tzd", "--help"],
            "python, import tzd": ["-c", "import tzd"],
            TORCH: ["-c", "import torch"],
            SAMPLE: ["-m", "tzd", *sample],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(1, rounds + 1):
            for name, arguments in commands.items():
                progress(f"round {number} of {rounds}: {name}")
                command = [sys.executable, *arguments]
                seconds[name].append(_to_first_frame(command) if name == SAMPLE else _to_the_end(command))
        progress("")
        modules = {"tzd --help": _imported(["--help"]), "tzd sample": _imported(sample)}
    return summary(seconds) | {"modules": modules}


def summary(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The turns of each command, as figures; see `measure`."""
    beyond = [frame - torch for frame, torch in zip(seconds[SAMPLE], seconds[TORCH], strict=True)]
    return {
        "seconds": {name: statistics.median(turns) for name, turns in seconds.items()},
        "beyond_torch": statistics.median(beyond),
    }


def _to_the_end(command: list[str]) -> float:
    start = time.perf_counter()
    run = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    if run.returncode:
        raise WorkerError(f"'{shlex.join(command)}' failed: exit code {run.returncode}")
    return seconds


def _to_first_frame(command: list[str]) -> float:
    """Seconds until a command has drawn something on a terminal of its own, whose end is then awaited."""
    outer, inner = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    start, shown = time.perf_counter(), None
    try:
        with started(command, stdin=inner, stdout=inner, stderr=inner, env=environment) as process:
            os.close(inner)
            while written := _read(outer):
                if shown is None and _CONTROL.sub(b"", written):
                    shown = time.perf_counter() - start
    finally:
        os.close(outer)
    if process.returncode or shown is None:
        raise WorkerError(f"'{SAMPLE}' failed: exit code {process.returncode}")
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that nobody writes there any more
        return b""


def _imported(arguments: list[str]) -> dict[str, Any]:
    """How many modules a command has imported when it ends, and which heavy ones."""
    code = (
        "import json, sys; from tzd.cli import main; main(sys.argv[2:]);"
        "print(json.dumps([len(sys.modules), [m for m in sys.argv[1].split(',') if m in sys.modules]]))"
    )
    command = [sys.executable, "-c", code, ",".join(HEAVY), *arguments]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    count, heavy = json.loads(run.stdout.splitlines()[-1])
    return {"count": count, "heavy": heavy}


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    caption = "; ".join(
        f"{command} imports {found['count']} modules, of the heavy ones {', '.join(found['heavy']) or 'none'}"
        for command, found in result["modules"].items()
    )
    rows = Table(title="start-up", caption=caption)
    rows.add_column("")
    rows.add_column("seconds", justify="right")
    for name, seconds in result["seconds"].items():
        rows.add_row(name, f"{seconds:.3f}")
    rows.add_row("the first frame beyond import torch", f"{result['beyond_torch']:.3f}")
    return rows
