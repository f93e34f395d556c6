"""Kills training, over and over: `PYTHONPATH=tests:. python -m faults.kills --kills 200`.

A run is killed at random instants and resumed until it is done; then it must be, byte by byte, what it is when nothing
happens to it. And again, until so many kills were survived. (seed, number of the kill) decide at what is aimed; when
exactly it hits is the machine's doing, so every report says where the kills have hit.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from faults.kills_aims import AIMS, LIMIT, RUN, SIGNALS, STEPS, Aim, Started, prepare, start, strike
from faults.kills_folder import check, compared, named, phase, sample


@dataclass
class Survived:
    """What was done to an engine's runs, and survived.

    Attributes:
        phases: where SIGKILL hit, and how often.
        signals: how runs ended that were sent another signal.
        runs: how many were killed until they were done.
        attempts: processes that were aimed at.
        bytes: how many were compared.
    """

    phases: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    attempts: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        """Where the kills hit, most of them first."""
        return ", ".join(f"{what} {count}" for what, count in (self.phases + self.signals).most_common())

    @property
    def kills(self) -> int:
        """All of SIGKILL's."""
        return self.phases.total()


def campaign(
    engine: str, kills: int, seed: int, folder: Path, *, forked: float = 0.9, signals: float = 0.1, loud: bool = False
) -> Survived:
    """Kills runs until `kills` were survived.

    Args:
        engine: which trains.
        kills: how many.
        seed: of what is aimed at.
        folder: where the runs go.
        forked: share of PyTorch's processes that are copies of one that has imported it, which takes ten seconds; none
            of those that are killed while they start.
        signals: share of other signals, which are not counted among the kills.
        loud: whether to print a line for each run.

    Raises:
        AssertionError: a run did not survive; it is left in the folder.
    """
    survived = Survived()
    whole = prepare(folder / "whole")
    assert start(whole, engine, forked=engine == "torch" and forked == 1).wait() == 0, (whole / "said.txt").read_text()
    text = sample(whole, engine)
    while survived.kills < kills:
        survived.runs += 1
        victim = prepare(folder / f"{survived.runs}")
        while named(victim / RUN, "finished") != STEPS:
            survived.attempts += 1
            rng = random.Random(f"{seed} {survived.attempts}")  # what misses is not aimed again
            pool = SIGNALS if rng.random() < signals else AIMS
            aim = rng.choices(pool, [aim.share for aim in pool])[0] if survived.kills < kills else None
            copied = engine == "torch" and rng.random() < forked and (aim is None or aim.name != "start-up")
            process = start(victim, engine, forked=copied)
            _attempt(process, victim, aim, rng, survived)
            check(victim, engine)
        survived.bytes += compared(victim, whole)
        assert sample(victim, engine) == text
        shutil.rmtree(victim)
        if loud:
            print(f"{engine}: run {survived.runs} is done, {survived.kills} of {kills} kills: {survived}", flush=True)
    return survived


def _attempt(process: Started, victim: Path, aim: Aim | None, rng: random.Random, survived: Survived) -> None:
    """Hits a run that has begun or goes on, and counts it."""
    hit = aim is not None and strike(aim, process, victim / RUN, rng)
    code = _ended(process)
    said = (victim / "said.txt").read_text()
    assert "Traceback" not in said, said
    if not hit or aim is None:
        assert code == 0, said
    elif aim in AIMS:
        if code:  # it may have ended in the same instant
            survived.phases[phase(victim / RUN, process.pid)] += 1
    else:
        number = aim.signals[0]
        how = {0: "done", 128 + number: "saved", -number: "at once"}
        assert code in how, said
        assert code == 0 or "stopped and saved" in said or "once more stops at once" not in said or len(aim.signals) > 1
        survived.signals[f"{aim.name}: {how[code]}"] += 1


def _ended(process: Started) -> int:
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise AssertionError("it does not end") from None


def main() -> int:
    """Kills, prints where the kills hit, and returns 1 if a run was not what it should be."""
    parser = argparse.ArgumentParser(prog="kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each engine")
    parser.add_argument("--engine", action="append", help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failed = False
    for engine in args.engine or ("torch", "mlx"):
        folder = Path(tempfile.mkdtemp(prefix=f"kills-{engine}-"))
        try:
            survived = campaign(engine, args.kills, args.seed, folder, loud=True)
        except AssertionError as error:
            failed = True
            traceback.print_exc()
            print(f"{engine}: {error}\nthe run is left in {folder}", flush=True)
            continue
        shutil.rmtree(folder)
        print(f"\n{engine}: {survived.kills} kills survived, {survived.runs} runs, {survived.bytes} bytes compared")
        for what, count in [*survived.phases.most_common(), *sorted(survived.signals.items())]:
            print(f"  {count:>6}  {what}")
        print(flush=True)
    return int(failed)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
