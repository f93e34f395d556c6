from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from running import TZD, Run, run_tzd

from tzd import __version__
from tzd.cli import COMMANDS, models
from tzd.errors import TzdError


def test_the_help_names_every_command(tzd: Run):
    for arguments in ((), ("--help",), ("-h",)):
        result = tzd(*arguments)
        assert result.returncode == 0
        assert all(f"  {name} " in result.stdout for name in COMMANDS)


def test_the_version_is_the_packages(tzd: Run):
    assert tzd("--version").stdout == f"tzd {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, tzd: Run, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving:
        tzd(name, "--help")
    assert leaving.value.code == 0
    assert f"usage: tzd {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampel"], "unknown command 'sampel' (did you mean 'sample'?)"),
        (["--verison"], "unknown option '--verison' (did you mean '--version'?)"),
        (["infill"], "the following arguments are required: TEXT (see 'tzd infill --help')"),
        (["eval", "x"], "say what to measure: --data X, --infill, --gen-ppl or --tasks A,B"),
        (["sample", "x", "--lenght", "3"], "tzd sample has no argument '--lenght' (did you mean '--length'?)"),
        (["sample", "x", "--sampler.stpes=3"], "tzd sample has no argument '--sampler.stpes' (did you mean"),
        (["sample", "x", "y"], "tzd sample has no argument 'y' (see 'tzd sample --help')"),
        (["sample", "x", "--length", "many"], "argument --length: invalid int value: 'many' (see 'tzd sample --help')"),
        (["eval", "x", "--data", "y", "--split", "half"], "argument --split: invalid choice: 'half'"),
        (["corpus", "shwo", "x"], "argument list|show|fetch|build|check: invalid choice: 'shwo'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], message: str, tzd: Run):
    result = tzd(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"tzd: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TzdError("the loss is nan at step 3"), 1, "the loss is nan at step 3"),
        (TzdError("there is no file two\nlines"), 1, "there is no file two⏎lines"),  # what is there, and nothing else
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x"), 1, "No space left on device: runs/x"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x"), 1, "Permission denied: /x"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a  b\n\x1b[2J"), 1, "No space left on device: a  b⏎␛[2J"),
        (MemoryError(), 1, "out of memory: a smaller batch, length or model fits"),
    ],
)
def test_what_fails_is_one_line(error: BaseException, code: int, line: str, tzd: Run, monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("tzd.cli.samplers.run", fail)
    result = tzd("samplers")
    assert (result.returncode, result.stderr) == (code, f"tzd: {line}\n")


def test_a_closed_terminal_that_tells_so_twice_and_cannot_be_tidied_ends_a_command_in_good_order(
    tzd: Run, monkeypatch: pytest.MonkeyPatch
):
    tidied = []

    def run(args: Any) -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL  # which would end this process
            signal.raise_signal(signal.SIGHUP)
            tidied.append(True)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(models, "run", run)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        result = tzd("models")
        assert (result.returncode, result.stderr) == (128 + signal.SIGHUP, "tzd: interrupted\n")
        assert tidied and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path):
    process = subprocess.Popen([TZD, "samplers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_a_locale_without_the_characters_is_no_error(tmp_path: Path):
    result = run_tzd("--help", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert "usage: tzd COMMAND ?" in result.stdout


def test_samplers_shows_each_one_with_its_settings(tzd: Run):
    lines = tzd("samplers").stdout.splitlines()
    assert lines[0] == "dilated"
    assert "steps=32" in lines[2] and "temperature=1.0" in lines[2]
