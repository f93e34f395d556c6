from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from running import TEXT, Run, run_tzd


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
