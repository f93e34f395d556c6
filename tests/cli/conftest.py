from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from running import TEXT, Run, run_tzd

import tzd as package
from tzd import Model
from tzd.config import TokenizerSettings
from tzd.corpus import Corpus
from tzd.corpus.tokenizer import make_tokenizer
from tzd.diffusion.denoiser import FunctionDenoiser


@pytest.fixture
def tzd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, in an empty folder."""
    from tzd.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a very small model, trained for two steps by the command itself."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "fox.txt").write_text(TEXT)
    settings = "model.n_layer=1 model.n_head=2 model.n_embd=16 data=text data.path=fox.txt data.block_size=32"
    budget = "data.batch_size=4 training.max_steps=2 training.val_windows=2 training.compile=false sampler.steps=4"
    result = run_tzd("train", *settings.split(), *budget.split(), "logger.name=fox", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert f"best checkpoint: {Path('runs', 'fox', 'step-00000002')}" in result.stdout
    return folder / "runs" / "fox"


def _model(*_: object, **__: object) -> Model:
    """A model that is no work."""
    tokenizer = make_tokenizer(TokenizerSettings("ascii"), Corpus.from_text("text", TEXT))
    size = tokenizer.vocab_size
    denoiser = FunctionDenoiser(lambda tokens: np.zeros((*tokens.shape, size)), size, 16)
    return Model(denoiser, tokenizer)


@pytest.fixture
def idle(tzd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, which loads nothing large, serves nobody, trains nothing and measures no machine."""
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr(package, "load", _model, raising=False)
    monkeypatch.setattr(package, "train", lambda config: None, raising=False)
    monkeypatch.setattr("tzd.cli.bench_speed._measure", lambda args: None)
    monkeypatch.setattr("tzd.cli.demo._show_shipped", lambda engine, args: [""])
    monkeypatch.setattr("tzd.web.server.serve", lambda app, taken: None)
    monkeypatch.setattr("tzd.web.server.application", lambda *args, **kwargs: None)
    monkeypatch.setattr("tzd.cli.plan.measured_rate", lambda *args: 1.0)
    return tzd
