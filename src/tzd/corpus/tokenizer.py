"""Tokenizers: text to ids and back. Every module in `tzd.corpus.tokenizers` is one kind, under its own name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import tzd.corpus.tokenizers
from tzd.config import TokenizerSettings
from tzd.corpus.corpus import Texts
from tzd.errors import CheckpointError, ConfigError, CorpusError, brief, nearest
from tzd.mapping import require
from tzd.untrusted import read_file

FILE = "tokenizer.json"  # what a tokenizer that needs a file calls it


class Tokenizer(Protocol):
    """What turns text into ids 0 to V-1 and back; it is data alone, so that a checkpoint can hold it."""

    @property
    def kind(self) -> str:
        """One of `kinds`: ascii, char, byte, bpe or hf."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of tokens, V."""
        ...

    @property
    def mask_id(self) -> int | None:
        """The id of its own mask token, which no text can hold; None for most, whose models take V."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The id of the token that ends a text, if it has one."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, (N,) int32; CorpusError names a character that is outside the vocabulary."""
        ...

    def decode(self, tokens: np.ndarray) -> str:
        """The text of (N,) int ids; CorpusError names an id that is outside the vocabulary."""
        ...

    def pieces(self, tokens: np.ndarray) -> list[str]:
        """The text of each of (N,) int ids by itself, for viewers."""
        ...

    def describe(self) -> dict[str, Any]:
        """What `load_tokenizer` needs to know, as plain JSON, beside the files."""
        ...

    def files(self) -> dict[str, bytes]:
        """The files that must lie beside that description, by name."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of tokenizer; each module of `tzd.corpus.tokenizers` defines one as `KIND`.

    Attributes:
        make: makes a new one for a corpus.
        load: makes it again of its description and the content of its file.
        setting: the setting of the group `tokenizer` that it needs, if it needs one.
        has_file: whether a file lies beside its description.
    """

    make: Callable[[TokenizerSettings, Texts], Tokenizer]
    load: Callable[[Mapping[str, Any], bytes], Tokenizer]
    setting: str | None = None
    has_file: bool = False


def kinds() -> dict[str, Kind]:
    """The kinds of tokenizers."""
    package = tzd.corpus.tokenizers
    names = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    return {name: importlib.import_module(f"{package.__name__}.{name}").KIND for name in names}


def make_tokenizer(settings: TokenizerSettings, corpus: Texts) -> Tokenizer:
    """The tokenizer that the settings ask for.

    Args:
        settings: the group `tokenizer`.
        corpus: what it is made for. `bpe` is trained on the training split alone; `char` takes the characters of the
            whole corpus, so that one that occurs in the validation split alone does not make it unusable.

    Raises:
        ConfigError: the kind is unknown, or a setting is missing, impossible or belongs to another kind.
        MissingExtraError: `hf` without the extra.
    """
    known = kinds()
    kind = known.get(settings.name)
    require(settings.name != "corpus", "tokenizer=corpus is that of data=shards; name another one for this corpus")
    if kind is None:
        raise ConfigError(f"unknown tokenizer.name '{settings.name}'{nearest(settings.name, known)}")
    for owner, other in known.items():
        given = other.setting is not None and getattr(settings, other.setting) is not None
        require(
            not given or other is kind,
            f"tokenizer.{other.setting} belongs to tokenizer.name={owner}, not {settings.name}; leave it out",
        )
    require(
        kind.setting is None or getattr(settings, kind.setting) is not None,
        f"tokenizer.name={settings.name} needs tokenizer.{kind.setting}",
    )
    return kind.make(settings, corpus)


def load_tokenizer(description: Mapping[str, Any], folder: Path | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint, from its description and the file beside it; nothing in them can run.

    Args:
        description: what `Tokenizer.describe` returned.
        folder: where the tokenizer's files lie, for the kinds that have any.

    Raises:
        CheckpointError: the description or the file is missing, damaged, or does not fit the other.
    """
    from tzd.corpus.chat import PairTokenizer, load_pairs

    if description.get("kind") == PairTokenizer.kind:
        return load_pairs(description, folder or Path())
    known, where = kinds(), "the checkpoint" if folder is None else str(folder)
    name = description.get("kind")
    kind = known.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CheckpointError(
            f"the tokenizer of {where} is of an unknown kind {brief(name)}{nearest(str(name)[:40], known)}"
        )
    path = (folder or Path()) / FILE
    try:
        content = read_file(path) if kind.has_file else b""
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror}); a '{name}' tokenizer needs it") from error
    try:
        tokenizer = kind.load(description, content)
    except (ValueError, RecursionError) as error:  # the latter: JSON nested without end
        raise CheckpointError(f"{path} is damaged: {error}; take the checkpoint from where it came again") from error
    if description != tokenizer.describe():
        raise CheckpointError(
            f"{where} describes its tokenizer as {dict(description)}, but it is {tokenizer.describe()}; "
            "the file beside it is that of another one: take both from one place"
        )
    return tokenizer


def describe_file(folder: Path) -> dict[str, Any]:
    """What `load_tokenizer` needs to know of the tokenizer of the hub that lies in a folder; empty if there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    from tzd.corpus.tokenizers.hf import read_folder

    if not (folder / FILE).is_file():
        return {}
    try:
        return read_folder(folder).describe()
    except CorpusError as error:
        raise CheckpointError(str(error)) from error


def unknown_character(text: str, offset: int, kind: str) -> CorpusError:
    """The error for a character that a kind of tokenizer cannot hold, which says where in the text it stands."""
    character = text[offset]
    return CorpusError(
        f"character {character!r} (U+{ord(character):04X}) at {place(text, offset)} is not in "
        f"the vocabulary of the '{kind}' tokenizer; replace it, or use tokenizer=byte, which holds any text"
    )


def place(text: str, offset: int) -> str:
    """Where an offset lies in a text, in words."""
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    return f"offset {offset} (line {line}, column {column})"


def utf8(text: str, kind: str) -> bytes:
    """A text in UTF-8; half of a surrogate pair, which a broken command line can hold, is an unknown character."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise unknown_character(text, error.start, kind) from error


def check_tokens(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """The ids as an array; CorpusError if one is outside the vocabulary."""
    tokens = np.asarray(tokens)
    outside = (tokens < 0) | (tokens >= vocab_size)
    if outside.any():
        index = int(outside.argmax())
        raise CorpusError(
            f"token {tokens[index]} at offset {index} is no token of a vocabulary of {vocab_size}; "
            "is it [MASK], or of another tokenizer?"
        )
    return tokens
