"""What a checkpoint folder holds: names of files, the version, checksums. `docs/checkpoints.md` is the long form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = "tzd"
FORMAT_VERSION = 1

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
STATE_TREE = "training_state.json"
STATE_ARRAYS = "training_state.safetensors"
CHECKSUMS = "checksums.json"


def to_json(data: Any) -> bytes:
    """Plain data as ASCII JSON that a person can read, the same bytes every time."""
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode("ascii")


def signed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with the digest of what it says, for a JSON that no `checksums.json` lists."""
    rest = {key: value for key, value in data.items() if key != "sha256"}
    return {**rest, "sha256": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def is_plain_name(name: str) -> bool:
    """Whether `name` can only mean something inside the folder it is looked up in."""
    return name not in ("", ".", "..") and Path(name).name == name


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
