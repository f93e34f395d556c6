"""Many clients at a page at once, most of them badly behaved: what they ask, what they are answered, what it costs.

`python tests/web/load.py --seconds 600` serves the page of a small model and says what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clients import JOIN, LONG, SEEDS, WRITTEN, Load
from serving import Server, served, written

import tzd

CLIENTS = 50
LEAK = 512  # bytes that a request may leave behind at most


@dataclass(frozen=True)
class Sample:
    """What a process has, at a time."""

    time: float
    own: int  # bytes of memory
    threads: int
    files: int
    requests: int


def sample(process: int, requests: int = 0) -> Sample:
    """Looks at a process, where the system shows its processes as files."""
    folder = Path(f"/proc/{process}")
    said = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    # Its own memory: of the libraries' files, the system keeps as much as it likes.
    own, threads = int(said["RssAnon"].split()[0]) * 1024, int(said["Threads"])
    return Sample(time.monotonic(), own, threads, len(list((folder / "fd").iterdir())), requests)


async def watched(load: Load, seconds: float, clients: int, every: float) -> list[Sample]:
    """The clients at work, and what the server has meanwhile."""
    samples: list[Sample] = []

    async def look() -> None:
        while True:
            samples.append(sample(load.server.process, load.requests))
            await asyncio.sleep(every)

    looking = asyncio.ensure_future(look())
    try:
        await load.during(seconds, clients)
    finally:
        looking.cancel()
    return samples


def growth(samples: list[Sample]) -> tuple[int, int]:
    """Bytes by which the last third is above the middle one, and how many requests lie between the two."""
    began, ended = samples[0].time, samples[-1].time
    thirds = [[s for s in samples if int(min(2.999, 3 * (s.time - began) / (ended - began))) == i] for i in range(3)]
    middle, last = (statistics.median(s.own for s in third) for third in thirds[1:])
    asked = [statistics.median(s.requests for s in third) for third in thirds[1:]]
    return int(last - middle), int(asked[1] - asked[0])


def settled(server: Server, before: Sample, seconds: float = 60.0) -> Sample:
    """What the server has once it has no more than before, or after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        server.request("/theme.css")  # a thread that has been idle for long ends when another one has done something
        now = sample(server.process)
        if (now.threads <= before.threads and now.files <= before.files) or time.monotonic() > until:
            return now
        time.sleep(1)


def texts(run: Path) -> dict[int, str]:
    """What the page is to write, by seed."""
    model = tzd.load(run, engine="torch", precision="auto")
    text, sampler, steps, temperature, length, _ = WRITTEN
    return {
        seed: tzd.sample(
            model, prompt=text, length=length, sampler=sampler, steps=steps, temperature=temperature, seed=seed
        ).text[0]
        for seed in range(SEEDS)
    }


def warm(server: Server, places: int) -> None:
    """Has all places compute at once."""
    begun = []
    for i in range(places):
        body = {"data": LONG, "fn_index": server.runs[0], "session_hash": f"warm-{i}"}
        assert server.request(JOIN, json.dumps(body).encode())[0] == 200
        begun.append(server.listen(f"warm-{i}"))
        assert next(begun[-1])["msg"] == "process_generating"
    for listening in begun:
        listening.close()


@contextlib.contextmanager
def page(folder: Path, concurrency: int = 4, queue: int = 16) -> Iterator[Load]:
    """A page that is being served, warm."""
    run = written(folder / "run")
    with served(run, "--concurrency", str(concurrency), "--queue", str(queue)) as server:
        load = Load(server, texts(run))
        warm(server, concurrency)
        assert server.ask(0, [*WRITTEN, 0], "warm")["output"]["data"][2] == load.expected[0]
        yield load


def main() -> int:
    """Loads a page for a while and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which ends the page; what `&` starts would ignore it
    with tempfile.TemporaryDirectory() as folder, page(Path(folder)) as load:
        return 0 if _well(load, args.seconds, args.clients) else 1


def _well(load: Load, seconds: float, clients: int) -> bool:
    """Loads a page and says what came of it; whether all was well."""
    before = settled(load.server, sample(load.server.process), 0)
    samples = asyncio.run(watched(load, seconds, clients, every=1.0))
    grown, requests = growth(samples)
    for kind, count in sorted(load.answers.items()):
        print(f"{kind:24}{count:8}")
    print(f"{load.requests} answers in {seconds:g} s to {clients} clients at once, {len(load.wrong)} wrong")
    print(f"memory: {' '.join(f'{s.own / 2**20:.0f}' for s in samples[:: max(1, len(samples) // 20)])} MiB")
    print(f"the last third is {grown / 1024:.0f} kB above the middle one, {requests} requests later", flush=True)
    after = settled(load.server, before)
    for what in ("threads", "files"):
        most = max(getattr(s, what) for s in samples)
        print(f"{what}: {getattr(before, what)} before, {most} at most, {getattr(after, what)} after")
    text = load.server.ask(0, [*WRITTEN, 1], "afterwards")["output"]["data"][2]
    for line in load.wrong[:20]:
        print(f"wrong: {line}", flush=True)
    clean = after.threads <= before.threads and after.files <= before.files
    return clean and text == load.expected[1] and not load.wrong and grown < LEAK * requests


if __name__ == "__main__":
    sys.exit(main())
