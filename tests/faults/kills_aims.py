"""A training process, and when it is killed: at an instant drawn at random after something was seen in its folder."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np

from tzd.cli import main

WORDS = ("apple ", "banana ", "cherry ", "damson ")
STEPS = 24
RUN = "run"
SETTINGS = (  # all that has a state
    *(
        "model.n_layer=1",
        "model.n_head=2",
        "model.n_embd=16",
        "model.dropout=0.2",
        "objective=nelbo",
        "sampler.steps=4",
    ),
    *(
        "data=text",
        "data.path=text.txt",
        "tokenizer=ascii",
        "data.block_size=24",
        "data.batch_size=4",
        "training.accelerator=cpu",
    ),
    *(f"training.max_steps={STEPS}", "training.eval_interval=6", "training.checkpoint_interval=2"),
    *("training.gradient_accumulation_steps=2", "training.ema_decay=0.9", "training.warmup_steps=2"),
    *(
        "training.val_windows=8",
        "training.val_generation_freq=1",
        "training.save_top_k=2",
        "training.precision=32-true",
    ),
    *("training.log_every_n_steps=3", f"training.run_folder={RUN}", "training.export_to=model.npz"),
)
LIMIT = 3600.0  # seconds in which a process must get somewhere, however busy the machine is


def prepare(folder: Path) -> Path:
    """Makes a folder with a text to train on."""
    folder.mkdir()
    words = np.random.default_rng(0).integers(0, len(WORDS), 1500)
    (folder / "text.txt").write_text("".join(WORDS[word] for word in words))
    return folder


def wait_until(seen: Callable[[], object]) -> None:
    """Waits for something; AssertionError where it does not come."""
    deadline = time.monotonic() + 300  # on a busy machine
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Started(Protocol):
    """A process, as `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int) -> None: ...


def start(folder: Path, engine: str, *more: str, forked: bool = False) -> Started:
    """Starts the command in a folder, or has it go on; what it says goes to a file.

    Args:
        folder: as `prepare` made it.
        engine: which trains.
        more: further settings.
        forked: whether it begins as a copy of a process that has imported PyTorch, which takes ten seconds.
    """
    resume = ("training.resume=true",) if any((folder / RUN).glob("step-*")) else ()
    words = command(engine, *resume, *more)
    if forked:
        return _Forked(folder, words[3:])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said)


def command(engine: str, *more: str) -> list[str]:
    """The words that train."""
    return [sys.executable, "-m", "tzd", "train", f"engine={engine}", *SETTINGS, *more]


class _Forked:
    def __init__(self, folder: Path, arguments: list[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tzd.configs", "tzd.loggers.progress", "tzd.engines.torch.train"])
        self._process = context.Process(target=_obey, args=(str(folder), arguments))
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("tzd", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _obey(folder: str, arguments: list[str]) -> NoReturn:
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.exit(main(arguments))


@dataclass(frozen=True)
class Aim:
    """Something in a run's folder, and how long after it has been seen the process is killed at the latest.

    Attributes:
        name: what is aimed at.
        share: of all kills.
        marks: (run folder, process) -> what there is to see; what is there before the process begins does not count.
        most: at which sight, of 1 to so many.
        within: seconds.
        signals: which are sent, one after the other.
    """

    name: str
    share: float
    marks: Callable[[Path, int], set[str]]
    most: int
    within: float
    signals: tuple[int, ...] = (signal.SIGKILL,)


def _names(run: Path) -> list[str]:
    try:
        return os.listdir(run)  # noqa: PTH208  # many times a second
    except FileNotFoundError:
        return []


def _begun(run: Path, pid: int) -> set[str]:
    return {"begun"} if pid else set()


def _locked(run: Path, pid: int) -> set[str]:
    try:
        return {"locked"} if (run / "lock").read_text().startswith(f"process {pid} ") else set()
    except FileNotFoundError:
        return set()


def _half_written(run: Path, pid: int) -> set[str]:
    return {name for name in _names(run) if re.fullmatch(rf"\.step-\d+\.{pid}\.tmp", name)}


def _written(run: Path, pid: int) -> set[str]:
    return {name for name in _names(run) if name.startswith("step-")}


def _logged(run: Path, pid: int) -> set[str]:
    try:
        return {str((run / "metrics.csv").stat().st_size)} if _locked(run, pid) else set()
    except FileNotFoundError:
        return set()


def _ended(run: Path, pid: int) -> set[str]:
    try:
        return {"ended"} if (run / "last").read_text().startswith(f"step-{STEPS:08d}") and _locked(run, pid) else set()
    except FileNotFoundError:
        return set()


AIMS = (
    Aim("a checkpoint's files", 0.40, _half_written, 4, 0.025),
    Aim("its names", 0.18, _written, 4, 0.015),
    Aim("start-up", 0.08, _begun, 1, 4.0),
    Aim("going on", 0.12, _locked, 1, 0.5),
    Aim("metrics", 0.10, _logged, 8, 0.002),
    Aim("the end", 0.12, _ended, 1, 0.3),
)
SIGNALS = tuple(
    Aim(name, 1.0, _logged, 8, 0.05, signals)
    for name, signals in (
        ("SIGTERM", (signal.SIGTERM,)),
        ("SIGINT", (signal.SIGINT,)),
        ("SIGINT twice", (signal.SIGINT, signal.SIGINT)),
        ("SIGHUP twice", (signal.SIGHUP, signal.SIGHUP)),
    )
)


def strike(aim: Aim, process: Started, run: Path, rng: random.Random) -> bool:
    """Sends the aim's signals to a process that has just been started, at its instant.

    Returns:
        Whether the process was there to be hit: it may have ended before.
    """
    before, count, seen = aim.marks(run, 0), rng.randint(1, aim.most), set[str]()
    pause = rng.uniform(0, aim.within)
    deadline = time.monotonic() + LIMIT
    while len(seen - before) < count:
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, f"{aim.name} is not to be seen"
        time.sleep(0.0002 if _locked(run, process.pid) else 0.005)
        seen |= aim.marks(run, process.pid)
    time.sleep(pause)
    if process.poll() is not None:
        return False
    for number in aim.signals:
        with suppress(ProcessLookupError):
            process.send_signal(number)
        time.sleep(rng.uniform(0, 0.005))
    return True
