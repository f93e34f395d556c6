"""Files that come from anybody: nothing that is no file is opened, nothing is larger than it may be, JSON is plain.

What Python's `json` takes beyond the standard (NaN, names twice), or what others choke on later (half of a surrogate
pair, nesting without end), is refused where it is read; so is YAML that is a few lines and fills any memory.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 1 << 28  # bytes of a file of JSON or text beside weights; tokenizers have tens of MB
LARGEST_YAML = 1 << 20
_DEEPEST = 100  # levels of JSON; a training state has about ten
_REFERENCE = re.compile(r"(?:^|[\s,\[{:-])\*[^\s,*]")
_REFERENCES = 16  # in a YAML file


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
    """The text of a YAML file that does not refer to itself again and again (`*NAME`); else OSError or ValueError."""
    text = read_file(path, LARGEST_YAML).decode("utf-8")  # YAML may be UTF-16, in which references look otherwise
    count = len(_REFERENCE.findall(text))
    if count > _REFERENCES:
        raise ValueError(f"it refers to its own parts {count} times (*NAME), where {_REFERENCES} are allowed")
    return text


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
