"""Every command of docs/tzd.md and docs/configuration.md runs as it stands; training is cut short."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tzd.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SHORT = [
    *("training.max_steps=1", "training.val_windows=1", "training.val_draws=1", "training.test=false"),
    *("training.val_generation_freq=0", "data.batch_size=2", "data.block_size=32", "training.compile=false"),
]
COMMANDS = [words for code in re.findall(r"`([^`\n]+)`", PAGE) if (words := shlex.split(code))[0] in ("python", "bash")]
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", CONFIGURATION, flags=re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def workplace(tmp_path: Path, tiny_shakespeare: Path) -> Path:
    """The scripts, and a tokenizer that stands in for one of the hub."""
    for name in ("train.py", "train_diffusion.sh"):
        (tmp_path / name).symlink_to(ROOT / name)
    words = {"[UNK]": 0, **{word: i for i, word in enumerate(tiny_shakespeare.read_text().split()[:60], 1)}}
    Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def run(words: list[str], folder: Path, corpora: Path) -> subprocess.CompletedProcess[str]:
    binaries = Path(sys.executable).parent
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TZD_DATA_DIR": str(corpora), "OMP_NUM_THREADS": "1"}
    environment |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def needs(words: list[str]) -> None:
    for extra, word in (("litgpt", "litgpt"), ("litgpt", "experiment=tzd"), ("wandb", "logger=wandb")):
        if any(word in w for w in words):
            pytest.importorskip(extra)


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_every_command_of_tzds_page_composes_as_written(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    from tzd.cli import main

    needs(words)
    monkeypatch.chdir(ROOT)
    assert main(["train", *words[2:], "--cfg", "job"]) == 0
    shown = OmegaConf.create(capsys.readouterr().out)
    for override in words[2:]:
        key, _, value = override.partition("=")
        if "." in key:
            assert str(OmegaConf.select(shown, key)) == value


@pytest.mark.parametrize(
    "words",
    [
        ["python", "train.py", "model.n_layer=6", "model.n_embd=256", "training.epochs=50"],
        ["bash", "train_diffusion.sh", "model=tiny_cpu"],
        ["python", "train.py", "model=tiny_cpu", "model.model_type=smdm"],
        ["python", "train.py", "model=tiny_cpu", "model.model_type=litgpt"],
        ["python", "train.py", "experiment=tzd", "model=tiny_cpu", "tokenizer.pretrained_model_name_or_path=."],
        ["python", "train.py", "--config-name", "smdm", "model.n_layer=1"],
    ],
    ids=shlex.join,
)
def test_a_command_of_tzds_page_trains(words: list[str], workplace: Path, tiny_shakespeare: Path):
    needs([*words, "litgpt" if "model.model_type=litgpt" in words else ""])
    result = run([*words, *SHORT], workplace, tiny_shakespeare.parent)
    assert result.returncode == 0, result.stderr
    assert "best checkpoint: runs/" in result.stdout
    assert len(list((workplace / "runs").glob("*/step-*"))) == 1


def test_the_quick_start_composes_without_any_setting(workplace: Path, tiny_shakespeare: Path):
    assert ["python", "train.py"] in COMMANDS and ["bash", "train_diffusion.sh"] in COMMANDS
    result = run(["python", "train.py", *SHORT], workplace, tiny_shakespeare.parent)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (workplace / "runs").iterdir()] == ["shakespeare-diffusion"]


@pytest.mark.parametrize("words", [words for words in LINES if "--help" not in words], ids=shlex.join)
def test_every_command_on_configuration_composes(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    from tzd.cli import main

    needs(words)
    monkeypatch.chdir(ROOT)
    overrides = [word for word in words[2:] if word not in ("-m", "--cfg", "job")]
    assert main(["train", *overrides, "--cfg", "job"]) == 0 or "-m" in words
    assert capsys.readouterr().out or "-m" in words


def test_a_sweep_of_the_page_trains_every_combination(workplace: Path, tiny_shakespeare: Path):
    (sweep, parallel) = (words for words in LINES if "-m" in words)
    assert "hydra/launcher=joblib" in parallel  # tested with the configurations
    result = run([*sweep, *SHORT], workplace, tiny_shakespeare.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best checkpoint: ") == 2


def test_every_page_linked_from_these_exists():
    for page in (PAGE, CONFIGURATION):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page):
            assert (ROOT / "docs" / link).exists(), link
