from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from running import Run, run_tzd

from tzd.cli.demo import _program


@pytest.mark.slow
def test_the_demo_trains_measures_draws_and_writes(tmp_path: Path):
    result = run_tzd("demo", "--steps", 10, "--out", "a folder", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    out = json.loads(result.stdout.splitlines()[-1])
    before, after = out["bits_per_char"]
    assert f"NELBO on held-out text: {before:.3f} bits per character before, {after:.3f} after." in result.stdout
    assert before > after
    assert len(out["text"][0]) == len("The ") + 300 and out["text"][0] in result.stdout
    assert (tmp_path / out["checkpoint"] / "model.safetensors").is_file()
    assert (tmp_path / out["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "tzd sample 'a folder/demo' --prompt" in result.stdout


@pytest.mark.parametrize(
    ("on_the_path", "environment", "argv", "program"),
    [
        (True, {}, "/x/tzd", "tzd"),
        (False, {}, ".venv/bin/tzd", ".venv/bin/tzd"),
        (False, {}, "a folder/tzd", "'a folder/tzd'"),
        (False, {}, "/x/tzd/__main__.py", f"{sys.executable} -m tzd"),
        (True, {"UV_RUN_RECURSION_DEPTH": "1"}, "/x/tzd", "uv run tzd"),
    ],
)
def test_what_to_try_next_starts_from_where_the_user_stands(
    on_the_path: bool, environment: dict, argv: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if on_the_path:
        (tmp_path / "tzd").touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [argv])
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    for name, value in {"PATH": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    assert _program() == program


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "training.max_steps must be at least 1, not 0"),
        (["--seed", "-1"], "seed must not be negative, not -1"),
    ],
)
def test_a_demo_that_cannot_be_is_one_line(arguments: list[str], message: str, tzd: Run, tmp_path: Path):
    result = tzd("demo", *arguments)
    assert (result.returncode, result.stderr) == (2, f"tzd: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_demo_in_a_folder_that_cannot_be_written_is_one_line(tzd: Run, tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    result = tzd("demo", "--out", "taken", "--steps", "1")
    assert result.returncode == 2
    assert result.stderr.startswith("tzd: ") and "taken" in result.stderr and result.stderr.count("\n") == 1
