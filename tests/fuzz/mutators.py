"""Damage and malice: valid files in, files out that no writer of ours would make."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Link:
    """A symbolic link instead of a file."""

    target: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe, which nobody writes to."""


@dataclass(frozen=True)
class Folder:
    """A folder instead of a file."""


File = bytes | Link | Pipe | Folder
Files = dict[str, File]

RUN = "__import__('os').system('touch ../outside/sprung')"
# What would run in a program that trusts its files.
CODE = (
    "${oc.eval:" + RUN + "}",
    "${calc:" + RUN + "}",
    "${oc.env:HOME}",
    "!!python/object/apply:os.system ['touch ../outside/sprung']",
    "{{ cycler.__init__.__globals__.os.system('touch ../outside/sprung') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "cos\nsystem\n(S'touch ../outside/sprung'\ntR.",
    "$(touch ../outside/sprung)",
    "`touch ../outside/sprung`",
)
TEXTS = (
    "",
    "\0",
    "\n",
    "\x1b[2J\x1b]0;owned\x07",
    "a\nb\r\nc",
    "../../outside/escape",
    "/etc/passwd",
    "..",
    "/dev/zero",
    "~",
    "%s%n",
    "\u202e",
    "\u2028",
    "\ufeff",
    "é",
    "nan",
    "-1",
    "1e999",
    "9" * 5000,
    "a" * 100_000,
    "\U0001f600",
    *CODE,
)
NUMBERS = (
    -1,
    0,
    1,
    2,
    3,
    255,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**63,
    2**64,
    -(2**63),
    10**30,
    0.5,
    -0.0,
    1e308,
    1e-320,
)
# JSON that Python's writer does not write.
RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    '"\\ud800"',
    '{"a":1,"a":2}',
    "[" * 60 + "]" * 60,
    "[" * 900 + "]" * 900,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" * 100_000,
    "",
    "1,",
    "tru",
    '"\t"',
)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes with some of them changed, lost, doubled, moved or put in."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _damaged_once(rng, data)
    return data


def _damaged_once(rng: random.Random, data: bytes) -> bytes:
    size = len(data)
    at, length = rng.randrange(size + 1), rng.choice((1, 1, 2, 4, 8, 64, size // 2 + 1))
    match rng.randrange(9):
        case 0 if size:
            changed = bytearray(data)
            changed[at % size] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:
            return data[:at]
        case 2:
            return data[:at] + rng.randbytes(length % 256) + data[at:]
        case 3:
            return data[:at] + data[at + length :]
        case 4:
            return data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at:]
        case 5:
            start = rng.randrange(size + 1)
            return data[:at] + data[start : start + length] + data[at + length :]
        case 6:
            odd = rng.choice((b"\0", b"\xff" * 8, b"\xef\xbb\xbf", b"\r\n", b"\x1b[2J", b"\xed\xa0\x80", b"\0" * 64))
            return data[:at] + odd + data[at:]
        case 7:
            number = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, size, rng.getrandbits(64)))
            return data[:at] + number.to_bytes(8, "little") + data[at + 8 :]
        case _:
            return rng.choice((b"", b"\0", b"{}", b"[]", b"null", data + data, b"\xef\xbb\xbf" + data, data + b"\0"))


def reworded(rng: random.Random, data: bytes) -> bytes:
    """A text with numbers, words or lines of it changed."""
    text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 3))):
        numbers, lines = list(re.finditer(r"\d+", text)), text.split("\n")
        at = rng.randrange(len(lines))
        match rng.randrange(7):
            case 0 | 1 if numbers:
                place = rng.choice(numbers)
                text = text[: place.start()] + str(rng.choice((*NUMBERS, "9" * 4400, "nan"))) + text[place.end() :]
            case 2:
                text = "\n".join([*lines[:at], *[lines[at]] * rng.choice((2, 100)), *lines[at + 1 :]])
            case 3:
                text = "\n".join(lines[:at] + lines[at + 1 :])
            case 4:
                spot = rng.randrange(len(text) + 1)
                text = text[:spot] + rng.choice(TEXTS) + text[spot:]
            case 5:
                text = "\n".join([*lines[:at], rng.choice(TEXTS), *lines[at:]])
            case _:
                text = rng.choice((text.replace("\n", "\r\n"), "\ufeff" + text, text.upper(), text.rstrip("\n")))
    return text.encode("utf-8", "replace")


