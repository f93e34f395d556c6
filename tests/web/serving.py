"""A page that is being served, for the tests of this folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from networks import stirred, weights_of
from runs import WORDS
from tzd.checkpoint import write_checkpoint
from tzd.config import TinyConfig
from tzd.mapping import to_mapping

MARKUP = "<b>&\"'/=()!${}</b> x 1 onerror alert img src\n"  # characters that the tokenizer is to know
LENGTH, STEPS = 1024, 20000


@dataclass(frozen=True)
class Server:
    """The page's address, the model behind it, and the process that serves it."""

    url: str
    run: Path
    process: int

    def request(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of what is answered."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, {"content-type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    @cached_property
    def runs(self) -> list[int]:
        """Numbers of what the buttons start: write, compare, life."""
        _, config = self.request("/config")
        return [one["id"] for one in json.loads(config)["dependencies"] if one["backend_fn"]]

    def ask(self, which: int, data: list[Any], session: str) -> dict[str, Any]:
        """What the page's button number `which` brings, pressed by hand: the last message."""
        body = {"data": data, "fn_index": self.runs[which], "session_hash": session}
        status, answer = self.request("/gradio_api/queue/join", json.dumps(body).encode())
        if status != 200:
            return {"status": status, **json.loads(answer)}
        messages = list(self.listen(session))
        return next(message for message in reversed(messages) if message["msg"] == "process_completed")

    def listen(self, session: str) -> Generator[dict[str, Any], None, None]:
        """What a session hears, until it is told that there is nothing more; it hangs up then, as a browser does."""
        with urllib.request.urlopen(f"{self.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as events:
            for line in events:
                if line.startswith(b"data: "):
                    message = json.loads(line[6:])
                    if message["msg"] == "close_stream":
                        return
                    yield message


def written(folder: Path, **said: Any) -> Path:
    """A checkpoint of a very small model that knows the characters of `MARKUP`; nothing has trained it.

    Args:
        folder: where it is written.
        said: further sections of its config.json.
    """
    characters = "".join(sorted({*MARKUP, *"".join(WORDS)}))
    config = TinyConfig(vocab_size=len(characters), n_layer=1, n_head=2, n_embd=16, block_size=24)
    sections = {
        "model": {"model_type": config.model_type, **to_mapping(config)},
        "tokenizer": {"kind": "char", "vocab_size": len(characters)},
        "diffusion": {},
        "provenance": {},
        **said,
    }
    tokenizer = json.dumps({"kind": "char", "characters": characters}).encode()
    files = {"tokenizer.json": tokenizer}
    return write_checkpoint(folder, config=sections, weights=weights_of(stirred(config)), files=files)


@contextmanager
def served(run: Path, *flags: str) -> Iterator[Server]:
    """Serves a run's model; it ends by SIGINT, and says only that, whatever was asked of it before."""
    command = [sys.executable, "-m", "tzd", "serve", str(run), "--port", "0", *flags]
    limits = ["--max-length", str(LENGTH), "--max-steps", str(STEPS)]
    process = subprocess.Popen(
        command + limits,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert " writes at http://127.0.0.1:" in said, process.communicate()[1]
        yield Server(said.split(" writes at ")[1].split()[0], run, process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, 130)
        assert errors == "tzd: interrupted\n"
    finally:
        process.kill()
        process.wait()
