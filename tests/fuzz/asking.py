"""The readers of what is asked for: settings on a command line and in files, and the page's requests."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tzd
from fuzz.mutators import Files
from fuzz.reader import Reader
from tzd.config import TokenizerSettings
from tzd.configs import as_yaml, compose
from tzd.corpus import Corpus
from tzd.corpus.tokenizer import make_tokenizer
from tzd.errors import UserError
from tzd.untrusted import parse_json
from tzd.web.asking import Asked
from tzd.web.door import CANCEL, JOIN, Door
from tzd.web.limits import Limits
from tzd.web.queue import Queue
from tzd.web.recordings import Recordings
from tzd.web.runs import Runs

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
FORMS = {"write": ("write", 7), "compare": ("compare", 8), "life": ("life", 8)}  # a run, and how many values it takes
ASKED = {
    "write": ["text", "dilated", 3, 1.0, 16, 0, 3],
    "compare": ["a _ b", "dilated", "ancestral", 3, 1.0, 16, 8, 3],
    "life": ["text", "glider", 4, 2, 3, 1.0, False, 3],
}
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
    asked: list[list[Any]] = []

    class Heard(Queue):
        async def join(self, number: int, values: list[Any], name: str) -> str:
            asked.append(values)
            return "run"

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        assert scope["method"] in ("GET", "HEAD") and not scope["query_string"]

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        assert message["type"].startswith("http.response.")

    async def all_of_it() -> None:
        door = Door(inner, LIMITS.message, {0: 7}, Heard({}, lambda number, before: (), LIMITS))
        path = next((value.decode("latin-1") for name, value in pairs if name == b"path"), "/")
        for method, where in (("POST", JOIN), ("POST", CANCEL), ("GET", path), ("PUT", path)):
            scope = {"type": "http", "path": where, "method": method, "headers": pairs, "query_string": b"x=1"}
            await door(scope, receive, send)

    asyncio.run(all_of_it())
    if not asked:
        raise UserError("refused at the door")
    (data,) = asked
    Asked.checked(LIMITS, data[0], [data[1]], *data[2:])


@cache
def _runs() -> tuple[Runs, Recordings]:
    """The page of a model that writes anything, in windows of 16 tokens."""
    model = tzd.from_function(lambda tokens: np.zeros((*tokens.shape, 128), np.float32), vocab_size=128, seq_len=16)
    recordings, tokenizer = (
        Recordings(),
        make_tokenizer(TokenizerSettings("ascii"), Corpus.from_text("a", "a" * 40, "")),
    )
    limits = Limits(length=20, steps=3, generations=2)
    return Runs(replace(model, tokenizer=tokenizer), limits, recordings), recordings


def _write(folder: Path) -> None:
    """What a button starts, with any values, to its end; and the page that plays it."""
    file = folder / "form.json"
    try:
        asked = parse_json(file.read_bytes() if file.is_file() else b"")
        which, values = asked["run"], list(asked["data"])
    except (ValueError, TypeError, KeyError):
        which, values = "write", []
    runs, recordings = _runs()
    start, count = FORMS.get(which if isinstance(which, str) else "", FORMS["write"])
    shown = deque(getattr(runs, start)(*(values + [None] * count)[:count]), maxlen=1)[0]
    name = re.findall(r"run/([\w-]+)/\.html", shown[-1])[0]
    tempfile.tempdir = str(folder)  # where files are made before they are sent
    assert recordings.file(name, ".html")


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
        60,
        names=False,
    ),
    Reader(
        "the page's runs",
        lambda: {name: {"form.json": json.dumps({"run": name, "data": data}).encode()} for name, data in ASKED.items()},
        _write,
        10,
        names=False,
    ),
)
