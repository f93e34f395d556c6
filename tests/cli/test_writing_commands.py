from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from running import TEXT, TZD, Run, run_tzd

from tzd.cli.writing import literal

QUICK = ["--length", 40, "--steps", 4]


def test_sample_prints_text_and_nothing_else(trained: Path, tmp_path: Path):
    result = run_tzd("sample", trained, *QUICK, "--prompt", "the ", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout) == 4 + 40 + 1
    assert result.stdout.startswith("the ")
    assert set(result.stdout) <= set(TEXT) | {"\n"}


def test_a_seed_gives_the_same_text_again_and_another_seed_another(trained: Path, tzd: Run):
    texts = [tzd("sample", trained, *QUICK, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_json_ends_the_output_with_text_tokens_and_nfe(trained: Path, tzd: Run):
    lines = tzd("sample", trained, *QUICK, "--num-samples", 2, "--json").stdout.splitlines()
    out = json.loads(lines[-1])
    assert lines[:-1] == "\n\n---\n\n".join(out["text"]).splitlines()
    assert [len(text) for text in out["text"]] == [len(row) for row in out["tokens"]] == [40, 40]
    assert 0 < out["nfe"] <= 4 * 2  # two windows of 32


@pytest.mark.parametrize(
    ("flags", "nfe"),
    [
        (["--sampler", "llada", "--steps", "8"], 8),
        (["--sampler", "llada", "--sampler.steps=8"], 8),
        (["--sampler", "llada", "--steps", "8", "--block-len", "8"], 8),
        (["--sampler", "top-k", "--sampler.k=16"], 2),
        (["--sampler", "llada", "--steps=8", "--cfg-scale=0.5", "--prompt", "t", "--sampler.block_len=none"], 16),
        (["--sampler", "threshold", "--confidence-threshold", "0"], 1),
        (["--order", "entropy", "--count", "threshold", "--tau", "0"], 1),
        (["--order", "entropy", "--count", "fixed", "--sampler.k=4", "--remask", "remdm-cap", "--steps", "3"], 3),
    ],
)
def test_flags_reach_the_sampler(flags: list[str], nfe: int, trained: Path, tzd: Run):
    length = 31 if "--prompt" in flags else 32
    result = tzd("sample", trained, "--length", length, "--json", *flags)
    assert json.loads(result.stdout.splitlines()[-1])["nfe"] == nfe


def test_a_banned_character_is_not_written(trained: Path, tzd: Run):
    banned = [flag for letter in set(TEXT) - set("ab") for flag in ("--ban", letter)]
    assert set(tzd("sample", trained, *QUICK, *banned).stdout.removesuffix("\n")) == {"a", "b"}
    assert set(tzd("infill", trained, "____________", "--steps", 4, *banned).stdout.strip()) == {"a", "b"}


def test_infill_changes_nothing_but_the_blanks(trained: Path, tzd: Run):
    filled = tzd("infill", trained, "the ____ brown ___", "--steps", 4).stdout.removesuffix("\n")
    assert "_" not in filled
    assert (filled[:4], filled[8:15], len(filled)) == ("the ", " brown ", 18)
    filled = tzd("infill", trained, "the **** fox", "--mask", "*", "--json").stdout.splitlines()
    assert json.loads(filled[-1])["text"] == [filled[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "CKPT", "--length", "0"], "length must be at least 1, not 0"),
        (["sample", "CKPT", "--steps", "0"], "steps must be at least 1, not 0"),
        (["sample", "CKPT", "--steps", "few"], "steps cannot be 'few'; it takes a whole number"),
        (["sample", "CKPT", "--temperature=-1"], "temperature must be 0"),
        (["sample", "CKPT", "--top-p", "0"], "top_p must lie in (0, 1], not 0.0"),
        (["sample", "CKPT", "--num-samples", "0"], "batch_size must be at least 1, not 0"),
        (["sample", "CKPT", "--sampler", "lada"], "unknown sampler 'lada' (did you mean 'llada'?)"),
        (["sample", "CKPT", "--sampler.k=3"], "sampler 'dilated' has no setting 'k'"),
        (["sample", "CKPT", "--prompt", "Ω"], "'Ω'"),
        (["sample", "CKPT", "--engine", "abacus"], "unknown engine 'abacus'"),
        (["sample", "nowhere"], "nowhere"),
        (["infill", "CKPT", "no blank"], "the text has no blank: write '_'"),
        (["infill", "CKPT", "a_b", "--mask", "__"], "the mask must be a single character, not '__'"),
        (["eval", "CKPT", "--data", "pydoc"], "there is no corpus 'pydoc' (did you mean 'pydocs'?), and no such file"),
        (["eval", "CKPT", "--data", "taken"], ("taken is a folder; --data takes one file of it, or a corpus by name")),
        (
            ["eval", "CKPT", "--data", "fox.txt", "--split", "test"],
            ("--split is for a named corpus; fox.txt is a file, and scored whole"),
        ),
        (["eval", "CKPT", "--data", "fox.txt", "--draws", "0"], "draws must be at least 1"),
        (["eval", "CKPT", "--data", "empty.txt"], "empty"),
        (["convert", "CKPT", "taken"], "taken exists already: choose another name"),
        (["convert", "nowhere", "new"], "nowhere"),
        (["convert", "CKPT", "new.npz"], "cannot write new.npz: a 'char' tokenizer needs a file of its own"),
        (
            ["convert", "CKPT", "new", "--n-head", "2"],
            ("is a tzd checkpoint and says everything itself: leave out n_head"),
        ),
        (
            ["convert", "CKPT", "new.Safetensors"],
            (
                "cannot write new.Safetensors: a tzd checkpoint is "
                "a folder, and the only other format written is "
                ".npz; name one without '.Safetensors'"
            ),
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments: list[str], message: str, trained: Path, tzd: Run, tmp_path: Path):
    (tmp_path / "fox.txt").write_text(TEXT)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "taken").mkdir()
    result = tzd(*(trained if argument == "CKPT" else argument for argument in arguments))
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("tzd: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("new*"))


def test_eval_scores_a_file_whole_and_says_in_what_units(trained: Path, tzd: Run, tmp_path: Path):
    (tmp_path / "some.txt").write_text(TEXT[:100])
    lines = tzd("eval", trained, "--data", "some.txt", "--draws", 2, "--json").stdout.splitlines()
    bound = json.loads(lines[-1])
    assert lines[0] == "some.txt: 100 characters, 100 tokens"
    assert lines[1] == f"NELBO {bound['nats_per_token']:.4f} ± {bound['stderr']:.4f} nats per token"
    assert lines[2] == f"      {bound['bits_per_char']:.4f} bits per character"
    assert bound["tokens"] == 100


def test_an_error_that_cannot_be_known_is_null_and_not_shown(trained: Path, tzd: Run, tmp_path: Path):
    (tmp_path / "short.txt").write_text(TEXT[:20])
    lines = tzd("eval", trained, "--data", "short.txt", "--draws", 1, "--json").stdout.splitlines()
    bound = json.loads(lines[-1], parse_constant=pytest.fail)  # NaN is no JSON
    assert bound["stderr"] is None
    assert lines[1] == f"NELBO {bound['nats_per_token']:.4f} nats per token"


def test_eval_fetches_a_published_file_that_is_nowhere(
    trained: Path, tzd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def download(file: object, progress: bool) -> Path:
        fetched = tmp_path / "fetched.txt"
        fetched.write_text(TEXT[:50])
        return fetched

    monkeypatch.setattr("tzd.corpus.files._download", download)
    monkeypatch.setenv("TZD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = tzd("eval", trained, "--data", "data/tiny_shakespeare.txt", "--draws", 1)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == f"{tmp_path / 'fetched.txt'}: 50 characters, 50 tokens"


def test_eval_scores_the_validation_split_of_a_corpus(trained: Path, tzd: Run, monkeypatch: pytest.MonkeyPatch):
    from tzd.corpus import Corpus

    corpus = Corpus.from_text("markov", TEXT)
    monkeypatch.setattr("tzd.cli.measuring.open_corpus", lambda name, **_: corpus)
    for split in ("validation", "test"):
        flags = [] if split == "validation" else ["--split", split]
        first = tzd("eval", trained, "--data", "markov", "--draws", 1, *flags).stdout.splitlines()[0]
        count = len(corpus.splits[split])
        assert first == f"{split} split of markov: {count} characters, {count} tokens"


def test_a_converted_checkpoint_writes_the_same_text(trained: Path, tzd: Run, tmp_path: Path):
    assert tzd("convert", trained, "copy").stdout == "wrote copy\n"
    assert tzd("sample", "copy", *QUICK).stdout == tzd("sample", trained, *QUICK).stdout


def test_sampling_imports_no_trainer(trained: Path):
    code = "import sys; from tzd.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    command = [sys.executable, "-c", code, "sample", str(trained), *map(str, QUICK)]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()
    assert "torch" in modules
    assert not {"lightning", "hydra", "matplotlib", "transformers", "pooch", "rich"}.intersection(modules)


def on_a_terminal(*arguments: object, **environment: str) -> str:
    """What the command writes to a terminal of 80 columns."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [TZD, *map(str, arguments)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment},
    )
    os.close(inner)
    written = b""
    try:
        while chunk := os.read(outer, 65536):
            written += chunk
    except OSError:  # the other end was closed
        pass
    os.close(outer)
    assert process.wait(60) == 0
    return written.decode()


def test_a_terminal_shows_the_denoising_and_then_the_text(trained: Path, tzd: Run):
    written = on_a_terminal("sample", trained, *QUICK)
    assert "░░░" in written and "step 0 · NFE 0 · 40 characters left" in written
    assert "\x1b[" in written
    text = tzd("sample", trained, *QUICK).stdout
    assert written.endswith(text.replace("\n", "\r\n"))


def test_quiet_shows_the_text_only(trained: Path, tzd: Run):
    written = on_a_terminal("sample", trained, *QUICK, "--quiet")
    assert written == tzd("sample", trained, *QUICK).stdout.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("None", None), ("null", None), ("cosine", "cosine")],
)
def test_a_setting_is_read_as_yaml_would(text: str, value: object):
    assert literal(text) == value and type(literal(text)) is type(value)
