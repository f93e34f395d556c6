import json
from pathlib import Path

import numpy as np
import pytest
from running import Run

import tzd as package
from runs import TEXT, train
from tzd.corpus import evaluation_windows
from tzd.evaluation.diversity import unigram_entropy
from tzd.evaluation.infilling import commonest_accuracy, infill_accuracy
from tzd.sampling import DEFAULT, sampler


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("small") / "model").path


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("judge") / "judge", {"objective": {"name": "block", "block_len": 1}}).path


def test_infilling_is_measured_on_the_named_text_beside_the_commonest_token(small: Path, tzd: Run, tmp_path: Path):
    (tmp_path / "real.txt").write_text(TEXT[:240])
    flags = ("--sampler", "llada", "--steps", 2, "--temperature", 0, "--span", "1,6", "--batch-size", 4)
    result = tzd("eval", small, "--data", "real.txt", "--infill", *flags, "--json")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "real.txt: 10 texts of 24 tokens"
    assert lines[2].split("  ")[-1].strip() == "the commonest token" and "llada steps=2 temperature=0" in lines[2]
    values = json.loads(lines[-1])
    assert values["settings"] == {"steps": 2, "temperature": 0} and values["texts"] == 10
    model = package.load(small)
    texts = evaluation_windows(model.encode(TEXT[:240]), 24)[0]
    rules = sampler("llada", steps=2, temperature=0)
    for row, span in zip(values["infill"], (1, 6), strict=True):
        assert row["span"] == span
        mine = infill_accuracy(model.denoiser, texts, sampler=rules, span=span, batch_size=4)
        assert (row["infill_accuracy"], row["infill_accuracy_stderr"]) == pytest.approx(tuple(mine))
        assert f"{mine.value:.4f} ±{mine.stderr:.4f}" in result.stdout


def test_one_text_has_no_standard_error(small: Path, tzd: Run, tmp_path: Path):
    (tmp_path / "real.txt").write_text(TEXT[:240])
    flags = ("--samples", 1, "--steps", 1, "--json")
    lines = tzd("eval", small, "--data", "real.txt", "--infill", *flags).stdout.splitlines()
    assert "±" not in lines[3] and "nan" not in lines[3]
    assert json.loads(lines[-1])["infill"][0]["infill_accuracy_stderr"] is None


def test_the_baseline_is_the_commonest_token_outside_the_gaps():
    texts = np.array([[1, 1, 2, 2, 1, 1], [1, 1, 1, 2, 2, 1], [3, 3, 2, 1, 3, 1]])
    found = commonest_accuracy(texts, span=2)  # 1 stands outside the gaps eight times, 2 and 3 less often
    assert found.value == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)


def test_a_verdict_comes_with_entropy_and_repetition_beside_those_of_real_text(small: Path, judge: Path, tzd: Run):
    flags = ("--judge", judge, "--samples", 6, "--steps", 3, "--seed", 5)
    result = tzd("eval", small, "--gen-ppl", *flags, "--json")
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout.splitlines()[-1])
    real, mine = values["points"]
    assert (real["sampler"], mine["sampler"], mine["nfe"]) == ("real text", DEFAULT, 3)
    model, ar = package.load(small), package.load(judge)
    texts = package.sample(model, length=24, batch_size=6, steps=3, seed=5)
    nats = [package.nelbo(ar, text, draws=1) for text in texts.text]
    assert mine["judge_nats_per_char"] == pytest.approx(sum(n.nats_per_token * n.tokens for n in nats) / 6 / 24)
    assert mine["unigram_entropy"] == pytest.approx(unigram_entropy(texts.tokens).mean())
    for row in (real, mine):
        for name in ("judge_nats_per_char", "unigram_entropy", "repeated_within", "repeated_across", "distinct_2"):
            assert row[name] is not None and row[f"{name}_stderr"] is not None
    head = result.stdout.splitlines()[3].split()
    assert head[:4] == ["NFE", "chars/s", "judge", "entropy"] and "infill" not in head


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--gen-ppl",
            (
                "--gen-ppl needs --judge CKPT, an autoregressive model of the same corpus: tzd "
                "train objective=block objective.block_len=1"
            ),
        ),
        (
            "--gen-ppl --judge MODEL",
            (
                "a judge is a model whose likelihoods are exact: one that was "
                "trained with objective=block objective.block_len=1"
            ),
        ),
        ("--infill --span 3,x", "--span 3,x: give whole numbers from 1 to 23"),
        ("--infill --span 24", "--span 24: give whole numbers from 1 to 23, separated by commas"),
        ("--infill --samples 0", "--samples must be at least 1, not 0"),
        ("--infill --length 9999", "validation split of text has fewer than 9999 tokens: set a shorter --length"),
        ("--infill --sampler lada", "unknown sampler 'lada' (did you mean 'llada'?)"),
        ("--infill --data nowhere.txt", "there is no corpus 'nowhere.txt'"),
        (
            "--infill --tasks a",
            ("--tasks brings its own texts: leave out --data, --infill and --gen-ppl, or ask for them apart"),
        ),
        ("--data pydocs --span 3", "--span is for --infill; leave it out"),
        ("--data pydocs --steps 3", "--sampler is for --infill, --gen-ppl, --tasks; leave it out"),
        ("--infill --draws 0", "--draws is for --data, --tasks; leave it out"),
        ("", "say what to measure: --data X, --infill, --gen-ppl or --tasks A,B"),
    ],
)
def test_a_wrong_request_is_one_line(flags: str, message: str, small: Path, tzd: Run):
    result = tzd("eval", small, *(str(small) if flag == "MODEL" else flag for flag in flags.split()))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"tzd: {message}") and result.stderr.count("\n") == 1
