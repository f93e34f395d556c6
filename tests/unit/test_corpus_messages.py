"""What is said of a text, a tokenizer or a corpus that cannot be used, word by word."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refusals import told
from runs import config_in
from tzd.config import DataSettings, TokenizerSettings
from tzd.corpus import Corpus, chat, files, parallel, shards
from tzd.corpus.build import _under_construction, build_shards
from tzd.corpus.chat import ChatTemplate, load_pairs
from tzd.corpus.conversations import read_lines
from tzd.corpus.documents import Piece, _opened
from tzd.corpus.files import Lookup, PublishedFile
from tzd.corpus.hub_datasets import load_splits
from tzd.corpus.stream import Stream
from tzd.corpus.tokenizer import load_tokenizer, make_tokenizer
from tzd.corpus.tokenizers import hf
from tzd.corpus.tokenizers._library import _no_panic
from tzd.errors import CheckpointError, MissingExtraError, TzdError
from tzd.training.data import open_data

ABC = Corpus.from_text("text", "abc" * 100)
BYTES = make_tokenizer(TokenizerSettings("byte"), ABC)
FILE = PublishedFile("play.txt", "https://example.org/play.txt", "0123456789abcdef" * 4)


def raising(error: BaseException) -> Callable[..., Any]:
    """What does nothing but fail in that way."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def opened(**changes: Any) -> str:
    """What is said of the data of a small run with changes to its settings."""
    return told(lambda: open_data(config_in(Path("run"), {k.replace("__", "."): v for k, v in changes.items()})))


def test_a_chat_template_that_cannot_be_used_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"role": "user", "content": "a"}]
    assert told(lambda: ChatTemplate("{{ raise_exception('no user') }}", {}).render(said)) == (
        "the tokenizer's chat template cannot write this conversation (no user): change the messages, or do without"
        " (data.chat_template=false)"
    )
    assert told(lambda: ChatTemplate("{% if %}", {}).render(said)) == (
        "the tokenizer's chat template is no Jinja (Expected an expression, got 'end of statement block'): set"
        " data.chat_template=false"
    )
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert told(lambda: ChatTemplate("", {}).render(said)) == str(
        MissingExtraError("a tokenizer's chat template", "hf")
    )


def test_a_tokenizer_of_pairs_that_is_not_what_lies_beside_it_is_told_word_by_word() -> None:
    pairs = chat.PairTokenizer(BYTES)
    said = {**pairs.describe(), "eos_id": 3}
    assert told(lambda: load_pairs(said, Path("c"))) == (
        f"c describes its tokenizer as {said}, but it is {pairs.describe()}; the files beside it are those of another"
        " one: take all from one place"
    )
    put("c/chat_template.jinja", b"\xff")
    assert told(lambda: load_pairs({**said, "chat_template": "0"}, Path("c"))) == (
        "c/chat_template.jinja cannot be read ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte);"
        " get the checkpoint again"
    )


def test_a_tokenizer_that_is_not_the_file_beside_it_is_told_word_by_word() -> None:
    said = {**BYTES.describe(), "code": "x"}
    assert told(lambda: load_tokenizer(said, Path("c"))) == (
        f"c describes its tokenizer as {said}, but it is {BYTES.describe()}; the file beside it is that of another one:"
        " take both from one place"
    )
    put("c/tokenizer.json", "[]")
    reason = told(lambda: load_tokenizer({"kind": "char", "vocab_size": 2}, Path("c")))
    assert reason == (
        "c/tokenizer.json is damaged: it does not list the characters of a 'char' tokenizer, each once; take the"
        " checkpoint from where it came again"
    )


def test_a_hub_tokenizer_that_cannot_be_read_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    put("t/tokenizer_config.json", "[]")
    assert told(lambda: hf.special_tokens(Path("t"))) == (
        "t/tokenizer_config.json is damaged: it is no JSON object; get the file again"
    )
    put("t/tokenizer_config.json", "{}")
    put("t/vocab.txt", "a")
    maker = SimpleNamespace(from_pretrained=raising(OSError("no such kind")))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=maker))
    monkeypatch.setattr(hf, "quietly", nullcontext)
    assert told(lambda: hf._converted(Path("t"))) == (
        "the transformers library makes no tokenizer.json of what lies in t (no such kind); put one there"
    )


def test_a_tokenizer_that_gives_up_is_told_word_by_word() -> None:
    panic = type("PanicException", (BaseException,), {})

    def give_up() -> None:
        with _no_panic():
            raise panic("stack overflow")

    assert told(give_up) == "the tokenizer gives up at this text (stack overflow); change the text, or its rules"


def test_files_that_cannot_be_read_are_told_word_by_word() -> None:
    line = put("pairs.jsonl", '{"prompt":')
    assert told(lambda: read_lines(line, DataSettings())).startswith("pairs.jsonl, line 1 is no JSON (")
    assert told(lambda: read_lines(line, DataSettings())) == (
        "pairs.jsonl, line 1 is no JSON (Expecting value: line 1 column 11 (char 10)); a line holds one object, {...}"
    )

    def open_none() -> None:
        with _opened(Path("none.txt")):
            pass

    assert told(open_none) == (
        "cannot read none.txt: No such file or directory; a whole file that you may read is needed"
    )


