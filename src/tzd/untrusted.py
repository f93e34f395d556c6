"""Files that come from anybody: nothing that is no file is opened, nothing is larger than it may be, JSON is plain.

What Python's `json` takes beyond the standard (NaN, names twice), or what others choke on later (half of a surrogate
pair, nesting without end), is refused where it is read; so is YAML that is a few lines and fills any memory.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 1 << 28  # bytes of a file of JSON or text beside weights; tokenizers have tens of MB
LARGEST_YAML = 1 << 18  # a parser takes seconds for it
_DEEPEST = 100  # levels of JSON; a training state has about ten


def read_file(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a file.

    Args:
        path: of the file.
        largest: bytes that it may have.

    Raises:
        OSError: it is no file (a pipe or a device might never end), too large, or cannot be read.
        ValueError: no path can be like this.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise OSError(errno.EFBIG, f"it has more than {largest >> 20} MiB", str(path))
        return file.read(size)


def parse_json(content: bytes | str) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, or holds NaN, a name twice, half of a surrogate pair, or more than 100 levels.
    """
    try:
        data = json.loads(content, parse_constant=_refused, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested without end") from error
    level = [data]
    for _ in range(_DEEPEST):
        level = [item for value in level if isinstance(value, (dict, list)) for item in _items(value)]
        if not level:
            return data
    raise ValueError(f"it is nested in more than {_DEEPEST} levels")


def read_json(path: Path) -> Any:
    """What a file of JSON says; OSError and ValueError as `read_file` and `parse_json`."""
    return parse_json(read_file(path))


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file, small also with what it refers to (`*NAME`) written out; else OSError or ValueError."""
    import yaml

    text = read_file(path, LARGEST_YAML).decode("utf-8")
    try:
        root = yaml.compose(text, yaml.SafeLoader) if "*" in text else None
    except Exception:  # no YAML: whoever parses it says where
        return text
    if root is not None and _written_out(root, {}) > LARGEST_YAML:
        raise ValueError(f"what it refers to (*NAME) written out, it has more than {LARGEST_YAML} characters")
    return text


def _written_out(node: Any, known: dict[int, int]) -> int:
    """Characters and values of a node of YAML, without references, as far as they count; one in itself has no end."""
    if id(node) not in known:
        known[id(node)] = LARGEST_YAML
        if isinstance(node.value, str):
            size = len(node.value)
        else:
            entries = (entry if isinstance(entry, tuple) else (entry,) for entry in node.value)  # of a mapping: a pair
            size = sum(_written_out(part, known) for entry in entries for part in entry)
        known[id(node)] = min(1 + size, LARGEST_YAML + 1)
    return known[id(node)]


def _items(value: dict[str, Any] | list[Any]) -> list[Any]:
    texts = value if isinstance(value, list) else [*value, *value.values()]
    for text in texts:
        if isinstance(text, str) and not text.isascii():
            text.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return texts if isinstance(value, list) else list(value.values())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it says one name twice")
    return found


def _refused(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")