def restructured(rng: random.Random, data: bytes) -> bytes:
    """JSON with values exchanged, lost, renamed, doubled or nested; other bytes are damaged."""
    raw: list[str] = []
    try:
        tree = json.loads(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            tree = _restructured_once(rng, tree, raw)
        text = json.dumps(tree)
    except (ValueError, RecursionError):
        return damaged(rng, data)
    for number, value in enumerate(raw):
        text = text.replace(f'"@raw{number}@"', value)
    return text.encode("utf-8", "surrogatepass")


def _restructured_once(rng: random.Random, tree: Any, raw: list[str]) -> Any:
    places = list(_places(tree))
    if not places or rng.random() < 0.03:
        return hostile(rng, raw)
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice((*TEXTS[:12], key + "_", key[:-1]))] = holder.pop(key)
        case 2:
            other, name = rng.choice(places)
            if key in holder if isinstance(holder, dict) else key < len(holder):
                holder[key] = json.loads(json.dumps(other[name]))
        case 3:
            holder[key] = [holder[key]]
        case 4 if isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice((1, 30)))
        case 5 if type(holder[key]) in (int, float):
            holder[key] = rng.choice(
                (holder[key] + 1, holder[key] - 1, -holder[key], 2 * holder[key], str(holder[key]))
            )
        case _:
            holder[key] = hostile(rng, raw)
    return tree


def _places(tree: Any) -> Any:
    keys: Any = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys)[:200]:
        yield tree, key
        yield from _places(tree[key])


def hostile(rng: random.Random, raw: list[str]) -> Any:
    """A value that nobody expects; what JSON has no writer for is noted in `raw`."""
    match rng.randrange(6):
        case 0:
            return rng.choice(NUMBERS)
        case 1:
            return rng.choice(TEXTS)
        case 2:
            raw.append(rng.choice(RAW))
            return f"@raw{len(raw) - 1}@"
        case 3:
            return rng.choice(([], {}, [[]], None, True, False, [None] * 1000, list(range(-2, 3))))
        case 4:
            return {"_target_": "os.system", "command": "touch ../outside/sprung"}
        case _:
            return {rng.choice(TEXTS): rng.choice(NUMBERS)}


def exchanged(rng: random.Random, outside: Path) -> File | None:
    """What is no file at all, or nothing."""
    return rng.choice(
        (
            None,
            b"",
            Folder(),
            Pipe(),
            Link("/dev/zero"),
            Link("/dev/tty"),
            Link("/etc/passwd"),
            Link("."),
            Link("nowhere"),
            Link("../case/loop"),
            Link(str(outside / "canary")),
            Link(str(outside)),
        )
    )


def write(folder: Path, files: Files) -> None:
    """Puts files into a folder that is not there yet."""
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case Link(target):
                path.symlink_to(target)
            case Pipe():
                os.mkfifo(path)
            case Folder():
                path.mkdir()
            case _:
                path.write_bytes(content)


Mutator = Callable[[random.Random, bytes], bytes]


def by_ending(name: str) -> tuple[Mutator, ...]:
    """What suits a file of that name."""
    ending = Path(name).suffix
    if ending == ".json":
        return (restructured, restructured, restructured, damaged)
    if ending in (".yaml", ".csv", ".rle", ".cells", ".jsonl", ".jinja", ".txt", ""):
        return (reworded, reworded, damaged)
    return (damaged,)
