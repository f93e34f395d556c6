"""What is held out, scored as one text, and exactly where a model is autoregressive."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import Run

import tzd as package
from runs import train
from tzd.corpus import PARTS, SPLITS, Corpus, evaluation_windows, open_corpus
from tzd.diffusion.likelihood import masked_log_probabilities

MARKOV = {"data.name": "markov", "data.path": None}


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("denoiser") / "run", MARKOV).path


@pytest.fixture(scope="module")
def autoregressive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {**MARKOV, "objective": {"name": "block", "block_len": 1}}
    return train(tmp_path_factory.mktemp("ar") / "run", changes).path


@pytest.mark.parametrize("length", [11, 12, 19, 20, 21, 1003])
def test_what_is_held_out_is_all_that_was_not_trained_on_in_its_order(length: int) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(length))
    corpus = Corpus.from_text("x", text)
    assert corpus.splits["train"] + corpus.part("held-out") == text
    assert len(corpus.part("held-out")) == length - int(0.9 * length)
    assert {name: corpus.part(name) for name in SPLITS} == corpus.splits
    assert set(PARTS) == {*SPLITS, "held-out"}


def test_held_out_text_is_scored_as_one_text_every_character_once(denoiser: Path, tzd: Run) -> None:
    result = tzd("eval", denoiser, "--data", "markov", "--split", "held-out", "--draws", 2, "--json")
    assert result.returncode == 0, result.stderr
    lines, model = result.stdout.splitlines(), package.load(denoiser)
    assert lines[0] == "held-out text of markov: 40,000 characters, 40,000 tokens"
    assert lines[1].startswith("NELBO ")
    splits = open_corpus("markov").splits
    bound = package.nelbo(model, splits["validation"] + splits["test"], draws=2)
    values = json.loads(lines[-1])
    assert values == {**values, "nats_per_token": bound.nats_per_token, "stderr": bound.stderr, "tokens": 40_000}


def test_an_autoregressive_model_is_given_its_likelihood_in_one_pass_over_the_same_windows(
    autoregressive: Path, tzd: Run
) -> None:
    result = tzd("eval", autoregressive, "--data", "markov", "--split", "held-out", "--json")
    assert result.returncode == 0, result.stderr
    lines, model = result.stdout.splitlines(), package.load(autoregressive)
    assert lines[1].startswith("-log p ")
    windows = evaluation_windows(model.encode(open_corpus("markov").part("held-out")), 24)
    assert [group.shape for group in windows] == [(1666, 24), (1, 16)]  # the last one is shorter
    everywhere = [np.ones(group.shape, bool) for group in windows]  # each token given those before it, all at once
    pairs = zip(windows, everywhere, strict=True)
    nats = -sum(masked_log_probabilities(model.denoiser, group, mask, 512).sum() for group, mask in pairs)
    assert json.loads(lines[-1])["nats_per_token"] == pytest.approx(nats / 40_000, rel=1e-6)


def test_all_pairs_that_are_held_out_are_scored_together(tmp_path: Path, tzd: Run) -> None:
    rows = [{"prompt": f"{i}", "answer": "a" * (1 + i % 3)} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"data.name": "pairs", "data.path": str(tmp_path / "pairs.jsonl"), "training.max_steps": 1}
    run = train(tmp_path / "run", changes).path
    counts = {}
    for split in ("validation", "test", "held-out"):
        result = tzd("eval", run, "--data", "pairs.jsonl", "--split", split, "--draws", 1, "--json")
        assert result.returncode == 0, result.stderr
        counts[split] = json.loads(result.stdout.splitlines()[-1])["tokens"]
    assert counts["held-out"] == counts["validation"] + counts["test"]
