"""Shards: the documents go in, the same tokens come out, whoever tokenized them and however they are asked for."""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hub_folders
import runs
from tzd.cli import main
from tzd.config import TokenizerSettings
from tzd.corpus import SPLITS, Windows, evaluation_windows, open_corpus
from tzd.corpus import documents as documents_module
from tzd.corpus.build import build_shards
from tzd.corpus.documents import Documents, find_documents
from tzd.corpus.sharded_tokens import ShardedTokens
from tzd.corpus.shards import DOCUMENTS, INDEX, ShardedCorpus, open_shards
from tzd.errors import ConfigError, CorpusError, TzdError
from tzd.training.task import make_task

TEXTS = [f"Document {i}, naïve\ncafé {i * i} of {'many ' * (i % 5)}words." for i in range(60)]


def jsonl(path: Path, texts: list[str], key: str = "text") -> Path:
    path.write_text("".join(json.dumps({key: text, "n": 1}) + "\n" for text in texts))
    return path


def built(folder: Path, texts: list[str] = TEXTS, kind: str = "byte", **options: Any) -> ShardedCorpus:
    folder.mkdir(exist_ok=True)
    source, out = jsonl(folder / "a.jsonl", texts), folder / f"shards-{len(list(folder.iterdir()))}"
    size = {"bpe": 300}.get(kind)
    build_shards([str(source)], out, TokenizerSettings(kind, size), **{"shard_tokens": 300, **options})
    return open_shards(out)


def whole(tokens: ShardedTokens) -> np.ndarray:
    return tokens[np.arange(len(tokens))]


def split_texts(corpus: ShardedCorpus) -> dict[str, str]:
    return {split: corpus.tokenizer.decode(whole(corpus.tokens(split))) for split in SPLITS}


def pieces(path: Path, **options: Any) -> list[str]:
    """The documents of a file, their pieces joined."""
    found, text = [], ""
    for piece in Documents((path,), **options).pieces("test"):
        text += piece.text
        if piece.ends:
            found.append(text)
            text = ""
    assert not text
    return found


def test_every_kind_of_file_gives_the_same_documents(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = "\r\n%\r\n".join(t.replace("\n", "\r\n") for t in TEXTS)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "b.TXT.gz").write_bytes(gzip.compress(text.encode()))
    lines = jsonl(tmp_path / "c.jsonl", TEXTS).read_bytes()
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines[:500]) + gzip.compress(lines[500:]))
    (tmp_path / "e.jsonl.zst").write_bytes(pa.compress(lines, "zstd", asbytes=True))
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "f.parquet", row_group_size=7)
    (tmp_path / "passed over.csv").write_text("text\n")
    files = find_documents([str(tmp_path), str(tmp_path / "a.*")])
    assert [file.name[0] for file in files] == list("abcdef")
    for file in files:
        assert pieces(file, separator="\n%\n") == TEXTS, file.name


@pytest.mark.parametrize("kind", ["ascii", "char", "byte", "bpe"])
def test_shards_hold_the_documents_and_count_them(kind: str, tmp_path: Path) -> None:
    texts = [text.replace("ï", "i").replace("é", "e") for text in TEXTS] if kind == "ascii" else TEXTS
    corpus = built(tmp_path, texts, kind)
    corpus.check()
    parts = split_texts(corpus)
    assert "".join(parts.values()) == "".join(text + "\n" for text in texts)
    index = corpus.index
    for split, part in parts.items():
        counts = getattr(index.splits, split)
        assert (counts.documents, counts.characters) == (part.count("words."), len(part))
    assert len(index.shards) > 2
    ends = np.fromfile(corpus.folder / DOCUMENTS, "<i8").reshape(-1, 2)
    tokens = np.concatenate([np.fromfile(corpus.folder / shard.file, index.dtype) for shard in index.shards])
    for (start, _), (end, _), text in zip([(0, 0), *ends[:-1]], ends, texts, strict=True):
        assert corpus.tokenizer.decode(tokens[start:end]) == text + "\n"
    np.testing.assert_array_equal(ends[:, 1], np.cumsum([len(text) + 1 for text in texts]))
    last = np.cumsum([shard.documents for shard in index.shards]) - 1
    np.testing.assert_array_equal(ends[last], np.cumsum([[s.tokens, s.characters] for s in index.shards], axis=0))
    assert all(shard.tokens >= 300 for shard in index.shards[:-1])


