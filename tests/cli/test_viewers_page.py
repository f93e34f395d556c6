"""Every command of docs/viewers.md runs as it stands, in the order in which it stands there, on a model that was hardly
trained; nothing is served."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from tzd.cli import COMMANDS, main

PAGE = (Path(__file__).parents[2] / "docs" / "viewers.md").read_text(encoding="utf-8")
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]
SHORT = {"life": ["--iterations", "1"], "watch": ["--length", "16"], "compare": ["--length", "16"]}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the demo's, cut short."""
    folder = tmp_path_factory.mktemp("viewers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        budget = ["training.max_steps=2", "training.val_windows=2", "training.val_draws=1", "training.compile=false"]
        assert main(["train", "experiment=demo", "model.n_layer=1", *budget]) == 0
    return folder


def shortened(words: list[str]) -> list[str]:
    extent = {"--blocks", "--infill"} & set(words) or any(word.endswith(".npz") for word in words)
    return words if extent else [*words, *SHORT.get(words[0], [])]


@pytest.mark.slow
def test_every_command_shows_what_it_says(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    capsys.readouterr()
    commands = [words[1:] for words in LINES if words[:2] != ["tzd", "serve"]]
    assert {words[0] for words in commands} == {"watch", "compare", "life", "sample", "plot"}
    for words in commands:
        code, (out, err) = main(shortened(words)), capsys.readouterr()
        assert code == 0, f"{shlex.join(words)}: {err}"
        assert out.strip() or "--save" in words, shlex.join(words)
        for flag, value in pairwise(words):
            if flag in ("--save", "--out", "--save-trace"):
                assert Path(value).stat().st_size > 500
    assert Path("runs/demo/plot.png").exists()


@pytest.mark.slow
def test_the_python_of_the_page_runs(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "docs/viewers.md", "exec"), {})
    assert Path("run.gif").read_bytes().startswith(b"GIF8")
    assert capsys.readouterr().out.splitlines()[0].split()[0] == "0"


def test_every_command_named_in_the_page_is_one_and_its_flags_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for words in LINES:
        assert words[0] == "tzd" and words[1] in COMMANDS
    for name in sorted({words[1] for words in LINES}):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        known = capsys.readouterr().out
        flags = {word for words in LINES if words[1] == name for word in words if word.startswith("--")}
        assert all(flag in known for flag in flags), name
