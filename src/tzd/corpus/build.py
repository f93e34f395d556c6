"""Builds a folder of shards: documents are read as a stream, tokenized in parallel, and written as they come."""

from __future__ import annotations

import bisect
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tzd.config import TokenizerSettings
from tzd.corpus.documents import Documents, Piece, batches, find_documents
from tzd.corpus.packing import Packed
from tzd.corpus.parallel import pack_all
from tzd.corpus.shard_writer import ShardWriter
from tzd.corpus.shards import DOCUMENTS, FORMAT, INDEX, Counts, Index, SourceFile, Splits, file_sha256
from tzd.corpus.tokenizer import Tokenizer, make_tokenizer
from tzd.corpus.tokens import token_dtype
from tzd.errors import CorpusError, TzdError
from tzd.mapping import require, to_mapping
from tzd.room import FULL, more_room

_MOST_WORKERS = 4096
SHARD_TOKENS = 1 << 27
_PACKED = (".gz", ".zst", ".parquet")  # files with less bytes than characters
_BESIDE = 1 << 20  # bytes of a folder of shards that are no tokens: a tokenizer, an index


def build_shards(
    sources: Sequence[str],
    folder: str | Path,
    tokenizer: TokenizerSettings,
    *,
    column: str = "text",
    separator: str | None = None,
    shard_tokens: int = SHARD_TOKENS,
    validation: float = 0.05,
    test: float = 0.05,
    workers: int = 0,
    progress: bool = False,
) -> Index:
    """Tokenizes files of any size into a new folder of shards, in little memory.

    The result does not depend on `workers`. Where the build fails, or is interrupted, nothing is left.

    Args:
        sources: files, folders and globs of `.txt`, `.md`, `.jsonl` and `.parquet`; text and JSONL may be compressed
            (`.gz`, `.zst`). A file of another name is text.
        folder: what is made; it must not exist.
        tokenizer: the group `tokenizer`. `bpe` is trained on a sample of what is not held out.
        column: the key or column that holds a document, in JSONL and Parquet.
        separator: what ends a document in a text file; None: the end of the file.
        shard_tokens: a shard ends with the document that fills it.
        validation: share of the characters to validate on, and
        test: to test on: the last documents.
        workers: processes that tokenize beside this one; 0: this one does it. A script that asks for any must guard
            what it runs by `if __name__ == "__main__"`.
        progress: whether bars show how far it is.

    Raises:
        ConfigError: a setting is impossible.
        CorpusError: a source is missing, cannot be read or is no text, the folder exists, or there are too few
            documents for three splits.
        TzdError: the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    require(
        min(validation, test) > 0 and validation + test < 1,
        f"--validation {validation} and --test {test}: the shares held out must be positive, and below 1 together",
    )
    require(shard_tokens >= 1, f"a shard takes at least 1 token, not {shard_tokens} (--shard-tokens)")
    require(0 <= workers <= _MOST_WORKERS, f"--workers must lie in 0..{_MOST_WORKERS}, not {workers}")
    require(separator != "", "an empty separator separates nothing; without --separator a file is a document")
    require(
        "\r" not in (separator or ""), "every line of a text is read with \\n at its end: --separator cannot hold \\r"
    )
    documents = Documents(find_documents(sources), column, separator, validation + test, progress)
    estimate = _Estimate(documents)
    with _under_construction(folder, estimate.size) as part:
        made = make_tokenizer(tokenizer, documents)
        with ShardWriter(part, token_dtype(made.vocab_size), shard_tokens) as writer:
            for packed in pack_all(made, estimate.batches(), workers):
                estimate.take(packed, writer.dtype)
                writer.add(packed)
        index = Index(
            format=FORMAT,
            dtype=writer.dtype.str,
            tokenizer=made.describe(),
            tokenizer_sha256=_write_tokenizer(made, part),
            splits=_splits(part / DOCUMENTS, validation, test),
            shards=tuple(writer.shards),
            documents_sha256=writer.documents_sha256,
            sources=tuple(SourceFile(f.name, f.stat().st_size, file_sha256(f)) for f in documents.files),
        ).signed()
        (part / INDEX).write_text(json.dumps(to_mapping(index), indent=1) + "\n", encoding="utf-8")
    return index


class _Estimate:
    """How much room the shards of documents take, by what those take that have been tokenized.

    Args:
        documents: what is read.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents, self._read = documents, 0
        self._marks: deque[int] = deque()  # bytes read before each batch that is being tokenized
        self._tokenized = self._characters = self._written = 0

    def batches(self) -> Iterator[list[Piece]]:
        """The documents, once."""
        for batch in batches(self._documents.pieces("tokenizing", self._hear)):
            self._marks.append(self._read)
            yield batch

    def take(self, packed: Packed, dtype: np.dtype) -> None:
        """The tokens of a batch, which are about to be written."""
        self._tokenized = self._marks.popleft()
        self._characters += int(packed.character_ends[-1])
        self._written += packed.tokens.size * dtype.itemsize + 16 * int(packed.ends.sum())

    def size(self) -> int:
        """Bytes in all; 0 where nothing is known of them yet."""
        packed = any(file.suffix.lower() in _PACKED for file in self._documents.files)
        # a block is counted as read once it is tokenized; plain text has as many bytes as characters, at least
        tokenized = self._tokenized if packed else max(self._tokenized, self._characters)
        if not tokenized:
            return 0
        return int(self._written * max(1.0, self._documents.size / tokenized)) + _BESIDE

    def _hear(self, count: int) -> None:
        self._read += count


