"""`tzd corpus list | show | fetch`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tzd.cli import main
from tzd.corpus.sources.markov import CHAIN


@pytest.fixture(autouse=True)
def _nowhere_but_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.corpus.files.cache_folder", lambda kind: tmp_path / "cache" / kind)
    monkeypatch.delenv("TZD_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def test_list_says_where_each_corpus_lies(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/tiny_shakespeare.txt").write_text("anything")
    assert main(["corpus", "list", "--data-dir", "mine"]) == 0
    out = capsys.readouterr().out
    assert "mine/tiny_shakespeare.txt" in out
    assert "not here; get it: tzd corpus fetch text8" in out
    assert main(["corpus", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["shakespeare"] | {"description": ""} == {"description": "", "needs_file": True, "path": None}
    assert not listed["markov"]["needs_file"]


def test_show_says_what_a_corpus_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "show", "markov", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["splits"] == {"train": 360000, "validation": 20000, "test": 20000}
    assert shown["entropy"] == CHAIN.entropy_rate
    assert main(["corpus", "show", "markov"]) == 0
    assert f"{CHAIN.entropy_rate:.6f} nats per character" in capsys.readouterr().out


def test_a_preview_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("\x1b[31mred\n" + "x" * 200 + "\n" * 99)
    assert main(["corpus", "show", "text", "--data", "a.txt"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert f"·[31mred\n{'x' * 99}…\n" in out


def test_fetch_of_what_needs_no_download_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "fetch", "pydocs"]) == 0
    assert capsys.readouterr().out == "pydocs needs no download\n"


@pytest.mark.parametrize(
    "argv", [["show", "markow"], ["show", "text"], ["show", "text", "--data", "none"], [], ["drop"], ["fetch", "x"]]
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["corpus", *argv]) == 2
    message = capsys.readouterr().err
    assert message.startswith("tzd: ")
    assert message.count("\n") == 1
