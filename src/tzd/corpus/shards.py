"""A corpus of any size on the disk: memory-mapped shards of tokens, and an index that says all about them.

A folder holds `index.json`, the tokenizer's file, `tokens-00000.bin`, … (raw tokens, the first byte the lowest), and
`documents.bin`: for each document the number of tokens and of characters up to its end, two int64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tzd.config import TokenizerSettings
from tzd.corpus.corpus import SPLITS, Corpus
from tzd.corpus.sharded_tokens import ShardedTokens
from tzd.corpus.tokenizer import FILE, Tokenizer, load_tokenizer, make_tokenizer
from tzd.errors import CheckpointError, ConfigError, CorpusError
from tzd.mapping import from_mapping, require, to_mapping
from tzd.untrusted import read_json

INDEX = "index.json"
DOCUMENTS = "documents.bin"
FORMAT = 1
DTYPES = ("|u1", "<u2", "<i4")


@dataclass(frozen=True)
class Counts:
    """How much there is of something.

    Attributes:
        tokens: end-of-text tokens included.
        documents: those that end in it.
        characters: line breaks between documents included.
    """

    tokens: int
    documents: int
    characters: int


@dataclass(frozen=True)
class Shard(Counts):
    """A file of tokens; it begins and ends with a document.

    Attributes:
        file: its name in the folder.
        sha256: hex digest of its bytes.
    """

    file: str
    sha256: str


@dataclass(frozen=True)
class Splits:
    """What is trained on, what models are selected on, and what they are tested on: one after another."""

    train: Counts
    validation: Counts
    test: Counts


@dataclass(frozen=True)
class SourceFile:
    """A file that the corpus was made of: its name, its size in bytes, and the hex digest of its content."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """What `index.json` says.

    Attributes:
        format: of the folder.
        dtype: of the tokens: |u1, <u2 or <i4.
        tokenizer: what `load_tokenizer` takes.
        tokenizer_sha256: hex digest of the tokenizer's file; empty where it has none.
        splits: how the documents are dealt out.
        shards: the files, in their order.
        documents_sha256: hex digest of `documents.bin`.
        sources: what it was made of.
        sha256: hex digest of all of the above but the sources: the corpus's own.
    """

    format: int
    dtype: str
    tokenizer: dict[str, Any]
    tokenizer_sha256: str
    splits: Splits
    shards: tuple[Shard, ...]
    documents_sha256: str
    sources: tuple[SourceFile, ...]
    sha256: str = ""

    def digest(self) -> str:
        """What `sha256` must be."""
        values = to_mapping(self)
        del values["sha256"], values["sources"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def signed(self) -> Index:
        """The same with its digest."""
        return replace(self, sha256=self.digest())

    def __post_init__(self) -> None:
        parts = [getattr(self.splits, name) for name in SPLITS]
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format}, not {FORMAT}: another version of tzd wrote it")
        if self.dtype not in DTYPES:
            raise ValueError(f"its tokens are of the unknown type {self.dtype!r}")
        if any(shard.file != shard_name(i) or shard.tokens < 1 for i, shard in enumerate(self.shards)):
            raise ValueError("its shards are not named and filled as they should be")
        if any(min(part.tokens, part.documents, part.characters) < 1 for part in parts):
            raise ValueError("a split is empty")
        if sum(part.tokens for part in parts) != sum(shard.tokens for shard in self.shards):
            raise ValueError("its splits and its shards do not hold as many tokens")


@dataclass(frozen=True)
class ShardedCorpus:
    """An opened folder.

    Attributes:
        folder: where it is.
        index: what it says of itself.
        tokenizer: what it was tokenized with.
    """

    folder: Path
    index: Index
    tokenizer: Tokenizer

    @property
    def name(self) -> str:
        """What the corpus is called: as its folder."""
        return self.folder.resolve().name

    @property
    def files(self) -> tuple[Path, ...]:
        """What `check` reads."""
        return tuple(self.folder / name for name in (*(shard.file for shard in self.index.shards), DOCUMENTS))

    def check_tokenizer(self, settings: TokenizerSettings) -> None:
        """Raises ConfigError where the group `tokenizer` asks for another tokenizer than the shards were made with."""
        if settings.name == "corpus":
            return
        ours = self.tokenizer
        same = settings.name == ours.kind and settings.vocab_size in (None, ours.vocab_size)
        if same and settings.pretrained_model_name_or_path is not None:
            nothing = Corpus("", dict.fromkeys(SPLITS, ""), "", None, "")  # such a tokenizer is not made for a text
            same = make_tokenizer(settings, nothing).files() == ours.files()
        require(
            same,
            f"{self.folder} was tokenized by {ours.kind} with {ours.vocab_size} tokens, not by the tokenizer given:"
            " leave it out (tokenizer=corpus), or build shards with that one",
        )

    def tokens(self, split: str) -> ShardedTokens:
        """The tokens of a split; nothing is read yet."""
        before = [getattr(self.index.splits, name).tokens for name in SPLITS[: SPLITS.index(split)]]
        start, count = sum(before), getattr(self.index.splits, split).tokens
        files = tuple(self.folder / shard.file for shard in self.index.shards)
        ends = np.cumsum([shard.tokens for shard in self.index.shards], dtype=np.int64)
        return ShardedTokens(files, ends, np.dtype(self.index.dtype), start, start + count)

    def check(self, advance: Callable[[int], Any] = lambda count: None) -> None:
        """Reads everything and compares it with the index.

        Args:
            advance: is told how many bytes were read.

        Raises:
            CorpusError: a file is not what the index says.
        """
        expected = (*(shard.sha256 for shard in self.index.shards), self.index.documents_sha256)
        for file, sha256 in zip(self.files, expected, strict=True):
            if file_sha256(file, advance) != sha256:
                raise CorpusError(f"{file} is damaged: its sha256 is not the index's; copy it again, or build it again")


def open_shards(folder: str | Path) -> ShardedCorpus:
    """Opens a folder that `tzd corpus build` made. Names and sizes are checked, `ShardedCorpus.check` does the rest.

    Raises:
        CorpusError: there is none, or something in it is missing or not what its index says.
    """
    folder = Path(folder).expanduser()
    index = _read_index(folder)
    itemsize = np.dtype(index.dtype).itemsize
    sizes = {shard.file: shard.tokens * itemsize for shard in index.shards}
    sizes[DOCUMENTS] = 16 * sum(shard.documents for shard in index.shards)
    for name, size in sizes.items():
        file = folder / name
        actual = file.stat().st_size if file.is_file() else None
        if actual != size:
            state = "is missing" if actual is None else f"has {actual} bytes, not {size}"
            raise CorpusError(f"{file} {state}; copy the folder again, or build it again")
    try:
        tokenizer = load_tokenizer(index.tokenizer, folder)
    except CheckpointError as error:
        raise CorpusError(f"the tokenizer of {folder} cannot be loaded: {error}") from error
    if index.tokenizer_sha256 and file_sha256(folder / FILE) != index.tokenizer_sha256:
        raise CorpusError(f"{folder / FILE} is not the tokenizer that these shards were made with; copy it again")
    return ShardedCorpus(folder, index, tokenizer)


def is_sharded(folder: str | Path) -> bool:
    """Whether a path is a folder of shards."""
    return (Path(folder).expanduser() / INDEX).is_file()


def shard_name(number: int) -> str:
    """What a shard's file is called."""
    return f"tokens-{number:05d}.bin"


def file_sha256(path: Path, advance: Callable[[int], Any] = lambda count: None) -> str:
    """Hex digest of a file of any size; CorpusError if it cannot be read."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
        advance(len(block))
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}; a file that you may read is needed") from error


def _read_index(folder: Path) -> Index:
    path = folder / INDEX
    if not is_sharded(folder):
        raise CorpusError(f"{folder} holds no {INDEX}: it is no folder of shards; make one with tzd corpus build")
    try:
        index = from_mapping(Index, read_json(path))
    except (OSError, ValueError, TypeError, ConfigError) as error:
        raise CorpusError(f"{path} cannot be used: {error}; copy the folder again, or build it again") from error
    if index.sha256 != index.digest():
        raise CorpusError(f"{path} is damaged: its sha256 is not that of what it says; copy the folder again")
    return index
