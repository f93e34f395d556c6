"""What a command says of what it cannot do with a model, a task or a file, word by word."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tzd
from refusals import told
from tzd.bench import corpus
from tzd.cli import bench_speed, eval_samples, eval_tasks, mlx_sample, mlx_training, serve, showing, writing
from tzd.config import TokenizerSettings
from tzd.corpus import Corpus
from tzd.corpus.chat import PairTokenizer
from tzd.corpus.tokenizer import make_tokenizer
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.web.asking import checked_text
from tzd.web.limits import Limits

SILENT = tzd.Model(FunctionDenoiser(lambda tokens: np.zeros((*tokens.shape, 3)), 3, 8))  # without a tokenizer
ANY: Any = SimpleNamespace()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_model_that_cannot_write_text_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "this model has no tokenizer, so that it cannot write text: put its tokenizer.json beside it"
    assert told(lambda: writing.write(SILENT, iter(()), quiet=True, as_json=False)) == line
    assert told(lambda: showing.panel_of(SILENT)) == line
    monkeypatch.setattr(writing, "load_model", lambda *args: SILENT)
    monkeypatch.setattr(serve, "find_spec", lambda name: ANY)
    server = SimpleNamespace(listen=lambda *args: nullcontext(), LOCAL=(), address=ANY, application=ANY, serve=ANY)
    monkeypatch.setitem(sys.modules, "tzd.web.server", server)
    args = Namespace(checkpoint="c", host="localhost", port=0, **vars(Limits()))
    assert told(lambda: serve.run(args)) == (
        "c has no tokenizer, so that it cannot write text: put its tokenizer.json beside it"
    )


def test_a_model_of_prompts_is_measured_on_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = PairTokenizer(make_tokenizer(TokenizerSettings("byte"), Corpus.from_text("text", "abc" * 100)))
    model = SimpleNamespace(way=lambda *args: ("top-k", {"k": 1}), tokenizer=pairs)
    monkeypatch.setattr(writing, "load_model", lambda *args: model)
    monkeypatch.setattr(writing, "settings", lambda args: {})
    args = Namespace(checkpoint="c", judge=None, sampler=None, samples=None, batch_size=None, length=None)
    assert told(lambda: eval_samples.run(args)) == (
        "--infill and --gen-ppl are for models of running text; this one answers prompts: use --data"
    )


def test_tasks_that_cannot_be_run_are_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = SimpleNamespace(match_tasks=lambda patterns: [], all_tasks=["arc_easy"])
    monkeypatch.setattr(eval_tasks, "_keep_to_oneself", lambda: None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", SimpleNamespace(TaskManager=lambda **options: manager))

    def fail(**options: Any) -> None:
        raise KeyError("answer")

    monkeypatch.setitem(sys.modules, "lm_eval", SimpleNamespace(simple_evaluate=fail))
    assert told(lambda: eval_tasks._tasks(["arc_eazy"], None)) == (
        "there is no task 'arc_eazy' (did you mean 'arc_easy'?); --include-path FOLDER adds some"
    )
    args = Namespace(limit=None, num_fewshot=None, chat=False)
    assert told(lambda: eval_tasks._evaluate(ANY, ANY, ["a", "b"], args)) == (
        "the tasks a, b cannot be run (KeyError: 'answer')"
    )


def test_what_the_ports_commands_cannot_do_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("text.txt").write_text("abc")
    model: Any = SimpleNamespace(encode=lambda text: np.zeros(3), denoiser=SimpleNamespace(context_len=8))
    args = Namespace(data="text.txt")
    assert told(lambda: mlx_sample._contexts(args, model)) == (
        "text.txt has 3 tokens, fewer than the model's context of 8: give a longer --data, or a --prompt"
    )
    Path("folder.npz").mkdir()
    args = Namespace(weights=Path("folder.npz"), state_path=None, resume_step=None)
    assert told(lambda: mlx_training._paths(args)) == "--weights folder.npz is a folder; name a file"
    args = Namespace(weights=Path("w.npz"), state_path=Path("s.pkl"), resume_step=None)
    assert told(lambda: mlx_training._paths(args)) == (
        "--state-path s.pkl: the state is a folder here, no pickle is read or written; name a folder"
    )
    weights, state = Path("w.npz"), Path("w.state")
    monkeypatch.setattr(mlx_training, "_last", lambda state: state / "step-00000003")
    assert told(lambda: mlx_training._fresh(args, weights, state)) == (
        "w.state holds a run: give --resume to go on with it, or name other --weights"
    )
    monkeypatch.setattr(mlx_training, "read_checkpoint", lambda path: SimpleNamespace(section=lambda name: {}))
    monkeypatch.setattr(mlx_training, "_may_be_of", lambda *args: False)
    assert told(lambda: mlx_training._resumed(args, weights, state)) == (
        "w.npz is not from the run in w.state: name that run's weights, or another --state-path for these"
    )


def test_what_cannot_be_measured_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_speed, "os", SimpleNamespace(name="nt"))
    assert told(lambda: bench_speed._check(Namespace(action="corpus"))) == (
        "tzd bench corpus measures on Linux and macOS only"
    )
    ended = SimpleNamespace(poll=lambda: 3, returncode=3)
    monkeypatch.setattr(corpus, "started", lambda *args, **options: nullcontext(ended))
    assert told(lambda: corpus._watched(["tzd"])) == ("tzd corpus build failed (exit code 3): see what it says")


def test_half_a_character_is_told_word_by_word() -> None:
    assert told(lambda: checked_text(Limits(), "a\ud800")) == "the text holds half a character: type it again"
