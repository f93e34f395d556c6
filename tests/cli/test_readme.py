"""Every command of the README runs as it stands, in the order in which it stands there; training is cut short."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tzd.config import ObjectiveSettings
from tzd.configs import options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = ["training.max_steps=2", "training.val_windows=2", "training.val_draws=1", "model.generation_num_steps=2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[2:] for words in split if words[:2] == ["uv", "run"]]


def shortened(words: list[str]) -> list[str]:
    if words[:2] == ["tzd", "demo"]:
        return [*words, "--steps", "4"]
    if words[:2] in (["tzd", "train"], ["python", "train.py"]):
        return [*words, *SHORT]
    if words[:2] == ["tzd", "life"]:
        return [*words, "--iterations", "3"]
    return words


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("train.py", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(words: list[str], folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    binaries = Path(sys.executable).parent
    environment = {**os.environ, **extra, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_every_command_runs(workplace: Path, tiny_shakespeare: Path) -> None:
    assert len(commands()) >= 10
    for words in commands():
        result = run(shortened(words), workplace, TZD_DATA_DIR=str(tiny_shakespeare.parent))
        assert result.returncode == 0, f"{shlex.join(words)}: {result.stderr}"
        assert result.stdout.strip() or "wrote " in result.stderr, shlex.join(words)
    written = [words[i + 1] for words in commands() for i, word in enumerate(words) if word == "--save"]
    assert written and all((workplace / name).stat().st_size > 10_000 for name in written)


def test_the_python_example_runs(workplace: Path) -> None:
    if not (workplace / "runs" / "demo").exists():
        assert run(["tzd", "demo", "--steps", "4"], workplace).returncode == 0
    (example,) = blocks("python")
    example = example.replace("training.max_steps=50", "training.max_steps=2")
    result = run([sys.executable, "-c", example], workplace)
    assert result.returncode == 0, result.stderr
    assert "The " in result.stdout


def test_a_way_without_uv_is_told_before_uv_is_used() -> None:
    assert README.index("source .venv/bin/activate") < README.index("uv run tzd")


def test_the_objectives_are_those_that_there_are() -> None:
    (row,) = re.findall(r"^\| objectives \| (.*) \|$", README, flags=re.MULTILINE)
    names = options(folders=())["objective"]
    assert set(re.findall(r"`(\w+)`", row)) == set(names)
    assert f"`{ObjectiveSettings().name}`" in README.split("## ")[0]  # the default is named where bounds are claimed


def test_every_make_target_named_exists() -> None:
    named = set(re.findall(r"make (\w+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert named >= {"demo", "test", "check", "bench"}
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)


def test_every_file_linked_exists() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
