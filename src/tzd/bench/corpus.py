"""What it takes to make shards of a large text: seconds, and the memory of all processes together.

tzd bench corpus --mebibytes 1024
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from tzd.bench.turns import WorkerError, started

KINDS = {"byte": [], "char": [], "bpe": ["--vocab-size", "8192"]}
LARGEST_BPE = 64  # MiB, which is a minute's work


def write_text(path: Path, mebibytes: int) -> None:
    """Writes documents of words that come as often as Zipf's law has it, a blank line between them."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("etaoinshrdlucmfwyp"), random.integers(2, 9))) for _ in range(20000)]
    often = 1 / np.arange(1, len(words) + 1)
    drawn = np.array(words)[random.choice(len(words), (2000, 300), p=often / often.sum())]
    documents = [" ".join(row) + ".\n\n" for row in drawn]
    with path.open("w") as file:
        while file.tell() < mebibytes << 20:
            random.shuffle(documents)
            file.write("".join(documents))


def measure(mebibytes: int) -> dict[str, dict[str, float]]:
    """Seconds, MB of text and the peak of resident MB, summed over all processes, of each kind of tokenizer."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, options in KINDS.items():
            text = Path(folder, "text.txt")
            write_text(text, min(mebibytes, LARGEST_BPE) if kind == "bpe" else mebibytes)
            build = ["corpus", "build", str(text), "--out", f"{folder}/{kind}", "--separator", r"\n\n"]
            seconds, peak = _watched([sys.executable, "-m", "tzd", *build, "--tokenizer", kind, *options])
            results[kind] = {"seconds": seconds, "text": text.stat().st_size / 1e6, "peak": peak / 1e6}
    return results


def _watched(command: list[str]) -> tuple[float, int]:
    """Wall time of a command, and the most bytes that it and its children held at once: 0 where no /proc says."""
    start, peak = time.perf_counter(), 0
    with started(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_resident, _family(process.pid))))
            time.sleep(0.05)
    if process.returncode:
        raise WorkerError(f"tzd corpus build failed (exit code {process.returncode}): see what it says")
    return time.perf_counter() - start, peak


def _family(pid: int) -> list[int]:
    try:
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def table(result: dict[str, dict[str, float]]) -> Table:
    """The result for a person."""
    rows = Table(title="tzd corpus build")
    for name in ("tokenizer", "MB of text", "seconds", "MB per second", "peak MB, all processes"):
        rows.add_column(name, justify="left" if name == "tokenizer" else "right")
    for kind, figures in result.items():
        text, seconds, peak = figures["text"], figures["seconds"], figures["peak"]
        rows.add_row(kind, f"{text:.0f}", f"{seconds:.1f}", f"{text / seconds:.1f}", f"{peak:.0f}" if peak else "-")
    return rows
