"""The readers of what is asked for: settings on a command line and in files, and the page's requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuzz.mutators import Files
from fuzz.reader import Reader
from tzd.configs import as_yaml, compose
from tzd.errors import UserError
from tzd.web.asking import Asked
from tzd.web.door import JOIN, Door
from tzd.web.limits import Limits

LIMITS = Limits(length=64, steps=16)
OVERRIDES = (
    "model=tiny\nmodel.n_layer=2\ntraining.max_steps=10",
    "experiment=demo\ndata.block_size=32",
    "sampler=dilated\nsampler.steps=8\nseed=3",
    "model.n_embd='${calc:64}'\nmodel.n_head=2",
    "experiment=demo\nlogger.kind=[csv,tensorboard]",
)
MINE = b"""# @package _global_
defaults:
  - override /model: tiny
  - _self_
model:
  n_layer: 2
  n_embd: ${calc:'64 * 3'}
training:
  max_steps: 10
sampler: {name: dilated, steps: 8}
"""
REQUEST = {"fn_index": 0, "data": ["text", "dilated", 8, 1.0, 16, 0, 3], "session_hash": "abc"}
HEADERS = "origin: http://127.0.0.1:7860\nhost: 127.0.0.1:7860\ncontent-type: application/json\npath: /run/a/.gif\n"


def _read_overrides(folder: Path) -> None:
    file = folder / "overrides.txt"
    text = file.read_text("utf-8", "replace") if file.is_file() else ""
    compose([line for line in text.split("\n") if line][:5], folders=())


def _read_files(folder: Path) -> None:
    overrides = ["experiment=mine"]
    as_yaml(overrides, folders=(folder / "configs",))
    compose(overrides, folders=(folder / "configs",))


def _ask(folder: Path) -> None:
    """A request, from the door to what a form says."""
    body, headers = (folder / "body.json"), (folder / "headers.txt")
    content = body.read_bytes() if body.is_file() else b""
    lines = headers.read_bytes().split(b"\n") if headers.is_file() else []
    pairs = [(name, value.strip()) for name, found, value in (line.partition(b":") for line in lines) if found]
    asked: list[bytes] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            asked.append((await receive())["body"])

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        assert message["type"].startswith("http.response.")

    async def all_of_it() -> None:
        door = Door(inner, LIMITS.message, {0: 7})
        path = next((value.decode("latin-1") for name, value in pairs if name == b"path"), "/")
        for method, where in (("POST", JOIN), ("GET", path), ("PUT", path)):
            scope = {"type": "http", "path": where, "method": method, "headers": pairs, "query_string": b"x=1"}
            await door(scope, receive, send)

    asyncio.run(all_of_it())
    if not asked:
        raise UserError("refused at the door")
    data = json.loads(asked[0])["data"]
    Asked.checked(LIMITS, data[0], [data[1]], *data[2:])


def _settings() -> Mapping[str, Files]:
    return {str(number): {"overrides.txt": text.encode()} for number, text in enumerate(OVERRIDES)}


READERS = (
    Reader("settings, command line", _settings, _read_overrides, 5, names=False),
    Reader(
        "settings, YAML files", lambda: {"mine": {"configs/experiment/mine.yaml": MINE}}, _read_files, 4, names=False
    ),
    Reader(
        "the page's requests",
        lambda: {"form": {"body.json": json.dumps(REQUEST).encode(), "headers.txt": HEADERS.encode()}},
        _ask,
        80,
        names=False,
    ),
)
