"""Every command of docs/tzd.md and docs/configuration.md runs as it stands; training is cut short."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tzd.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tzd.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SHORT = [
    *("training.max_steps=1", "training.val_windows=1", "training.val_draws=1", "training.test=false"),
    *("training.val_generation_freq=0", "data.batch_size=2", "data.block_size=32", "training.compile=false"),
    "model.n_layer=1",
]
COMMANDS = [words for code in re.findall(r"`([^`\n]+)`", PAGE) if (words := shlex.split(code))[0] in ("python", "bash")]
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", CONFIGURATION, flags=re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def workplace(tmp_path: Path, tiny_shakespeare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to train in, with a tokenizer that stands in for one of the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZD_DATA_DIR", str(tiny_shakespeare.parent))
    words = {"[UNK]": 0, **{word: i for i, word in enumerate(tiny_shakespeare.read_text().split()[:60], 1)}}
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def needs(words: list[str]) -> None:
    for extra, word in (("litgpt", "litgpt"), ("litgpt", "experiment=tzd"), ("wandb", "logger=wandb")):
        if any(word in w for w in words) and find_spec(extra) is None:
            pytest.skip(f"{extra} is not installed")


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_every_command_of_tzds_page_composes_as_written(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
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
        ["bash", "train_diffusion.sh"],
        ["python", "train.py", "model.model_type=smdm"],
        ["python", "train.py", "model.model_type=litgpt"],
        ["python", "train.py", "experiment=tzd", "tokenizer.pretrained_model_name_or_path=."],
        ["python", "train.py", "--config-name", "smdm"],
    ],
    ids=shlex.join,
)
def test_a_command_of_tzds_page_trains(words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]):
    needs(words)
    assert main(["train", *words[2:], *SHORT]) == 0, capsys.readouterr().err
    assert f"best checkpoint: {Path('runs')}" in capsys.readouterr().out
    assert len(list((workplace / "runs").glob("*/step-*"))) == 1


@pytest.mark.parametrize("words", [words for words in LINES if "--help" not in words], ids=shlex.join)
def test_every_command_on_configuration_composes(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    needs(words)
    monkeypatch.chdir(ROOT)
    overrides = [word for word in words[2:] if word not in ("-m", "--cfg", "job")]
    assert main(["train", *overrides, "--cfg", "job"]) == 0 or "-m" in words
    assert capsys.readouterr().out or "-m" in words


def test_a_sweep_of_the_page_trains_every_combination(workplace: Path, capsys: pytest.CaptureFixture[str]):
    one_by_one, parallel = (words for words in LINES if "-m" in words)
    assert "hydra/launcher=joblib" in parallel  # tested with the configurations
    assert main([*one_by_one[1:], *SHORT]) == 0
    assert capsys.readouterr().out.count("best checkpoint: ") == 2


def test_every_page_linked_from_these_exists():
    for page in (PAGE, CONFIGURATION):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page):
            assert (ROOT / "docs" / link).exists(), link