def _splits(file: Path, validation: float, test: float) -> Splits:
    """Cuts documents into contiguous splits whose shares of the characters are as near as can be to those asked for.

    Args:
        file: tokens and characters up to the end of each document.
        validation: share to validate on.
        test: share to test on.
    """
    count = file.stat().st_size // 16
    if count < 3:
        raise CorpusError(
            f"the sources hold {count} document{'s'[: count != 1]}, and three splits need at least 3: name more files,"
            " or say what ends a document in a text file (--separator '\\n\\n': a blank line)"
        )
    ends = np.memmap(file, "<i8", "r", shape=(count, 2))
    first = min(_nearest(ends, 1 - validation - test), count - 2)
    second = min(max(_nearest(ends, 1 - test), first + 1), count - 1)
    cuts = [0, first, second, count]
    tokens, characters = ([0, *(int(ends[cut - 1, column]) for cut in cuts[1:])] for column in (0, 1))
    rows = np.diff([tokens, cuts, characters], axis=1).T.tolist()
    return Splits(*(Counts(*row) for row in rows))


def _nearest(ends: np.ndarray, share: float) -> int:
    """How many documents hold a share of the characters, or nearly."""
    characters = ends[:, 1]
    target = share * characters[-1]
    after = bisect.bisect_left(characters, target)  # which copies nothing: the column may be larger than the memory
    before = after - 1
    nearer = before if before >= 0 and target - characters[before] < characters[after] - target else after
    return nearer + 1


def _write_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Writes the tokenizer's file, if it has one. Returns its sha256."""
    digest = ""
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
        digest = file_sha256(folder / name)
    return digest


@contextmanager
def _under_construction(folder: Path, size: Callable[[], int]) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when all is well, and is gone when it is not.

    Args:
        folder: what is made.
        size: about how many bytes it takes, as far as that is known then.
    """
    if folder.exists():
        raise CorpusError(f"{folder} exists already; choose another --out, or remove it")
    part = folder.with_name(f"{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
    except FileExistsError as error:
        raise CorpusError(
            f"{part} exists: another build is writing there, or one was killed; wait for it, or remove it"
        ) from error
    except OSError as error:
        raise TzdError(f"cannot write {part}: {error.strerror}; choose another --out") from error
    try:
        yield part
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)  # the room that it takes is free then
        mend = f"{more_room(part, size(), 'about ')}, or " if error.errno in FULL else ""
        raise TzdError(f"cannot write {folder}: {error.strerror}; {mend}choose another --out") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
