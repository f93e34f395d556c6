"""The documents of files of any size, one after another, in pieces that memory holds.

A text file is one document, or several with a separator between them; each line of a `.jsonl` and each row of a
`.parquet` file is one. Text and JSONL may be compressed (`.gz`, `.zst`).
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from tzd.corpus.files import Lookup
from tzd.corpus.sources.text import files_of
from tzd.errors import CorpusError, MissingExtraError, first_line

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet", *(a + b for a in (".txt", ".jsonl") for b in (".gz", ".zst")))
PIECE = 1 << 18  # characters; the tokenizers library keeps some 600 bytes for each token of a text
BLOCK = 1 << 20  # bytes that are read at once
LONGEST_LINE = 32 << 20  # bytes of a line of JSONL, which is parsed in one go
LONG = 1 << 22  # characters after which the next part of a document counts as another document
SAMPLE = 32 << 20  # characters that a tokenizer is trained on

Advance = Callable[[int], Any]


class Piece(NamedTuple):
    """A document, or a part of a long one.

    Attributes:
        text: its characters.
        ends: whether the document ends with it.
        where: file and place of the document, for messages.
    """

    text: str
    ends: bool
    where: str


@dataclass(frozen=True)
class Documents:
    """The documents of some files, streamed; they are `tzd.corpus.corpus.Texts`.

    Attributes:
        files: where they are, in this order.
        column: the key or column that holds a document, in JSONL and Parquet.
        separator: what ends a document in a text file; None: the end of the file.
        held_out: share of the characters, at the end, that no tokenizer is trained on.
        progress: whether a bar shows how far the reading is.
    """

    files: tuple[Path, ...]
    column: str = "text"
    separator: str | None = None
    held_out: float = 0.1
    progress: bool = False

    def pieces(self, purpose: str, heard: Advance = lambda _: None) -> Iterator[Piece]:
        """All documents in pieces of at most `PIECE` characters, cut where a line ends or else a word.

        Args:
            purpose: what they are read for, which the bar says.
            heard: is told as the bar is, how many bytes more of the files have been read.

        Raises:
            CorpusError: a file cannot be read or is damaged, or a document is no text; it names file and place.
            MissingExtraError: what reads Parquet or `.zst` is not installed.
        """
        from tqdm import tqdm

        def advance(count: int) -> None:
            bar.update(count)
            heard(count)

        off = not self.progress
        with tqdm(total=self.size, desc=purpose, unit="B", unit_scale=True, disable=off, leave=False) as bar:
            for file in self.files:
                kind = file.with_suffix("").suffix if file.suffix.lower() in (".gz", ".zst") else file.suffix
                if kind.lower() == ".parquet":
                    yield from _of_parquet(file, self.column, advance)
                elif kind.lower() == ".jsonl":
                    yield from _of_jsonl(file, self.column, advance)
                else:
                    yield from _of_text(file, self.separator, advance)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.stat().st_size for file in self.files)

    def alphabet(self) -> set[str]:
        """See `Texts.alphabet`; the line break that can end a document is one of them."""
        seen = np.zeros(0x110000, bool)
        seen[ord("\n")] = True
        for piece in self.pieces("reading the alphabet"):
            seen[np.frombuffer(piece.text.encode("utf-32-le", "surrogatepass"), np.uint32)] = True
        return set(map(chr, np.flatnonzero(seen)))

    def training_texts(self) -> Iterator[str]:
        """See `Texts.training_texts`: `SAMPLE` characters at most, spread evenly over what is not held out.

        That ends with the last document which ends within its share, or the first; two are behind it at least.
        """
        total = before_last = before_two = 0
        for _, size in _whole(self.pieces("counting characters")):
            before_last, before_two, total = total, before_last, total + size
        end = min(int((1 - self.held_out) * total), before_two)
        share, read, given = min(1.0, SAMPLE / max(1, end)), 0, 0
        for texts, size in _whole(self.pieces("training the tokenizer")):
            if read and read + size > end:
                return
            read += size
            for text in texts if given < share * read else ():
                given += len(text)
                yield text


def find_documents(items: Iterable[str], lookup: Lookup | None = None) -> tuple[Path, ...]:
    """The files that files, folders and globs name, each once.

    Raises:
        CorpusError: one of them names none, or something that cannot be read twice.
    """
    found = dict.fromkeys(file.resolve() for item in items for file in files_of(item, lookup or Lookup(), SUFFIXES))
    for file in found:
        if not file.is_file():
            raise CorpusError(f"{file} is no file but a pipe or a device, and it is read more than once; give a file")
    return tuple(found)


def batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces in lists of at least `PIECE` characters."""
    batch: list[Piece] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text)
        if characters >= PIECE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _whole(pieces: Iterable[Piece]) -> Iterator[tuple[list[str], int]]:
    """Each document's pieces, and its characters with a line break at its end; a long one counts as several."""
    texts: list[str] = []
    size = 0
    for piece in pieces:
        texts.append(piece.text)
        size += len(piece.text) + (piece.ends and not piece.text.endswith("\n"))
        if piece.ends or size >= LONG:
            yield texts, size
            texts, size = [], 0


def _of_text(path: Path, separator: str | None, advance: Advance) -> Iterator[Piece]:
    pending, begun, number = "", False, 1
    for block in _decoded(path, advance):
        pending += block
        if separator:
            *whole, pending = pending.split(separator)
            for document in whole:
                yield from pieces_of(document, f"{path}, document {number}", begun)
                begun, number = False, number + 1
        start, margin = 0, len(separator or "")  # the last characters may be the beginning of a separator
        while len(pending) - start > PIECE + margin:
            end = _boundary(pending, start)
            yield Piece(pending[start:end], False, f"{path}, document {number}")
            start, begun = end, True
        pending = pending[start:]
    yield from pieces_of(pending, f"{path}, document {number}", begun)


def _of_jsonl(path: Path, column: str, advance: Advance) -> Iterator[Piece]:
    with _opened(path) as (stream, raw):
        number, at = 0, 0
        while line := stream.readline(LONGEST_LINE + 1):
            number, where = number + 1, f"{path}, line {number + 1}"
            if len(line) > LONGEST_LINE:
                raise CorpusError(f"{where} is longer than {LONGEST_LINE >> 20} MiB; make several documents of it")
            yield from pieces_of(_text_of_line(line, column, where), where)
            advance(raw.tell() - at)
            at = raw.tell()


def _text_of_line(line: bytes, column: str, where: str) -> str:
    if not line.strip():
        return ""
    try:
        row = json.loads(line.decode("utf-8-sig" if line.startswith(codecs.BOM_UTF8) else "utf-8"))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where} is not UTF-8 (byte {error.start + 1} of the line); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON ({error}); each line must be one JSON object") from error
    text = row.get(column) if isinstance(row, dict) else None
    if not isinstance(text, str):
        has = f"it has: {', '.join(row) or 'nothing'}" if isinstance(row, dict) else "it is no JSON object"
        raise CorpusError(f"{where} has no text under '{column}' ({has}); name the key by --column")
    return text


def _of_parquet(path: Path, column: str, advance: Advance) -> Iterator[Piece]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(f"reading {path.name}", "datasets") from error
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BLOCK) as file:
            names = file.schema_arrow.names
            kind = file.schema_arrow.field(column).type if column in names else pa.null()
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise CorpusError(
                    f"{path} has no column of text '{column}' (it has: {', '.join(names)}); name it by --column"
                )
            number, per_row = 0, path.stat().st_size / max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=64, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number, where = number + 1, f"{path}, row {number + 1}"
                    if text is None:
                        raise CorpusError(f"{where} has no text under '{column}'; remove the row")
                    yield from pieces_of(text, where)
                advance(int(per_row * batch.num_rows))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({first_line(error)}); get it again") from error


def pieces_of(document: str, where: str, begun: bool = False) -> Iterator[Piece]:
    """A whole document in pieces, or what is left of one that has begun; nothing where it is blank."""
    if not begun and not document.strip():
        return
    start = 0
    while len(document) - start > PIECE:
        end = _boundary(document, start)
        yield Piece(document[start:end], False, where)
        start = end
    yield Piece(document[start:], True, where)


def _boundary(text: str, start: int) -> int:
    """Where a piece that begins at `start` ends: before its last line break, or its last space, or when it is full.

    What stands before it is no white space: a byte-level BPE never joins that with the white space behind it.
    """
    end, half = start + PIECE, start + PIECE // 2
    for sign in "\n ":
        at = text.rfind(sign, half, end)
        while at > half and text[at - 1].isspace():
            at = text.rfind(sign, half, at)
        if at > half:
            return at
    return end


def _decoded(path: Path, advance: Advance) -> Iterator[str]:
    r"""The text of a file in blocks, without a byte order mark, every line ending a plain `\n`."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    with _opened(path) as (stream, raw):
        fed = at = 0
        while True:
            block = stream.read(BLOCK)
            fed += len(block)
            try:
                yield decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:  # its object ends with this block
                offset = fed - len(error.object) + error.start
                raise CorpusError(
                    f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {offset}); save it as UTF-8"
                ) from error
            if not block:
                return
            advance(raw.tell() - at)
            at = raw.tell()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file's bytes, unpacked, and the file itself, whose position tells how far the reading is."""
    try:
        with path.open("rb") as raw, _unpacked(path, raw) as stream:
            yield stream, raw
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CorpusError(f"cannot read {path}: {reason}; a whole file that you may read is needed") from error


def _unpacked(path: Path, raw: IO[bytes]) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix.lower() != ".zst":
        return raw
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError(f"reading {path.name}", "datasets") from error
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))
