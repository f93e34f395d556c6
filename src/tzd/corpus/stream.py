"""Windows of a dataset that is read as it is trained on, and never kept: Hugging Face's `datasets`, streamed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tzd.config import DataSettings
from tzd.corpus.documents import SAMPLE, Piece, batches, pieces_of
from tzd.corpus.hub_datasets import load_splits
from tzd.corpus.packing import Packed, Packer
from tzd.corpus.windows import Batch
from tzd.errors import ConfigError, CorpusError, TzdError, first_line
from tzd.randomness import integer

_SKIPPED = 1024  # windows that are passed over at once


class Part(NamedTuple):
    """Some rows of a dataset: all from `start` to before `stop`, or to the end if that is None."""

    rows: Iterable[Mapping[str, Any]]
    start: int
    stop: int | None


@dataclass(frozen=True, eq=False)
class Stream:
    """A dataset's documents; they are `tzd.corpus.corpus.Texts` for a tokenizer that needs but a sample.

    Attributes:
        name: of the dataset.
        column: that holds a document.
        splits: "train", "validation" and "test".
        buffer: documents to train on, among which the next one is drawn; 0 keeps their order.
        seed: of these draws.
    """

    name: str
    column: str
    splits: Mapping[str, Part]
    buffer: int
    seed: int

    def pieces(self, split: str, epoch: int = 0) -> Iterator[Piece]:
        """The documents of a split, in pieces; those to train on in the order of an epoch.

        Raises:
            CorpusError: a row has no text in the column.
            TzdError: the stream broke off.
        """
        documents = self._documents(split)
        if split == "train" and self.buffer:
            documents = self._shuffled(documents, epoch)
        for text, where in documents:
            yield from pieces_of(text, where)

    def _documents(self, split: str) -> Iterator[tuple[str, str]]:
        """Each document, and where it comes from."""
        part = self.splits[split]
        # Not by the library's own `skip`: it skips no table that ends where it does, and what is held out would leak.
        for number, row in enumerate(itertools.islice(self._rows(part.rows), part.start, part.stop), start=1):
            text, where = row.get(self.column), f"{self.name}, document {number} of {split}"
            if not isinstance(text, str):
                raise CorpusError(
                    f"{where} has no text under '{self.column}' (it has: {', '.join(row)}); name it by data.column"
                )
            yield text, where

    def _shuffled(self, documents: Iterator[tuple[str, str]], epoch: int) -> Iterator[tuple[str, str]]:
        random = np.random.Generator(np.random.Philox(integer(self.seed, "stream-order", epoch)))
        held: list[tuple[str, str]] = []
        for document in documents:
            if len(held) < self.buffer:
                held.append(document)
                continue
            at = int(random.random() * self.buffer)
            yield held[at]
            held[at] = document
        yield from (held[at] for at in random.permutation(len(held)))

    def held_out(self, split: str, packer: Packer) -> Packed:
        """The tokens of all documents of a split; CorpusError if it has none."""
        pieces = list(self.pieces(split))
        if not pieces:
            raise CorpusError(f"{self.name} has no document for {split}; hold out fewer (data.held_out_documents)")
        return packer(pieces)

    def alphabet(self) -> set[str]:
        """See `Texts.alphabet`; ConfigError: a stream is never read to its end."""
        raise ConfigError(
            "tokenizer=char needs to know every character beforehand, and a stream does not: use tokenizer=byte, or"
            " build shards (tzd corpus build)"
        )

    def training_texts(self) -> Iterator[str]:
        """See `Texts.training_texts`: the beginning of the stream."""
        given = 0
        for piece in self.pieces("train"):
            yield piece.text
            given += len(piece.text)
            if given >= SAMPLE:
                return

    def _rows(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        source = iter(rows)
        while True:
            try:
                row = next(source)
            except StopIteration:
                return
            except Exception as error:  # network, files, and the library's dozen readers
                raise TzdError(
                    f"the stream of {self.name} broke off ({first_line(error)}); go on with training.resume=true"
                ) from error
            yield row


def open_stream(settings: DataSettings, seed: int) -> Stream:
    """Opens a dataset as a stream.

    Its own splits `validation` and `test` are taken where it has them, else the first documents to train on.

    Args:
        settings: the group `data`.
        seed: of the shuffling.

    Raises:
        ConfigError: no dataset is named.
        CorpusError: it cannot be had.
        MissingExtraError: the library is not installed.
    """
    if not settings.dataset:
        raise ConfigError("data=stream needs data.dataset: a name on the hub, a folder, or a file")
    loaded, count = load_splits(settings, streaming=True), settings.held_out_documents
    splits, start = {}, 0
    for name in ("validation", "test"):
        if name in loaded:
            splits[name] = Part(loaded[name], 0, count)
        else:
            splits[name] = Part(loaded["train"], start, start + count)
            start += count
    splits["train"] = Part(loaded["train"], start, None)
    return Stream(settings.dataset, settings.column, splits, settings.shuffle_buffer, seed)


class StreamedWindows:
    """An endless sequence of windows, one after another in the tokens of a stream, whose end is its beginning again.

    The g-th is a function of the stream and g. It is found by reading on: whoever asks for one that has passed has the
    stream read anew, as a resumed run does.

    Args:
        stream: the documents.
        packer: documents -> tokens.
        length: tokens of a window, L.
        per_epoch: windows of what is called an epoch, since nobody knows how many there are.
    """

    def __init__(self, stream: Stream, packer: Packer, length: int, per_epoch: int) -> None:
        self.stream, self.packer, self.length, self.per_epoch = stream, packer, length, per_epoch
        self._restart()

    def batch(self, first: int, count: int) -> Batch:
        """Windows `first` to `first + count - 1` of the sequence."""
        if first < self._next:
            self._restart()
        while self._next < first:
            self._take(min(first - self._next, _SKIPPED))
        tokens = self._take(count)
        return Batch(tokens, np.ones(tokens.shape, dtype=bool))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}  # a generator cannot be sent to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._restart()

    def _restart(self) -> None:
        self._next = 0  # the window that comes next
        self._left = np.zeros(0, np.int32)  # tokens that were read and not taken
        self._source = self._tokens()

    def _take(self, count: int) -> np.ndarray:
        """The next (count, L) tokens."""
        parts, missing = [self._left], count * self.length - len(self._left)
        while missing > 0:
            parts.append(next(self._source))
            missing -= len(parts[-1])
        tokens = np.concatenate(parts).astype(np.int32)
        end = count * self.length
        self._left, self._next = tokens[end:], self._next + count
        return tokens[:end].reshape(count, self.length)

    def _tokens(self) -> Iterator[np.ndarray]:
        for epoch in itertools.count():
            empty = True
            for batch in batches(self.stream.pieces("train", epoch)):
                yield self.packer(batch).tokens
                empty = False
            if empty:
                raise CorpusError(
                    f"{self.stream.name} has no document left to train on; hold out fewer (data.held_out_documents)"
                )