@pytest.mark.parametrize(("kind", "workers"), [("bpe", 1), ("char", 3)])
def test_the_result_does_not_depend_on_the_number_of_workers(
    kind: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "PIECE", 500)  # a dozen batches
    alone, together = built(tmp_path, kind=kind), built(tmp_path, kind=kind, workers=workers)
    names = sorted(file.name for file in alone.folder.iterdir())
    assert names == sorted(file.name for file in together.folder.iterdir())
    for name in names:
        assert (alone.folder / name).read_bytes() == (together.folder / name).read_bytes(), name


@given(
    lengths=st.lists(st.integers(1, 90), min_size=3, max_size=40),
    shares=st.tuples(st.floats(0.01, 0.45), st.floats(0.01, 0.45)),
    shard_tokens=st.integers(1, 200),
)
@settings(max_examples=30)
def test_splits_are_contiguous_near_their_shares_and_share_no_document(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], shares: tuple[float, float], shard_tokens: int
) -> None:
    texts = [f"{i}:" + "x" * length for i, length in enumerate(lengths)]
    options = {"validation": shares[0], "test": shares[1], "shard_tokens": shard_tokens}
    corpus = built(tmp_path_factory.mktemp("splits"), texts, **options)
    parts = [part.splitlines() for part in split_texts(corpus).values()]
    assert [text for part in parts for text in part] == texts
    assert all(parts)
    total, longest = sum(len(text) + 1 for text in texts), max(lengths) + 5
    if len(texts) > 10 and min(shares) * total > 2 * longest:  # else a split may be its one document
        for part, share in zip(parts[1:], shares, strict=True):
            assert abs(sum(len(text) + 1 for text in part) - share * total) <= longest


def test_a_document_ends_in_the_tokenizers_own_end_of_text(tmp_path: Path) -> None:
    folder = hub_folders.qwen_folder(tmp_path / "qwen")
    source = jsonl(tmp_path / "a.jsonl", TEXTS)
    chosen = TokenizerSettings("hf", None, str(folder))
    build_shards([str(source)], tmp_path / "out", chosen, workers=1)
    corpus = open_shards(tmp_path / "out")
    tokens = np.concatenate([whole(corpus.tokens(split)) for split in SPLITS])
    expected = [np.append(corpus.tokenizer.encode(text), corpus.tokenizer.eos_id) for text in TEXTS]
    np.testing.assert_array_equal(tokens, np.concatenate(expected))
    characters = sum(getattr(corpus.index.splits, split).characters for split in SPLITS)
    assert characters == sum(map(len, TEXTS))
    corpus.check_tokenizer(chosen)


LONG = " ".join(f"word{i}" + ("\n" * (i % 7 == 0)) for i in range(900))


@pytest.mark.parametrize("block", [10, 64, 1000, 1 << 20])
@pytest.mark.parametrize("text", [LONG, LONG.replace("\n", ""), "x" * 5000, "\n" * 3000 + "ü" * 700])
def test_long_documents_come_in_pieces_that_are_the_same_however_they_are_read(
    text: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "PIECE", 100)
    (tmp_path / "a.txt").write_text(f"{text}%%{text}%%\n%%short", newline="")
    jsonl(tmp_path / "b.jsonl", [text, text, "short"])
    expected = [(piece.text, piece.ends) for piece in Documents((tmp_path / "b.jsonl",)).pieces("test")]
    monkeypatch.setattr(documents_module, "BLOCK", block)
    found = [(piece.text, piece.ends) for piece in Documents((tmp_path / "a.txt",), separator="%%").pieces("test")]
    assert found == expected
    assert max(len(piece) for piece, _ in found) <= 100
    assert [ends for _, ends in found].count(True) == 3
    assert pieces(tmp_path / "a.txt", separator="%%") == [text, text, "short"]
    if " " in text:
        assert all(ends or after[0].isspace() for (_, ends), (after, _) in itertools.pairwise(found))


