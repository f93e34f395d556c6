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

CHATML = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


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


def hub_folder(folder: Path, *, template: str | None = CHATML) -> Path:
    """A tokenizer as the hub holds one, with an end-of-text token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    library.add_special_tokens([AddedToken("<s>", special=True), AddedToken("<end>", special=True)])
    folder.mkdir()
    library.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "<end>"}, "model_max_length": 99}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder
