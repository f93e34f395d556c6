"""A corpus: a text and its fixed, contiguous splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tzd.corpus.files import Lookup, PublishedFile
from tzd.errors import CorpusError

SPLITS = ("train", "validation", "test")
# What may be scored: a split, or all that is held out, the last 10% as one text.
PARTS: dict[str, tuple[str, ...]] = {**{split: (split,) for split in SPLITS}, "held-out": SPLITS[1:]}


class Texts(Protocol):
    """What a tokenizer is made for: a corpus, or documents that no memory holds at once."""

    def alphabet(self) -> set[str]:
        """The characters of all of it."""
        ...

    def training_texts(self) -> Iterable[str]:
        """Text to train a tokenizer on, none of it held out."""
        ...


@dataclass(frozen=True)
class Corpus:
    """A text, cut into contiguous splits that are the same in every process and every run.

    Attributes:
        name: what it is called.
        splits: the texts "train", "validation" and "test", in the order in which they stand in the corpus.
        sha256: hex digest of the whole text in UTF-8.
        entropy: exact entropy rate in nats per character, where the source is known; else None.
        description: one line.
    """

    name: str
    splits: dict[str, str] = field(repr=False)
    sha256: str
    entropy: float | None
    description: str

    @classmethod
    def from_text(cls, name: str, text: str, description: str = "", entropy: float | None = None) -> Corpus:
        """Cuts a text: the first 90% of its characters to train on, half of the rest to validate, half to test.

        Raises:
            CorpusError: the text is empty, or so short that a split would be.
        """
        if not text.strip():
            raise CorpusError(f"the corpus '{name}' ({description}) is empty; give it a text")
        train_end = int(0.9 * len(text))
        test_start = train_end + (len(text) - train_end) // 2
        parts = (text[:train_end], text[train_end:test_start], text[test_start:])
        if not all(parts):
            raise CorpusError(
                f"the corpus '{name}' ({description}) has {len(text)} characters; its three splits need at least 11"
            )
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        return cls(name, dict(zip(SPLITS, parts, strict=True)), digest, entropy, description)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.splits.values())

    def part(self, name: str) -> str:
        """One of `PARTS` as one text."""
        return "".join(self.splits[split] for split in PARTS[name])

    def alphabet(self) -> set[str]:
        """See `Texts.alphabet`."""
        return set().union(*self.splits.values())

    def training_texts(self) -> Iterable[str]:
        """See `Texts.training_texts`."""
        return [self.splits["train"]]


@dataclass(frozen=True)
class Source:
    """A named corpus before it is opened; each module of `tzd.corpus.sources` defines one as `SOURCE`.

    Attributes:
        description: one line.
        open: makes the corpus.
        file: the published file that it is read from, if it is read from one.
    """

    description: str
    open: Callable[[Lookup], Corpus]
    file: PublishedFile | None = None
