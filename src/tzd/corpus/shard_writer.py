"""Writes tokens and the ends of documents as they come, one shard after another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

import numpy as np

from tzd.corpus import documents
from tzd.corpus.packing import Packed
from tzd.corpus.shards import DOCUMENTS, Shard, shard_name


class HashedFile:
    """A new file whose hash is known when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("xb")
        self._digest = hashlib.sha256()

    def write(self, values: np.ndarray) -> None:
        """Appends an array's bytes."""
        data = np.ascontiguousarray(values).data.cast("B") if values.size else b""
        self._file.write(data)
        self._digest.update(data)

    def close(self, *, whole: bool = True) -> str:
        """Brings the file to the disk, if it is `whole`. Returns the hex digest of its bytes."""
        with self._file:
            if whole:
                self._file.flush()
                os.fsync(self._file.fileno())
        return self._digest.hexdigest()


class ShardWriter:
    """Writes shards and `documents.bin` into a folder.

    Args:
        folder: where to.
        dtype: of the tokens.
        shard_tokens: a shard ends with the document that fills it.

    Attributes:
        shards: those that are complete; all of them when the writer is left.
        documents_sha256: hex digest of `documents.bin`, when the writer is left.
    """

    def __init__(self, folder: Path, dtype: np.dtype, shard_tokens: int) -> None:
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.shards: list[Shard] = []
        self.documents_sha256 = ""
        self._read = np.zeros(2, np.int64)  # tokens and characters of everything given
        self._ended = np.zeros(2, np.int64)  # those up to the end of the last document
        self._documents = 0  # that have ended
        self._begun = (0, 0, 0)  # tokens, characters and documents before the shard that is open
        self._shard: HashedFile | None = None

    def __enter__(self) -> ShardWriter:
        self._ends = HashedFile(self.folder / DOCUMENTS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._shard is not None and kind is None:
            self._finish_shard()
        elif self._shard is not None:
            self._shard.close(whole=False)
        self.documents_sha256 = self._ends.close(whole=kind is None)

    def add(self, packed: Packed) -> None:
        """Appends the tokens of pieces; the last piece of all must end its document."""
        piece_ends = np.stack([packed.token_ends, packed.character_ends], axis=1) + self._read
        ends = piece_ends[self._document_ends(piece_ends[:, 1], packed.ends)]
        self._ends.write(ends.astype("<i8"))
        start, written = int(self._read[0]), 0
        while True:  # once, but for the shards that end here
            full = int(np.searchsorted(ends[:, 0], self._begun[0] + self.shard_tokens))
            stop = int(ends[full, 0]) - start if full < len(ends) else len(packed.tokens)
            self._write(packed.tokens[written:stop])
            written = stop
            ended = ends[: full + 1]
            self._documents += len(ended)
            self._ended = ended[-1] if len(ended) else self._ended
            if full == len(ends):
                break
            self._finish_shard()
            ends = ends[full + 1 :]
        self._read = piece_ends[-1]

    def _document_ends(self, characters: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """(P,) bool, after which pieces a document ends, or has become so long that the rest is another one."""
        ends = ends.copy()
        for piece in np.flatnonzero(~ends):  # few: a piece that goes on is a large one
            before = np.flatnonzero(ends[:piece])
            last = characters[before[-1]] if len(before) else self._ended[1]
            ends[piece] = characters[piece] - last >= documents.LONG
        return ends

    def _write(self, tokens: np.ndarray) -> None:
        if not len(tokens):
            return
        if self._shard is None:
            self._shard = HashedFile(self.folder / shard_name(len(self.shards)))
        self._shard.write(tokens.astype(self.dtype))

    def _finish_shard(self) -> None:
        assert self._shard is not None
        now = (int(self._ended[0]), int(self._ended[1]), self._documents)
        tokens, characters, documents = (after - before for after, before in zip(now, self._begun, strict=True))
        name, digest = shard_name(len(self.shards)), self._shard.close()
        self.shards.append(Shard(tokens, documents, characters, name, digest))
        self._begun, self._shard = now, None
