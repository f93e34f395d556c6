"""Prompts and answers in files: words, and the same words backwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

LETTERS = "abcdef"
SETTINGS: dict[str, Any] = {
    "data.name": "pairs",
    "data.block_size": 10,
    "model.block_size": 10,
    "objective.unconditional": 0.1,
}


def words(count: int = 252) -> list[str]:
    """Two or three letters, each word once, in an order of their own."""
    every = ["".join(letters) for n in (2, 3) for letters in product(LETTERS, repeat=n)]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))][:count]


def write_rows(path: Path, rows: list[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reversals(path: Path, count: int = 252) -> Path:
    return write_rows(path, [{"prompt": f"{word}>", "answer": word[::-1]} for word in words(count)])


def settings_for(folder: Path, **changes: Any) -> dict[str, Any]:
    """For `runs.train`: a run on reversals in that folder."""
    folder.mkdir(exist_ok=True)
    return {**SETTINGS, "data.path": str(reversals(folder / "reversals.jsonl")), **changes}
