"""Measuring in turns: contenders live in processes of their own and compute one at a time, A B C A B C ...

What a machine does beside the benchmark then falls on all of them alike, and each has its own peak of memory. A worker
says a JSON object per line on standard output, and goes on when it hears a line on standard input.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tzd.errors import TzdError

Numbers = Mapping[str, float]


class WorkerError(TzdError):
    """A worker ended before it had said everything."""


def say(**numbers: float) -> None:
    """A worker's line."""
    print(json.dumps(numbers), flush=True)


def hear() -> None:
    """A worker waits until it is its turn."""
    if not sys.stdin.readline():
        sys.exit("the benchmark has ended")


def peak_memory() -> float:
    """Most memory that this process has held so far, in MiB: the GPU's, where PyTorch or MLX compute on one."""
    torch, mlx = sys.modules.get("torch"), sys.modules.get("mlx.core")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved() / 2**20
    if mlx is not None and mlx.default_device() == mlx.Device(mlx.gpu):
        return mlx.get_peak_memory() / 2**20
    status = Path("/proc/self/status")  # `getrusage` counts what the process held that started this one
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) / 2**10
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def serve(turn: Callable[[], Numbers], rounds: int, **ready: float) -> None:
    """A worker's whole life: it says that it is ready, takes its turns, and leaves."""
    say(**ready)
    for _ in range(rounds):
        hear()
        say(**turn())
    hear()
    say(peak_mib=peak_memory())


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is awaited at the end of a `with` block, and killed where that raises: nothing goes on by itself.

    Args:
        command: its arguments.
        options: of `subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


class Worker:
    """The measuring side of a worker; it ends with its `with` block, at once where that raises.

    Args:
        name: what is measured.
        arguments: of `python -m`.
        environment: all its variables; those of this process if None.
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the worker
        command = [sys.executable, "-m", *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._log, text=True, bufsize=1, env=environment
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, error: type[BaseException] | None, *more: object) -> None:
        if error is not None:  # a turn may be one of minutes
            self._process.kill()
        with suppress(BrokenPipeError), self._process:  # closes its input, upon which it leaves
            self._log.close()

    def listen(self) -> Numbers:
        """Waits for the next that it says.

        Raises:
            WorkerError: it has died; with the last line of what it wrote.
        """
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # libraries and runs print, too
                numbers: Numbers = json.loads(line)
                return numbers
        self._log.seek(0)
        written = self._log.read().decode(errors="replace")
        code = self._process.wait()
        why = f"killed by signal {-code}, perhaps for its memory" if code < 0 else _last_error(written)
        raise WorkerError(f"'{self.name}' failed: {why}")

    def turn(self) -> Numbers:
        """Has it compute once, or leave after its last turn."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; listening says of what
            self._process.stdin.write("go\n")
        return self.listen()


def _last_error(written: str) -> str:
    """What an error said last; libraries add advice below it."""
    errors = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", written, re.MULTILINE)
    lines = errors or written.strip().splitlines() or ["silently"]
    return re.sub(r"^tzd\.errors\.\w+: ", "", lines[-1])


def in_turns(
    commands: Mapping[str, Sequence[str]], rounds: int, environment: Mapping[str, str] | None = None
) -> dict[str, list[Numbers]]:
    """Starts workers one after another, then gives each its turn in every round.

    What they put into temporary folders is removed at the end, whatever has become of them.

    Args:
        commands: a name for each worker, and its arguments of `python -m`.
        rounds: turns of each.
        environment: all variables of the workers; those of this process if None.

    Returns:
        For each worker: what it said when it was ready, in each round, and at the end.

    Raises:
        WorkerError: one has died; all end.
    """
    said: dict[str, list[Numbers]] = {}
    try:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="tzd-bench-", ignore_cleanup_errors=True)
            variables = {**(os.environ if environment is None else environment), "TMPDIR": stack.enter_context(folder)}
            workers = []
            for name, arguments in commands.items():
                progress(f"{name}: warming up")
                workers.append(stack.enter_context(Worker(name, [*arguments, str(rounds)], variables)))
                said[name] = [workers[-1].listen()]
            for number in range(1, rounds + 2):
                for worker in workers:
                    progress(f"round {number} of {rounds}: {worker.name}" if number <= rounds else "leaving")
                    said[worker.name].append(worker.turn())
    finally:
        progress("")
    return said


def seconds_of(said: Sequence[Numbers]) -> list[float]:
    """The `seconds` of a worker's turns."""
    return [turn["seconds"] for turn in said[1:-1]]


def compared(ours: Sequence[Numbers], plain: Sequence[Numbers]) -> dict[str, float]:
    """How two workers compare who timed the same work.

    Returns:
        `ratio`: how many times as fast ours is, turn by turn, the median of it; `peak_mib` and `memory_ratio`: the most
        memory that ours held, and over the plain one's.
    """
    pairs = zip(seconds_of(ours), seconds_of(plain), strict=True)
    peak = ours[-1]["peak_mib"]
    return {
        "ratio": statistics.median(theirs / own for own, theirs in pairs),
        "peak_mib": peak,
        "memory_ratio": peak / plain[-1]["peak_mib"],
    }


def progress(line: str) -> None:
    """Shows what is being done, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{line:<70}\r", end="", file=sys.stderr, flush=True)
