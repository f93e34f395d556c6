"""What the server refuses, asked by hand."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from serving import LENGTH, STEPS, Server

pytest.importorskip("gradio")
pytestmark = pytest.mark.xdist_group("page")  # one process, one server

ASKED = ["apple ", "ancestral", 4, 0.8, 10, 0, 0]


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, "a" * (LENGTH + 1), "the text has 1025 characters, and this page takes 1024 at most"),
        (0, 7, "the text must be a text"),
        (1, "ancestrl", "did you mean &#x27;ancestral&#x27;"),
        (1, "<script>", "&lt;script&gt;"),
        (2, STEPS + 1, "between 1 and 20000"),
        (2, "many", "whole number"),
        (2, True, "whole number"),
        (3, -1, "between 0 and 2"),
        (3, None, "must be a number"),
        (3, float("nan"), "between 0 and 2"),
        (3, 10**400, "between 0 and 2"),
        (4, LENGTH + 1, "between 1 and 1024"),
        (4, 0, "between 1 and 1024"),
        (4, 1e300, "between 1 and 1024"),
        (4, float("inf"), "whole number"),
        (4, 10**400, "between 1 and 1024"),
        (5, -1, "the block length must lie between 0 and 1024 here, not at -1"),
        (6, 2.5, "whole number"),
        (6, 2**31, "between 0 and 2147483647"),
    ],
)
def test_a_hand_made_request_is_refused_in_words(server: Server, at: int, value: Any, why: str) -> None:
    asked = [*ASKED]
    asked[at] = value
    message = server.ask(0, asked, f"refused-{at}")
    assert not message["success"] and why in message["output"]["error"]


def test_a_pattern_is_never_a_file(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "glider.cells"
    secret.write_text(".O.\n..O\nOOO\n")
    message = server.ask(2, ["apple ", str(secret), 8, 2, 2, 0.8, False, 0], "pattern")
    assert not message["success"] and "unknown pattern" in message["output"]["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/hostname",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/file/etc/hostname",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/docs",
        "/openapi.json",
        "/monitoring",
        "/assets/../server.py",
        "/static/%2e%2e/%2e%2e/__init__.py",
        "/run/unknown/.gif",
    ],
)
def test_there_are_no_files_and_no_docs(server: Server, path: str) -> None:
    assert server.request(path)[0] == 404


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/run/predict", "/gradio_api/vibe-edit"])
def test_nothing_is_taken_but_requests_to_write(server: Server, path: str) -> None:
    assert server.request(path, b"{}")[0] == 404


def test_requests_are_small_plain_and_from_the_page_itself(server: Server) -> None:
    join = "/gradio_api/queue/join"
    assert server.request(join, b"x" * 45_000)[0] == 413
    files = {"data": [{"path": "http://127.0.0.1/", "meta": {"_type": "gradio.FileData"}}], "fn_index": 0}
    assert server.request(join, json.dumps(files).encode())[0] == 400
    assert server.request(join, b"[" * 20_000)[0] == 400
    assert server.request(join, b"\xff")[0] == 400
    assert server.request(join, b"{}", origin="http://elsewhere.example")[0] == 403
    assert server.request("/", host="elsewhere.example")[0] == 400


@pytest.mark.parametrize(
    "change",
    [
        {"fn_index": 999},
        {"fn_index": -1},
        {"fn_index": 0},  # the browser's own: nothing that the server runs
        {"fn_index": None},
        {"fn_index": "write"},
        {"data": ["apple "]},
        {"data": [*ASKED, 0]},
        {"data": None},
        {"data": [["apple "], *ASKED[1:]]},
        {"session_hash": None},
        {"session_hash": 7},
        {"session_hash": ""},
        {"session_hash": "s" * 65},
    ],
    ids=str,
)
def test_what_is_no_run_is_refused_at_the_door(server: Server, change: dict[str, Any]) -> None:
    asked = {"fn_index": server.runs[0], "data": ASKED, "session_hash": "door", **change}
    status, why = server.request("/gradio_api/queue/join", json.dumps(asked).encode())
    assert status == 400 and b"names a run" in why


def test_the_addresses_have_no_other_use(server: Server) -> None:
    page = server.request("/")[1]
    assert server.request("/?page=unknown") == server.request("/?deep_link=../../x") == (200, page)


def test_a_dropped_connection_ends_its_run(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    dropped = []
    for i in range(2):  # as many as may run at once
        body = {
            "data": ["", "renoise", STEPS, 0.8, 20, 0, 0],
            "fn_index": server.runs[0],
            "session_hash": f"drop-{i}",
        }
        assert server.request("/gradio_api/queue/join", json.dumps(body).encode())[0] == 200
        listening = socket.create_connection((host, int(port)))
        request = f"GET /gradio_api/queue/data?session_hash=drop-{i} HTTP/1.1\r\nhost: {host}\r\n\r\n"
        listening.sendall(request.encode())
        dropped.append(listening)
    for listening in dropped:
        with listening, listening.makefile("rb") as events:
            while b"process_generating" not in events.readline():
                pass
    assert server.ask(0, ASKED, "after-drop")["success"]


def test_the_queue_is_bounded(server: Server) -> None:
    write = server.runs[0]
    answers = []
    for i in range(5):
        body = {"data": ["", "renoise", STEPS, 0.8, 20, 0, 0], "fn_index": write, "session_hash": f"queue-{i}"}
        answers.append(server.request("/gradio_api/queue/join", json.dumps(body).encode()))
    refused = [json.loads(body)["detail"] for status, body in answers if status == 503]
    assert refused and "full" in refused[0]
    for i, (status, body) in enumerate(answers):
        if status == 200:
            cancel = {"session_hash": f"queue-{i}", "fn_index": write, "event_id": json.loads(body)["event_id"]}
            assert server.request("/gradio_api/cancel", json.dumps(cancel).encode())[0] == 200
    assert server.ask(0, ASKED, "next")["success"]


def test_nothing_leaves_the_machine(server: Server) -> None:
    page = server.request("/")[1].decode()
    assert "cdn" not in page.lower() and "fonts.g" not in page
    config = json.loads(server.request("/config")[1])
    assert config["analytics_enabled"] is False and not config["footer_links"]


def test_a_taken_port_is_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    from tzd.cli import main

    port = server.url.rpartition(":")[2]
    assert main(["serve", str(server.run), "--port", port]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tzd: cannot serve at 127.0.0.1") and port in err and err.count("\n") == 1


OTHERWISE = """
import sys
from gradio import Blocks
from tzd.cli import main
spoken = Blocks.get_config_file
Blocks.get_config_file = lambda page: {**spoken(page), "protocol": "sse_v4"}
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_library_whose_page_speaks_otherwise_is_one_line(server: Server) -> None:
    command = [sys.executable, "-c", OTHERWISE, "serve", str(server.run), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    line = f"tzd: gradio {version('gradio')} speaks sse_v4, and tzd's page sse_v3: install gradio 6.20 or 6.31\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_an_address_of_another_machine_is_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    from tzd.cli import main

    assert main(["serve", str(server.run), "--host", "192.0.2.1", "--port", "0"]) == 2
    assert (
        "cannot serve at 192.0.2.1, port 0 (Cannot assign requested address): choose another one by --port or --host"
    ) in capsys.readouterr().err


def test_without_the_extra_nothing_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tzd.cli import main, serve

    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert main(["serve", "no-such-run"]) == 1
    assert (
        "tzd serve needs the extra 'web': uv sync --extra web (or pip install 'tinyzero-diffusion[web]')"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--max-length", "--max-steps", "--max-generations", "--concurrency", "--queue"])
def test_impossible_limits_are_one_line(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tzd.cli import main

    assert main(["serve", "no-such-run", flag, "0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_the_socket_is_this_machine_s_own() -> None:
    from tzd.web.server import address, listen

    with listen("127.0.0.1", 0) as taken:
        assert taken.family == socket.AF_INET and address(taken).startswith("http://127.0.0.1:")
