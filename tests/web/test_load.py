"""The page under load: it answers or refuses, stays as small as it was, and writes for who asks well."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import CANCEL, KINDS, LONG, ROUGH, WRITTEN, Kind, Load, never_listens, reads_slowly, sends_half
from load import CLIENTS, page, sample, settled, watched

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process holds is read in /proc"),
    pytest.mark.xdist_group("load"),
]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A page that has written; its server ends well, with nothing in its log."""
    with page(tmp_path_factory.mktemp("load")) as load:
        yield load


def test_it_stands_fifty_clients_most_of_whom_behave_badly(load: Load) -> None:
    before = sample(load.server.process)
    samples = asyncio.run(watched(load, 20, CLIENTS, every=0.5))
    assert load.wrong == []
    assert load.requests > CLIENTS
    answered = {answer.split()[0] for answer in load.answers}
    assert answered >= {"join", "listen", "page", "nonsense", "headers", "unknown", "cancel", "repeated"}
    for seed, text in load.expected.items():
        assert load.server.ask(0, [*WRITTEN, seed], f"after-{seed}")["output"]["data"][2] == text
    after = settled(load.server, before)
    assert after.threads <= before.threads and after.files <= before.files
    assert max(s.files for s in samples) < 500


PROMPT = [kind for kind in dict.fromkeys(KINDS) if kind not in (reads_slowly, sends_half, never_listens)]


@pytest.mark.parametrize("kind", PROMPT, ids=lambda kind: kind.__name__)
def test_each_of_them_alone_gets_what_it_is_due(load: Load, kind: Kind) -> None:
    load.wrong.clear()
    before, load.until = load.requests, float("inf")
    try:
        asyncio.run(kind(load, random.Random(1)))
        assert load.requests > before
    except (OSError, EOFError):  # the refusal may be lost, as it comes before the last of what is sent
        assert kind.__name__ in ROUGH
    assert load.wrong == []


def test_every_place_is_free_after_runs_were_cancelled_dropped_and_forgotten(load: Load) -> None:
    server = load.server
    for i in range(20):  # all places, computing and waiting
        body = {"data": LONG, "fn_index": server.runs[0], "session_hash": f"all-{i}"}
        status, said = server.request("/gradio_api/queue/join", json.dumps(body).encode())
        assert status == 200
        if i < 8:
            cancel = {"event_id": json.loads(said)["event_id"], "session_hash": f"all-{i}"}
            assert server.request(CANCEL, json.dumps(cancel).encode())[0] == 200
        elif i < 16:
            host, port = server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as listening:
                path = f"/gradio_api/queue/data?session_hash=all-{i}"
                listening.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
                assert listening.recv(100).startswith(b"HTTP/1.1 200")
    assert server.ask(0, [*WRITTEN, 0], "last")["output"]["data"][2] == load.expected[0]
