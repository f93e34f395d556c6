"""What is said of a checkpoint, a run's folder, a model of the hub or a picture that cannot be, word by word."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tzd
from refusals import told
from tzd import hub
from tzd.api import model as loading
from tzd.checkpoint import RunFolder
from tzd.checkpoint.layout import FORMAT, FORMAT_VERSION, signed
from tzd.checkpoint.read import _check_provenance, read_object
from tzd.checkpoint.single_file import _ours
from tzd.config import TokenizerSettings, hf, litgpt_library
from tzd.corpus import Corpus
from tzd.corpus.tokenizer import make_tokenizer
from tzd.viewers import plot, save
from tzd.viewers.frontier import frontier_figure
from tzd.viewers.html import player_html
from tzd.viewers.layout import Layout
from tzd.viewers.panel import Panel
from tzd.viewers.trace import _read_json, read_trace
from viewed import LETTERS, PANEL, denoising

HERE = Path("here.json")
SMDM = {"model_type": "smdm", "vocab_size": 9, "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 8}
TINY = {**SMDM, "model_type": "tiny"}
SECTIONS: dict[str, Any] = {"tokenizer": {}, "diffusion": {}, "provenance": {}}
SAID = {"format": FORMAT, "format_version": FORMAT_VERSION, **SECTIONS}
REAL = {"sampler": "real text", "judge_nats_per_char": None}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


CALLS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: tzd.convert("a", "b.npz", dtype="int8"),
        "cannot write b.npz as int8: a .npz file is float32; name a folder instead",
    ),
    (
        lambda: tzd.convert("a", "b.npz", sampling={"name": "llada"}),
        "a .npz file cannot say how it is sampled: name a folder instead, or leave out sampling",
    ),
    (
        lambda: tzd.load("hf:owner/name", precision="bf16"),
        "hf:owner/name computes in the precision of its own weights: leave out precision=bf16",
    ),
    (
        lambda: loading.read_sampling({"sampling": {}}, "c/config.json: sampling"),
        "c/config.json: sampling names no sampler: it is an object with a name and its settings",
    ),
    (
        lambda: _check_provenance({"provenance": 3}, HERE),
        "here.json is damaged: its section 'provenance' is none; get the checkpoint again",
    ),
    (
        lambda: _check_provenance({"provenance": {"run": {"engine": {"name": 3}}}}, HERE),
        "here.json is damaged: provenance.run.engine.name is no text; get the checkpoint again",
    ),
    (
        lambda: RunFolder.create("runs", "a/b"),
        "a run cannot be called 'a/b': its name is that of a folder, without / (logger.name)",
    ),
    (
        lambda: _ours(HERE, {**signed({**SAID, "model": TINY}), "model": {}}),
        "here.json is damaged: its sha256 is not that of what it says; get it again, or leave that out if you have"
        " changed it",
    ),
    (
        lambda: _ours(HERE, {**SAID, "model": SMDM}),
        "here.json describes a model of model_type=smdm, not the weights beside it: take both from one place",
    ),
    (
        lambda: hf.window({}, "m"),
        "m: config.json does not say how long a text it takes; give one of max_sequence_length,"
        " max_position_embeddings, n_positions there",
    ),
    (
        lambda: litgpt_library.sliding_window({"sliding_window_indices": 3}),
        "sliding_window_indices=3 must be a list or null",
    ),
    (lambda: read_trace("none.npz"), "there is no trace none.npz: give a file that --save-trace wrote"),
    (lambda: _read_json(Path("a.npz"), b"{"), "a.npz is a damaged trace: its json is none; get the file again"),
    (lambda: frontier_figure([REAL], "title"), "a picture of the frontier needs a judge (--judge)"),
    (
        lambda: player_html([PANEL], iter(())),
        "there is nothing to show: the run had been iterated over before, or never began",
    ),
    (
        lambda: Layout.of([Panel("", tuple(LETTERS), 2**20)], (next(denoising(8)),), 600),
        "this is too much for a picture: 120 lines of 12582960 pixels, and 16384 at most; show less",
    ),
    (
        lambda: plot._read([Path(f"{i}") for i in range(99)]),
        f"99 runs are too many for one picture: name {plot.MOST_RUNS} at most",
    ),
]


@pytest.mark.parametrize(("call", "line"), CALLS, ids=[line[:60] for _, line in CALLS])
def test_what_cannot_be_read_or_drawn_is_told_word_by_word(call: Callable[[], Any], line: str) -> None:
    assert told(call) == line


def test_a_file_that_is_another_one_is_told_word_by_word() -> None:
    HERE.write_text("[]")
    assert told(lambda: read_object(HERE)) == ("here.json is damaged: it is no JSON object; get the checkpoint again")
    np.savez("weights.npz", a=np.zeros(3))
    assert told(lambda: read_trace("weights.npz")) == ("weights.npz is no trace: give a file that --save-trace wrote")


def test_a_run_folder_that_cannot_be_used_is_told_word_by_word() -> None:
    run = RunFolder.create("runs", "a")
    (run.path / "last").write_text("step")
    assert told(lambda: run.resolve("last")) == (
        "runs/a/last is damaged: it should hold the name of a checkpoint, as step-00000123"
    )
    with run.lock():
        holder = (run.path / "lock").read_text().strip()
        assert told(run.lock().__enter__) == (
            f"runs/a is in use by {holder}: wait for it or stop it, or start a run of another name"
        )
    (run.path / "lock").unlink()
    (run.path / "lock").mkdir()
    assert told(run.lock().__enter__) == "runs/a/lock is no plain file: remove it"


def test_a_checkpoint_that_cannot_be_loaded_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    sections: dict[str, Any] = {**SECTIONS, "model": TINY, "tokenizer": {"kind": "byte"}}
    found = SimpleNamespace(folder=Path("c"), source=Path("c"), section=sections.get, config=sections, weights={})
    bytes_ = make_tokenizer(TokenizerSettings("byte"), Corpus.from_text("text", "abc" * 100))
    monkeypatch.setattr(loading, "read_any", lambda path: found)
    monkeypatch.setattr(loading, "load_tokenizer", lambda *args: bytes_)
    engine = SimpleNamespace(load_denoiser=lambda *args, **options: None)
    monkeypatch.setattr(loading, "engine_module", lambda *args: engine)
    assert told(lambda: tzd.load("c")) == ("c writes 9 tokens, and its tokenizer has 256: take both from one place")
    sections["provenance"] = {"module": "Own"}
    assert told(lambda: tzd.load("c")) == ("c was trained with a module of your own (Own): give denoiser=")


def test_an_architecture_of_litgpts_that_cannot_be_had_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {"sliding_window_size": 8, "odd": 1}
    monkeypatch.setattr(litgpt_library, "_defaults", lambda: {"odd": 0})
    monkeypatch.setattr(litgpt_library, "complete", lambda *args: said)
    assert told(lambda: litgpt_library.settings(said, 16, "m")) == (
        "m attends within 8 tokens, which is another model for windows of model.block_size=16, where all attend to all:"
        " set data.block_size to at most 8"
    )
    assert told(lambda: litgpt_library.settings(said, 8, "m")) == (
        "m says odd=1: no model of LitGPT's registry has it, and it cannot be had here"
    )


HUB = [
    (
        "GatedRepoError",
        "owner/name is only for those who have asked for access on the hub: do so, then 'hf auth login' here",
    ),
    ("RevisionNotFoundError", "owner/name has no revision 'v2' on the hub: give a branch, a tag or a commit"),
    (
        "RepositoryNotFoundError",
        "there is neither a folder owner/name nor a repository of that name on the hub (private ones need"
        " 'hf auth login')",
    ),
    ("OSError", "owner/name cannot be had from the hub (no way); try again, or give a local folder"),
]


@pytest.mark.parametrize(("kind", "line"), HUB)
def test_what_the_hub_does_not_give_is_told_word_by_word(kind: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name, _ in HUB[:3]] + ["HFValidationError", "LocalEntryNotFoundError"]
    errors = {name: type(name, (Exception,), {}) for name in names}

    def refuse(*args: Any, **options: Any) -> None:
        raise errors.get(kind, OSError)("no way")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=refuse))
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", SimpleNamespace(**errors))
    assert told(lambda: hub.repository("owner/name", files=["*"], revision="v2")) == line


def test_a_folder_that_may_not_be_written_to_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert told(lambda: save.check_folder(Path("a.gif"))) == (
        "cannot write a.gif: you may not write to .; choose another folder"
    )


def test_events_that_cannot_be_read_are_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tzd.loggers import tensorboard

    def refuse(file: str) -> None:
        raise ValueError("truncated")

    monkeypatch.setattr(tensorboard, "LegacyEventFileLoader", refuse)
    HERE.touch()
    assert told(lambda: tensorboard._events_until(3, HERE)) == (
        "here.json cannot be read: truncated; remove it, and what it shows is gone"
    )