def test_a_long_document_has_the_tokens_of_its_whole_and_counts_as_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "PIECE", 100)
    monkeypatch.setattr(documents_module, "LONG", 1000)
    corpus = built(tmp_path, [LONG], "bpe")
    parts = [whole(corpus.tokens(split)) for split in SPLITS]
    np.testing.assert_array_equal(np.concatenate(parts), corpus.tokenizer.encode(LONG + "\n"))
    documents = np.fromfile(corpus.folder / DOCUMENTS, "<i8").reshape(-1, 2)[:, 1]
    assert all(1000 <= length <= 1100 for length in np.diff(documents, prepend=0)[:-1])


def test_a_tokenizer_is_trained_on_nothing_that_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = jsonl(tmp_path / "a.jsonl", TEXTS)
    documents = Documents((source,), held_out=0.4)
    given = list(documents.training_texts())
    assert given == TEXTS[: len(given)]
    assert 0.5 < sum(map(len, given)) / sum(map(len, TEXTS)) <= 0.6
    monkeypatch.setattr(documents_module, "SAMPLE", 500)
    sample = list(documents.training_texts())
    assert 500 <= sum(map(len, sample)) < 600
    assert given.index(sample[-1]) > 0.8 * len(given) and set(sample) < set(given)


@pytest.mark.parametrize(
    "sizes", [[50, 50, 50], [400, 4, 4, 4], [4, 4, 4, 400], [90, 90, 90, 90, 90], [1] * 90 + [90] * 3, [9, 9, 5000]]
)
def test_a_tokenizer_is_trained_on_no_document_that_another_split_has(
    sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "PIECE", 100)
    monkeypatch.setattr(documents_module, "LONG", 1000)
    corpus = built(tmp_path, [chr(ord("a") + i % 26) * n for i, n in enumerate(sizes)], validation=0.2, test=0.2)
    documents = Documents((tmp_path / "a.jsonl",), held_out=0.4)
    train = split_texts(corpus)["train"].replace("\n", "")
    given = "".join(documents.training_texts())
    assert given and train.startswith(given)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_tokens_of_several_files_are_those_of_one(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder, row = tmp_path_factory.mktemp("row"), np.arange(sum(sizes)).astype("<u2")
    for number, part in enumerate(np.split(row, np.cumsum(sizes)[:-1])):
        part.tofile(folder / str(number))
    files = tuple(folder / str(number) for number in range(len(sizes)))
    start = data.draw(st.integers(0, len(row) - 1))
    stop = data.draw(st.integers(start + 1, len(row)))
    tokens = ShardedTokens(files, np.cumsum(sizes), row.dtype, start, stop)
    assert len(tokens) == stop - start
    index = np.array(data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=12)), np.int64)
    np.testing.assert_array_equal(tokens[index], row[start:stop][index])
    assert tokens[index].dtype == row.dtype
    for outside in (-1, len(tokens)):
        with pytest.raises(IndexError, match="outside"):
            tokens[np.array([0, outside])]
    length = data.draw(st.integers(1, len(tokens)))
    ours, theirs = (Windows(t, length, seed=4).batch(3, 7).tokens for t in (tokens, row[start:stop]))
    np.testing.assert_array_equal(ours, theirs)
    for a, b in zip(evaluation_windows(tokens, length), evaluation_windows(row[start:stop], length), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tokens_beyond_two_to_the_31_are_found_and_a_copy_for_another_process_is_small(tmp_path: Path) -> None:
    size, file = (1 << 31) + 4096, tmp_path / "tokens"
    with file.open("wb") as sparse:
        sparse.truncate(size)
        sparse.seek(size - 3)
        sparse.write(b"\x05\x06\x07")
    tokens = ShardedTokens((file, file), np.array([size, 2 * size]), np.dtype("|u1"), 10, 2 * size)
    places = np.array([[size - 3, size - 1], [2 * size - 2, size]]) - 10
    np.testing.assert_array_equal(tokens[places], [[5, 7], [6, 0]])
    copy = pickle.dumps(tokens)
    assert len(copy) < 2000
    np.testing.assert_array_equal(pickle.loads(copy)[places], [[5, 7], [6, 0]])
    assert Windows(tokens, 1 << 20, seed=0).batch(4000, 2).tokens.shape == (2, 1 << 20)


def message_of(error: type[Exception], *arguments: Any, **options: Any) -> str:
    with pytest.raises(error) as raised:
        build_shards(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            b'{"text": "a"}\n\n{"text": \n',
            (
                "a.jsonl, line 3 is not JSON (Expecting value: "
                "line 2 column 1 (char 10)); each line must be "
                "one JSON object"
            ),
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"body": "b"}\n',
            "line 2 has no text under 'text' (it has: body); name the key by --column",
        ),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', "line 2 has no text under 'text' (it is no JSON object)"),
        ("a.jsonl", b'{"text": 3}\n', "line 1 has no text under 'text'"),
        ("a.jsonl", b'{"text": "\xff"}\n', ("line 1 is not UTF-8 (byte 11 of the line); save it as UTF-8")),
        ("a.jsonl", b'{"text": "' + b"\\ud800" + b'"}\n', "line 1: character '\\ud800'"),
        ("a.txt", b"\xef\xbb\xbfabc\xffd", "a.txt is not UTF-8 (byte 0xff at offset 6)"),
        ("a.txt", b"a" * 37 + b"\xc3", "a.txt is not UTF-8 (byte 0xc3 at offset 37)"),
        ("a.txt.gz", b"no gzip", "a.txt.gz: Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"abc" * 99, mtime=0)[:-9], "a.txt.gz: "),
        (
            "a.parquet",
            b"PAR1 no PAR1",
            (
                "a.parquet cannot be read as Parquet (Parquet file size is 12 "
                "bytes, smaller than the size reported by footer's "
                "(544173600bytes)); get it again"
            ),
        ),
        ("a.txt", b"one document", "hold 1 document, and three splits need at least 3"),
        (
            "a.txt",
            b" \n ",
            (
                "the sources hold 0 documents, and three splits need at least 3: name "
                "more files, or say what ends a document in a text file (--separator "
                "'\\n\\n': a blank line)"
            ),
        ),
    ],
)
def test_bad_sources_are_one_line_and_leave_nothing(
    name: str, content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(documents_module, "BLOCK", 4)
    (tmp_path / name).write_bytes(content)
    said_now = message_of(CorpusError, [str(tmp_path / name)], tmp_path / "out", TokenizerSettings("byte"))
    assert said in said_now
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_other_bad_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    byte, out = TokenizerSettings("byte"), tmp_path / "out"
    source = str(jsonl(tmp_path / "a.jsonl", TEXTS))
    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2]}), tmp_path / "a.parquet")
    table = str(tmp_path / "a.parquet")
    assert ", row 2 has no text under 'text'; remove the row" in message_of(CorpusError, [table], out, byte)
    assert "has no column of text 'n' (it has: text, n); name it by --column" in message_of(
        CorpusError, [table], out, byte, column="n"
    )
    assert "no column of text 'x'" in message_of(CorpusError, [table], out, byte, column="x")
    said = message_of(CorpusError, [source], out, TokenizerSettings("ascii"), workers=1)
    assert "a.jsonl, line 1: character 'ï' (U+00EF) at offset 14" in said
    assert "no such file or folder" in message_of(CorpusError, [str(tmp_path / "none")], out, byte)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "is no file but a pipe or a device, and it is read more than once; give a file" in message_of(
            CorpusError, [str(tmp_path / "pipe")], out, byte
        )
    assert "cannot hold \\r" in message_of(ConfigError, [source], out, byte, separator="\r\n")
    assert "must be positive" in message_of(ConfigError, [source], out, byte, validation=0.0)
    assert "below 1 together" in message_of(ConfigError, [source], out, byte, validation=0.5, test=0.5)
    assert "a shard takes at least 1" in message_of(ConfigError, [source], out, byte, shard_tokens=0)
    assert "--workers must lie in 0..4096, not -1" in message_of(ConfigError, [source], out, byte, workers=-1)
    monkeypatch.setattr(documents_module, "LONGEST_LINE", 30)
    assert "line 1 is longer than 0 MiB; make several documents of it" in message_of(CorpusError, [source], out, byte)
    assert not out.exists() and not (tmp_path / "out.part").exists()
    out.mkdir()
    assert "exists already" in message_of(CorpusError, [source], out, byte)
    (tmp_path / "new.part").mkdir()
    assert "another build is writing there" in message_of(CorpusError, [source], tmp_path / "new", byte)
    assert (tmp_path / "new.part").is_dir()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_build_that_breaks_off_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tzd.corpus.shard_writer.HashedFile.write", fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else TzdError
    with pytest.raises(expected) as raised:
        built(tmp_path)
    if expected is TzdError:
        assert "No space left on device; make room" in str(raised.value)
        assert not isinstance(raised.value, CorpusError)
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_damage_is_found(tmp_path: Path) -> None:
    corpus = built(tmp_path, kind="char")
    for file in (corpus.folder / "tokens-00001.bin", corpus.folder / DOCUMENTS):
        flip(file, 40)
        with pytest.raises(CorpusError, match=f"{file.name} is damaged"):
            open_shards(corpus.folder).check()  # opening looks at sizes alone
        flip(file, 40)
    open_shards(corpus.folder).check()
    tokens = corpus.folder / "tokens-00000.bin"
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-1])
    with pytest.raises(CorpusError, match=("has 302 bytes, not 303; copy the folder again, or build it again")):
        open_shards(corpus.folder)
    tokens.unlink()
    with pytest.raises(CorpusError, match=r"tokens-00000\.bin is missing"):
        open_shards(corpus.folder)
    tokens.write_bytes(content)
    named = corpus.folder / "tokenizer.json"
    named.write_text(named.read_text().replace("D", "Q"))
    with pytest.raises(CorpusError, match=("is not the tokenizer that these shards were made with; copy it again")):
        open_shards(corpus.folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "another version of tzd"),
        ({"dtype": "|O"}, "unknown type"),
        ({"shards": []}, "do not hold as many tokens"),
        ({"sha256": "0"}, "is damaged: its sha256 is not that of what it says; copy the folder again"),
        ({"documents_sha256": "0"}, "is damaged"),
        ({"more": 1}, "unknown setting 'more'"),
        ({"dtype": 3}, "dtype cannot be 3"),
        ({"splits": {"train": {"tokens": -1, "documents": 1, "characters": 1}}}, "cannot be used"),
    ],
)
def test_an_index_that_was_changed_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = built(tmp_path).folder / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorpusError, match=said) as raised:
        open_shards(path.parent)
    assert str(path) in str(raised.value)


