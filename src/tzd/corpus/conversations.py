"""Prompts with their answers, from JSON lines or from a dataset of Hugging Face's library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tzd.config import DataSettings
from tzd.corpus.chat import Message, user_says
from tzd.corpus.corpus import SPLITS
from tzd.corpus.files import Lookup, read_text
from tzd.corpus.hub_datasets import load_splits
from tzd.errors import CorpusError, nearest
from tzd.untrusted import parse_json

_HELD_OUT = 0.05  # of the conversations, for each split that a source does not bring


@dataclass(frozen=True)
class Pair:
    """What is said, and the answer to it.

    Attributes:
        messages: everything before the answer.
        answer: what is learnt.
        where: the file and line, or the row, that it comes from.
    """

    messages: Sequence[Message]
    answer: str
    where: str


@dataclass(frozen=True)
class Pairs:
    """Pairs in fixed, contiguous splits, no two of which share a conversation; they are `Texts` for a tokenizer.

    Attributes:
        splits: "train", "validation" and "test"; the last may be empty.
        sha256: hex digest of all that is said, and by whom.
    """

    splits: Mapping[str, list[Pair]] = field(repr=False)
    sha256: str

    def alphabet(self) -> set[str]:
        """The characters of all of it."""
        return {character for split in self.splits for text in self._texts(split) for character in text}

    def training_texts(self) -> Iterable[str]:
        """The messages and answers of the training split."""
        return self._texts("train")

    def _texts(self, split: str) -> Iterator[str]:
        for pair in self.splits[split]:
            yield "".join(message["content"] for message in pair.messages) + pair.answer


def open_pairs(settings: DataSettings, *, progress: bool = False) -> Pairs:
    """The pairs that a configuration names.

    A row has a prompt and an answer, or a conversation: then each turn of the assistant is an answer to all that was
    said before it (as LLaDA is fine-tuned, arXiv:2502.09992, appendix B.1).

    Args:
        settings: the group `data`.
        progress: whether a download shows how far it is.

    Raises:
        CorpusError: there is nothing at that place, or a row lacks what it needs.
        MissingExtraError: Hugging Face's library is not installed.
    """
    if (settings.path is None) == (settings.dataset is None):
        raise CorpusError("pairs come from data.path=FILE.jsonl or from data.dataset=NAME: give one of the two")
    if settings.path is not None:
        file = find_file(settings.path, settings.data_dir)
        sources = {"train": read_lines(file, settings)}
    else:
        sources = _read_dataset(settings, progress)
    digest = hashlib.sha256()
    for split in SPLITS:
        for conversation in sources.get(split, ()):
            for pair in conversation:
                digest.update(json.dumps([split, [dict(m) for m in pair.messages], pair.answer]).encode())
    splits = _split(sources, settings.path or settings.dataset)
    return Pairs({name: [p for c in rows for p in c] for name, rows in splits.items()}, digest.hexdigest())


def find_file(path: str, data_dir: str | None = None) -> Path:
    """The file that `data.path` means; CorpusError if there is none."""
    lookup = Lookup(path, data_dir)
    found = lookup.find(path)
    if found is None:
        raise lookup.missing(path)
    if not found.is_file():
        raise CorpusError(
            f"{found} is a folder; pairs are read from one file of JSON lines (data.path), or data.dataset"
        )
    return found


def read_lines(file: Path, settings: DataSettings) -> list[list[Pair]]:
    """The pairs of each line of a file of JSON lines.

    Raises:
        CorpusError: a line is no JSON object, or lacks what it needs; it says which line.
    """
    conversations = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise CorpusError(f"{where} is no JSON ({error}); a line holds one object, {{...}}") from error
        if not isinstance(row, dict):
            raise CorpusError(f"{where} is no JSON object, {{...}}, but {type(row).__name__}")
        conversations.append(_pairs(row, where, settings))
    return conversations


def _read_dataset(settings: DataSettings, progress: bool) -> dict[str, list[list[Pair]]]:
    """The same of each split of a dataset."""
    loaded = load_splits(settings, streaming=False, progress=progress)
    return {
        split: [
            _pairs(row, f"{settings.dataset}, {split} row {number}", settings)
            for number, row in enumerate(loaded[split])
        ]
        for split in SPLITS
        if split in loaded
    }


def _pairs(row: Mapping[str, Any], where: str, settings: DataSettings) -> list[Pair]:
    if row.get(settings.messages_key) is not None:
        return _turns(row[settings.messages_key], f"{where}, {settings.messages_key}")
    for setting in ("prompt_key", "answer_key"):
        key = getattr(settings, setting)
        if not isinstance(row.get(key), str):
            found = "is no text" if key in row else f"is missing{nearest(key, row)}"
            raise CorpusError(f"{where}: '{key}' {found}; name the right key ({setting}), or mend the row")
    prompt, answer = row[settings.prompt_key], row[settings.answer_key]
    return [Pair(user_says(prompt), _answer(answer, f"{where}: '{settings.answer_key}'"), where)]


def _turns(messages: Any, where: str) -> list[Pair]:
    """A pair for each turn of the assistant."""
    said: list[Message] = []
    pairs = []
    for message in messages if isinstance(messages, list) else [messages]:
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise CorpusError(f'{where}: a conversation is a list of {{"role": TEXT, "content": TEXT}}; mend the row')
        role, content = message["role"], message["content"]
        if role == "assistant":
            pairs.append(Pair(tuple(said), _answer(content, where), where))
        said.append({"role": role, "content": content})
    if not pairs:
        raise CorpusError(
            f"{where}: no message is the assistant's, so that there is no answer to learn; remove the row"
        )
    return pairs


def _answer(text: str, where: str) -> str:
    if not text:
        raise CorpusError(f"{where} is empty: there is no answer to learn; remove the row, or mend it")
    return text


def _split(sources: dict[str, list[list[Pair]]], where: str | None) -> dict[str, list[list[Pair]]]:
    """All three splits: what a source does not bring is cut off the end of what there is to train on.

    Of a file the last twentieth is the test split, and the one before it the validation split. A source that brings a
    validation split, but none to test on, is left at that.
    """
    rest = sources["train"]
    missing = () if "validation" in sources else ("test", "validation") if "test" not in sources else ("validation",)
    held = {name: max(1, round(_HELD_OUT * len(rest))) for name in missing}
    if len(rest) <= sum(held.values()):
        least = len(held) + 1
        raise CorpusError(f"{where}: there are {len(rest)} rows; to train, validate and test takes at least {least}")
    splits = dict(sources)
    for name, count in held.items():
        splits[name], rest = rest[-count:], rest[:-count]
    return {**{name: [] for name in SPLITS}, **splits, "train": rest}