def test_a_published_file_that_is_another_one_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    put("play.txt", "another")
    assert told(lambda: Lookup("play.txt", None).published(FILE)) == (
        "play.txt is not the published play.txt: its sha256 is ae448ac86c4e…, not 0123456789ab…; remove it, or open it"
        " as a text of your own (data.name=text data.path=…)"
    )
    other = SimpleNamespace(retrieve=raising(ValueError("another hash")), HTTPDownloader=dict)
    other.get_logger = lambda: SimpleNamespace(setLevel=lambda level: None)
    monkeypatch.setitem(sys.modules, "pooch", other)
    assert told(lambda: files._download(FILE, False)) == (
        "https://example.org/play.txt does not have the expected sha256 0123456789ab… and was not kept; put play.txt"
        " into ./data or the folder that TZD_DATA_DIR names"
    )


def test_a_dataset_without_a_split_to_train_on_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(config=SimpleNamespace(), load_dataset=lambda *args, **options: {"test": [], "dev": []})
    monkeypatch.setitem(sys.modules, "datasets", library)
    assert told(lambda: load_splits(DataSettings(dataset="owner/name"), streaming=False, progress=True)) == (
        "data.dataset=owner/name has no split 'train', only test, dev: give one that has"
    )


class Unpacked(Piece):
    """Has the worker that it comes to do something."""

    def __reduce__(self) -> Any:
        return (os._exit, (1,)) if self.ends else (time.sleep, (300,))


def test_a_worker_that_dies_ends_the_others_which_hear_no_signal() -> None:
    batches = [[Unpacked("", False, "works on")], [Unpacked("", True, "dies")], [Piece("a", True, "waits")]]
    with pytest.raises(TzdError, match="a process that tokenized was killed"):
        list(parallel.pack_all(BYTES, batches, workers=2))
    assert not multiprocessing.active_children()


def test_a_build_that_fails_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk() -> None:
        with _under_construction(Path("out"), lambda: 0):
            raise OSError(28, "No space left on device")

    assert told(fill_the_disk) == (
        "cannot write out: No space left on device; make room for it, or choose another --out"
    )
    monkeypatch.setattr(parallel.ProcessPoolExecutor, "submit", raising(BrokenProcessPool()))
    assert told(lambda: list(parallel.pack_all(BYTES, [[]], workers=1))) == (
        "a process that tokenized was killed (out of memory?); try fewer --workers"
    )


def test_shards_that_cannot_be_used_are_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    build_shards([str(put("a.txt", "a word\n" * 40))], Path("out"), TokenizerSettings("byte"), separator="\n")
    corpus = shards.open_shards("out")
    assert told(lambda: corpus.check_tokenizer(TokenizerSettings("ascii"))) == (
        "out was tokenized by byte with 256 tokens, not by the tokenizer given: leave it out (tokenizer=corpus), or"
        " build shards with that one"
    )
    shard = corpus.files[0]
    shard.write_bytes(bytes(shard.stat().st_size))
    assert told(corpus.check) == (
        f"{shard} is damaged: its sha256 is not the index's; copy it again, or build it again"
    )
    monkeypatch.setattr(shards, "load_tokenizer", raising(CheckpointError("out is damaged")))
    assert told(lambda: shards.open_shards("out")) == "the tokenizer of out cannot be loaded: out is damaged"


def test_a_stream_that_ends_is_told_word_by_word() -> None:
    def torn() -> Any:
        yield {"text": "a"}
        raise OSError("connection reset")

    stream = Stream.__new__(Stream)
    object.__setattr__(stream, "name", "made-up")
    assert told(lambda: list(stream._rows(torn()))) == (
        "the stream of made-up broke off (connection reset); go on with training.resume=true"
    )
    object.__setattr__(stream, "pieces", lambda split: [])
    assert told(lambda: stream.held_out("test", lambda pieces: pieces)) == (
        "made-up has no document for test; hold out fewer (data.held_out_documents)"
    )


def test_data_that_does_not_fit_the_run_is_told_word_by_word() -> None:
    assert opened(data__name="shards", data__path=None, tokenizer__name="corpus") == (
        "data=shards needs data.path=FOLDER, which tzd corpus build makes"
    )
    assert opened(data__name="stream", data__num_workers=2) == ("a stream has one end: set data.num_workers to 1 or 0")
    short = str(put("short.txt", "abcdefghij" * 30))
    assert opened(data__path=short, objective__context_len=20) == (
        "the validation split has 15 tokens, and the first 20 of a window are never scored: it takes at least 21; use a"
        " longer text (data.path)"
    )
    assert opened(data__name="pairs", objective__context_len=2) == (
        "objective.context_len=2 is for texts; what data=pairs never masks are the prompts"
    )
    pairs = str(put("pairs.jsonl", "".join(json.dumps({"prompt": "ab", "answer": "c" * 30}) + "\n" for _ in range(40))))
    assert opened(data__name="pairs", data__path=pairs, data__too_long="drop", tokenizer__name="byte") == (
        "no pair is left to train or to validate on: raise data.block_size=24"
    )
    assert opened(data__name="pairs", data__path=pairs, data__chat_template=True, tokenizer__name="byte") == (
        "data.chat_template=true, but the tokenizer 'byte' has none"
    )