def test_an_index_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    path = built(tmp_path).folder / INDEX
    index = json.loads(path.read_text())
    index["shards"][0]["file"] = "../../etc/passwd"
    path.write_text(json.dumps(index))
    with pytest.raises(
        CorpusError,
        match=(
            "cannot be used: its shards are not named and filled as "
            "they should be; copy the folder again, or build it again"
        ),
    ):
        open_shards(path.parent)


def test_the_commands_build_show_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "a.txt", tmp_path / "out"
    source.write_text("\n\n".join(TEXTS))
    build = ["corpus", "build", str(source), "--out", str(out), "--tokenizer", "char"]
    assert main([*build, "--separator", r"\n\n", "--workers", "0", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["corpus", "show", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made
    assert sum(split["documents"] for split in made["splits"].values()) == len(TEXTS)
    assert made["sources"][0]["name"] == "a.txt"
    assert main(["corpus", "check", str(out)]) == 0
    assert "is whole" in capsys.readouterr().out
    assert main(["corpus", "show", str(out)]) == 0
    assert "1 shard from 1 file, tokenized by char" in capsys.readouterr().out
    for arguments, said in (
        (build, "exists already; choose another --out"),
        ([*build[:-1], "bpe", "--out", str(tmp_path / "b")], "--tokenizer bpe needs --vocab-size"),
        (["corpus", "check", str(tmp_path)], "holds no index.json"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


def shards_config(folder: Path, corpus: ShardedCorpus, **changes: Any) -> Any:
    values = {"data.name": "shards", "data.path": str(corpus.folder), "tokenizer.name": "corpus", **changes}
    return runs.config_in(folder, values)


def test_training_reads_the_shards_and_counts_their_characters(tmp_path: Path) -> None:
    corpus = built(tmp_path, kind="bpe")
    task = make_task(shards_config(tmp_path, corpus))
    assert (task.data.sha256, task.data.name) == (corpus.index.sha256, corpus.folder.name)
    expected = Windows(whole(corpus.tokens("train")), 24, 1337).batch(8, 8).tokens
    np.testing.assert_array_equal(task.data.examples.batch(8, 8).tokens, expected)
    texts = split_texts(corpus)
    assert task.data.characters_per_token == len(texts["validation"]) / len(corpus.tokens("validation"))
    assert task.data.test_characters_per_token == len(texts["test"]) / len(corpus.tokens("test"))


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"name": "corpus"}, True),
        ({"name": "bpe", "vocab_size": 300}, True),
        ({"name": "bpe", "vocab_size": 299}, False),
        ({"name": "char"}, False),
    ],
)
def test_another_tokenizer_than_that_of_the_shards_is_refused(
    settings: dict[str, Any], fits: bool, tmp_path: Path
) -> None:
    corpus = built(tmp_path, kind="bpe")
    config = shards_config(tmp_path, corpus, **{f"tokenizer.{key}": value for key, value in settings.items()})
    if fits:
        assert make_task(config).tokenizer.vocab_size == 300
    else:
        with pytest.raises(ConfigError, match="was tokenized by bpe with 300 tokens"):
            make_task(config)


def test_only_shards_have_a_tokenizer_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer=corpus is that of data=shards"):
        make_task(runs.config_in(tmp_path, {"tokenizer.name": "corpus"}))
    assert open_corpus("text", path=tmp_path / "text.txt").alphabet() == set(runs.TEXT)


MEASURE = """
import re, sys
from pathlib import Path
from tzd.config import TokenizerSettings
from tzd.corpus.build import build_shards
def peak():  # MiB; the one of getrusage is never below that of the process which began this one
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
import tqdm
before = peak()
build_shards([sys.argv[1]], sys.argv[2], TokenizerSettings("char"), separator=sys.argv[3])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.parametrize("separator", ["\n", "never in the text"])
def test_64_megabytes_are_built_within_64_more_of_memory(separator: str, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    line = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 50 + "\n"
    with source.open("w") as file:
        for _ in range(64):
            file.write(line * ((1 << 20) // len(line)))
    command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "out"), separator]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert 0 < float(out) < 64
    assert sum(file.stat().st_size for file in (tmp_path / "out").glob("tokens-*")) > 60 << 20
