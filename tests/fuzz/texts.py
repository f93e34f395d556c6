"""The readers of texts, tokens, numbers and pictures: everything in a file but weights."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tempfile
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tzd
from fuzz import formats
from fuzz.mutators import Files
from fuzz.reader import Reader, files_in
from tzd.checkpoint.layout import to_json
from tzd.config import DataSettings, RunConfig, TokenizerSettings
from tzd.corpus import Corpus, load_tokenizer, open_corpus
from tzd.corpus.build import build_shards
from tzd.corpus.chat import ChatTemplate, PairTokenizer, read_template, user_says
from tzd.corpus.conversations import open_pairs
from tzd.corpus.documents import Documents, find_documents
from tzd.corpus.shards import open_shards
from tzd.corpus.tokenizer import make_tokenizer
from tzd.corpus.tokenizers.hf import read_folder, special_tokens
from tzd.corpus.tokens import token_array
from tzd.evaluation.measured import Measured
from tzd.hub import hub_model
from tzd.loggers.csv import CsvLogger
from tzd.sampling.pattern_files import read_pattern
from tzd.training.records import COLUMNS, Written, read_metrics
from tzd.viewers.panel import Panel
from tzd.viewers.plot import find_runs
from tzd.viewers.trace import is_trace, read_trace

TEXT = "Now is the winter of our discontent\nmade glorious summer by this sun of York; naïve cafés.\n" * 8
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if loop.index0 > 9 %}"
    "{{ raise_exception('too long') }}{% endif %}<|{{ message['role'] }}|>{{ message['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|a|>{% endif %}"
)


# --- tokenizers -------------------------------------------------------------------------------------------------


def _described(tokenizer: Any) -> Files:
    return {"description.json": to_json(tokenizer.describe()), **tokenizer.files()}


def _tokenizers() -> Mapping[str, Files]:
    corpus = Corpus.from_text("text", TEXT, "")
    bpe = make_tokenizer(TokenizerSettings("bpe", 300), corpus)
    char = make_tokenizer(TokenizerSettings("char"), corpus)
    return {"char": _described(char), "bpe": _described(bpe), "pairs": _described(PairTokenizer(bpe))}


def _load_tokenizer(folder: Path) -> None:
    file = folder / "description.json"
    try:
        description = json.loads(file.read_bytes() if file.is_file() else b"")
    except (ValueError, RecursionError):
        description = {"kind": "char", "vocab_size": 40}  # a checkpoint's reader has seen to that
    if not isinstance(description, dict):
        description = {"kind": description}
    tokenizer = load_tokenizer(description, folder)
    _use(tokenizer)


def _use(tokenizer: Any) -> None:
    with contextlib.suppress(tzd.errors.CorpusError):
        tokenizer.decode(tokenizer.encode("the winter of\n"))
    Panel.of(tokenizer)


def _texts() -> Mapping[str, Files]:
    plain = TEXT.replace("ï", "i").replace("é", "e").encode()  # which all of them can hold
    return {"long": {"text.txt": plain[:300]}, "short": {"text.txt": plain[:3]}}


@cache
def _every_tokenizer() -> list[Any]:
    import hub_folders

    corpus = Corpus.from_text("text", TEXT, "")
    kinds = [
        TokenizerSettings("char"),
        TokenizerSettings("ascii"),
        TokenizerSettings("byte"),
        TokenizerSettings("bpe", 300),
    ]
    made: list[Any] = [make_tokenizer(kind, corpus) for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        made.append(read_folder(hub_folders.llama_folder(Path(folder, "llama"))))
    return [*made, PairTokenizer(made[-1], ChatTemplate(TEMPLATE, {"bos_token": "<s>"}))]


def _read_text(folder: Path) -> None:
    """A prompt or an answer, whatever it holds, by every kind of tokenizer."""
    file = folder / "text.txt"
    content = file.read_bytes()[:5000] if file.is_file() else b""
    text = content.decode("utf-8", "surrogateescape" if len(content) % 2 else "replace")
    refused: list[tzd.errors.CorpusError] = []
    for tokenizer in _every_tokenizer():
        try:
            pairs = isinstance(tokenizer, PairTokenizer)
            tokens = tokenizer.prompt(user_says(text)) if pairs else tokenizer.encode(text)
            tokenizer.decode(tokens)
            tokenizer.pieces(tokens)
        except tzd.errors.CorpusError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _corpora() -> Mapping[str, Files]:
    return {
        "texts": {
            "a.txt": TEXT.encode(),
            "b.md": b"\xef\xbb\xbf# Title\r\n\r\nText.\n",
            "sub/c.txt": TEXT[:99].encode(),
        }
    }


def _open_corpus(folder: Path) -> None:
    corpus = open_corpus("text", path=folder)
    tokenizer = make_tokenizer(TokenizerSettings("char"), corpus)
    for split in ("train", "validation", "test"):
        token_array(corpus, tokenizer, split)


def _hub_tokenizers() -> Mapping[str, Files]:
    import hub_folders

    with tempfile.TemporaryDirectory() as folder:
        made = {
            "llama": files_in(hub_folders.llama_folder(Path(folder, "llama"))),
            "bert": files_in(hub_folders.bert_folder(Path(folder, "bert"))),
        }
    for files in made.values():
        files["config.json"] = b'{"model_type": "llama", "auto_map": {"AutoModel": "os.system"}}'
    return made


def _read_hub_tokenizer(folder: Path) -> None:
    hub_model(folder)
    special_tokens(folder)
    _use(read_folder(folder))


def _templates() -> Mapping[str, Files]:
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": TEMPLATE}
    return {
        "file": {"chat_template.jinja": TEMPLATE.encode(), "tokenizer_config.json": json.dumps(config).encode()},
        "config": {"tokenizer_config.json": json.dumps(config).encode()},
    }


def _render(folder: Path) -> None:
    template = read_template(folder)
    if template is not None:
        template.render(user_says("Hello"))


# --- corpora ----------------------------------------------------------------------------------------------------


def _shards() -> Mapping[str, Files]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "a.jsonl")
        source.write_text("".join(json.dumps({"text": f"Document {i} of many."}) + "\n" for i in range(40)))
        build_shards([str(source)], Path(folder, "byte"), TokenizerSettings("byte"), shard_tokens=300)
        build_shards([str(source)], Path(folder, "char"), TokenizerSettings("char"), shard_tokens=300)
        return {kind: files_in(Path(folder, kind)) for kind in ("byte", "char")}


def _resign(files: Files) -> Files:
    """An index whose digest is that of what it says."""
    import hashlib

    content = files.get("index.json")
    try:
        values = json.loads(content) if isinstance(content, bytes) else None
        rest = {key: value for key, value in values.items() if key not in ("sha256", "sources")}
        values["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
        return {**files, "index.json": json.dumps(values).encode()}
    except (AttributeError, ValueError, TypeError, RecursionError):
        return files


def _read_shards(folder: Path) -> None:
    corpus = open_shards(folder)
    corpus.check()
    tokens = corpus.tokens("validation")
    tokens[np.arange(min(len(tokens), 1000))]


def _pairs() -> Mapping[str, Files]:
    plain = "".join(json.dumps({"prompt": f"{i} + {i}?", "answer": str(2 * i)}) + "\n" for i in range(8))
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
    talk = "".join(json.dumps({"messages": said * i}) + "\n" for i in range(1, 6))
    return {"plain": {"pairs.jsonl": plain.encode()}, "talk": {"pairs.jsonl": talk.encode()}}


def _read_pairs(folder: Path) -> None:
    pairs = open_pairs(DataSettings(name="pairs", path=str(folder / "pairs.jsonl")))
    pairs.alphabet()
    sum(map(len, pairs.training_texts()))


def _documents() -> Mapping[str, Files]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = "".join(json.dumps({"text": f"Document {i} of many.", "n": i}) + "\n" for i in range(20)).encode()
    parquet = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(20)]}), parquet)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(lines)
    packed = sink.getvalue().to_pybytes()
    contents = {
        "a.txt": TEXT.encode(),
        "a.jsonl": lines,
        "b.jsonl.gz": gzip.compress(lines, mtime=0),
        "c.txt.gz": gzip.compress(bytes(1 << 20), mtime=0),
        "d.parquet": parquet.getvalue(),
        "e.jsonl.zst": packed,
    }
    return {name: {name: content} for name, content in contents.items()}


def _read_documents(folder: Path) -> None:
    documents = Documents(find_documents([str(folder)]))
    sum(len(piece.text) for piece in documents.pieces("reading"))


# --- what runs leave --------------------------------------------------------------------------------------------


def _metrics() -> Mapping[str, Files]:
    rows = [
        ",".join(COLUMNS),
        *(f"{step},0.5,{100 * step},{step / 7},2.5,1e-3,0.1,900" + "," * 6 for step in range(1, 9)),
    ]
    samples = b"=== step 3, sample 1 of 1, temperature 1.0 ===\n    text\n\n" * 3
    return {"run": {"metrics.csv": "\n".join([*rows, ""]).encode(), "samples.txt": samples}}


def _read_metrics(folder: Path) -> None:
    find_runs(folder)
    read_metrics(folder)
    CsvLogger(folder, 5).close()


def _events() -> Mapping[str, Files]:
    with tempfile.TemporaryDirectory() as folder:
        logger = _board(Path(folder))
        for step in (1, 2, 9):
            logger.log({"step": step, "loss": 1 / step})
            logger.log_samples(step, [Written(0.7, "text")])
        return {"events": files_in(Path(folder))}


def _board(folder: Path, resume_step: int | None = None) -> Any:
    from tzd.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(RunConfig(), folder, resume_step)


def _points() -> Mapping[str, Files]:
    row = {"sampler": "dilated", "variant": "dilated", "label": "dilated steps=8", "nfe": 8.0, "settings": {"steps": 8}}
    point = {"conditions": {"model": "m", "samples": 4}, "row": row}
    return {"points": {"points/dilated,steps=8.json": json.dumps(point).encode()}}


def _read_points(folder: Path) -> None:
    measured = Measured(folder, {"model": "m", "samples": 4}, columns=("sampler", "variant", "nfe"))
    measured.find("dilated steps=8")
    sorted(measured.rows(), key=lambda row: (row["sampler"], row["variant"], row["nfe"]))


def _traces() -> Mapping[str, Files]:
    model = tzd.from_function(lambda tokens: np.ones((*tokens.shape, 5)), vocab_size=5, seq_len=8)
    from tzd.viewers.film import Film
    from tzd.viewers.trace import Trace

    frames = Film.of(tzd.stream(model, length=8, steps=4, sampler="ancestral", batch_size=2))
    with tempfile.TemporaryDirectory() as folder:
        Trace(Panel("a run", list("abcde")), frames, {"seed": 0}).save(Path(folder, "run.npz"))
        return {"trace": files_in(Path(folder))}


def _replay(folder: Path) -> None:
    is_trace(folder / "run.npz")
    trace = read_trace(folder / "run.npz")
    deque(zip(trace.frames, range(20), strict=False), maxlen=1)
    frame = next(iter(trace.frames))
    trace.panel.glyphs[trace.panel.cells(frame)]
    trace.panel.status(frame)


def _patterns() -> Mapping[str, Files]:
    rle = b"#N Glider\nx = 3, y = 3, rule = B3/S23\nbo$2bo$3o!\n"
    return {"rle": {"glider.rle": rle}, "cells": {"glider.cells": b"!Name: Glider\n.O.\n..O\nOOO\n"}}


def _read_pattern(folder: Path) -> None:
    cells = read_pattern(
        next(
            (folder / name for name in ("glider.rle", "glider.cells") if (folder / name).exists()),
            folder / "glider.rle",
        )
    )
    assert cells.dtype == bool and cells.any(axis=None) in (True, False)


READERS = (
    Reader("tokenizer.json", _tokenizers, _load_tokenizer, 60, names=False),
    Reader("tokenizer of the hub", _hub_tokenizers, _read_hub_tokenizer, 40),
    Reader("chat template", _templates, _render, 30, names=False),
    Reader("prompts", _texts, _read_text, 10, names=False),
    Reader("corpus of texts", _corpora, _open_corpus, 30),
    Reader("shards", _shards, _read_shards, 50, repair=_resign),
    Reader("pairs (.jsonl)", _pairs, _read_pairs, 50),
    Reader("documents", _documents, _read_documents, 50),
    Reader("metrics.csv", _metrics, _read_metrics, 40),
    Reader("events (TensorBoard)", _events, lambda folder: _board(folder, 5), 10, heavy=True),
    Reader("points of samplers", _points, _read_points, 40),
    Reader("trace", _traces, _replay, 80, {".npz": formats.npz}),
    Reader("pattern (.rle, .cells)", _patterns, _read_pattern, 50),
)
