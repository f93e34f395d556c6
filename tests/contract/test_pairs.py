"""Training on prompts and answers, on every engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
import tzd
from pairs import SETTINGS, hub_folder, reversals, settings_for, words, write_rows
from runs import assert_same_weights, rows
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.cli import main
from tzd.engines import ENGINES
from tzd.errors import ConfigError, InterruptedRunError
from tzd.training.records import read_metrics

LEARNS: dict[str, Any] = {
    "data.batch_size": 32,
    "model.n_layer": 2,
    "model.n_embd": 32,
    "model.lr": 5e-3,
    "training.max_steps": 300,
    "training.warmup_steps": 20,
    "training.eval_interval": 300,
    "training.log_every_n_steps": 100,
    "training.compile": False,
}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A small model that has learnt to turn words of two or three letters round."""
    folder = tmp_path_factory.mktemp("learnt")
    return runs.train(folder, settings_for(folder, **LEARNS))


def test_a_small_model_learns_to_answer_prompts_that_it_has_not_seen(learnt: RunFolder) -> None:
    model, asked = tzd.load(learnt.path), words()[-26:]
    assert {len(word) for word in asked} == {2, 3}
    request = {"prompt": [f"{word}>" for word in asked], "temperature": 0, "steps": 9}
    out = tzd.sample(model, **request)
    assert sum(answer == word[::-1] for answer, word in zip(out.answers, asked, strict=True)) >= 0.95 * len(asked)
    guided = tzd.sample(model, **request, cfg_scale=0.5)
    assert guided.nfe == 2 * out.nfe
    assert sum(answer == word[::-1] for answer, word in zip(guided.answers, asked, strict=True)) >= 0.9 * len(asked)


def test_what_is_validated_is_what_scoring_the_held_out_answers_says(learnt: RunFolder) -> None:
    model = tzd.load(learnt.path)
    start, end = read_metrics(learnt.path)["val_nats_per_token"][[0, -1]]
    assert start == pytest.approx(np.log(model.denoiser.vocab_size), abs=1e-6)
    assert end < 0.2
    known = [(f"{word}>", word[::-1]) for word in words()[226:239]]
    assert tzd.answers_nelbo(model, known).nats_per_token < 0.2
    assert tzd.answers_nelbo(model, [(prompt, prompt[:-1]) for prompt, _ in known]).nats_per_token > 1


def test_the_commands_answer_and_score(learnt: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = words()[-1]
    assert main(["sample", str(learnt.path), "--prompt", f"{word}>", "--temperature", "0", "--json"]) == 0
    text, last = capsys.readouterr().out.splitlines()
    assert text == f"{word}>{word[::-1]}" and json.loads(last)["answers"] == [word[::-1]]
    file = str(reversals(tmp_path / "r.jsonl"))
    assert main(["eval", str(learnt.path), "--data", file, "--split", "test", "--json"]) == 0
    heading, *_, last = capsys.readouterr().out.splitlines()
    assert "13 answers" in heading and json.loads(last)["nats_per_token"] < 0.2
    assert main(["eval", str(learnt.path), "--data", file, "--draws", "1"]) == 0
    assert "252 answers" in capsys.readouterr().out
    assert main(["eval", str(learnt.path), "--data", __file__, "--answer-key", "a"]) == 2
    assert "--answer-key are for a .jsonl" in capsys.readouterr().err
    assert main(["sample", str(learnt.path), "--prompt", "ab>", "--chat"]) == 2
    assert "has no chat template" in capsys.readouterr().err


def test_two_engines_lose_alike_on_pairs(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    changes = {"training.optimizer": "adamw", "training.max_steps": 10, "training.val_generation_freq": 1}
    both = [
        runs.train(tmp_path / engine, settings_for(tmp_path / engine, **changes), engine=engine) for engine in ENGINES
    ]
    torch, mlx = (read_metrics(run.path) for run in both)
    for column in ("loss", "val_nats_per_token", "val_bits_per_char"):
        np.testing.assert_allclose(torch[column], mlx[column], rtol=1e-4, err_msg=column)
    assert all(">" in (run.path / "samples.txt").read_text() for run in both)  # they go on from a held-out prompt


def test_a_resumed_run_on_pairs_equals_one_that_never_stopped(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = settings_for(tmp_path, **{"training.max_steps": 40, "training.eval_interval": 40})  # more than an epoch
    whole = runs.train(tmp_path / "whole", changes, engine=engine)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        runs.send_at(patch, 30)
        runs.train(tmp_path / "parts", changes, engine=engine)
    parts = runs.train(tmp_path / "parts", {**changes, "training.resume": True}, engine=engine)
    assert_same_weights(whole, parts)
    assert rows(whole) == rows(parts)


def test_a_model_of_texts_goes_on_with_pairs_and_carries_its_tokenizers_template(engine: str, tmp_path: Path) -> None:
    hub = hub_folder(tmp_path / "hub")
    shape = {"data.block_size": 40, "model.block_size": 40, "training.max_steps": 2, "tokenizer.name": "hf"}
    shape["tokenizer.pretrained_model_name_or_path"] = str(hub)
    texts = runs.train(tmp_path / "texts", shape, engine=engine)
    file = write_rows(tmp_path / "r.jsonl", [{"prompt": f"{word}", "answer": word[::-1]} for word in words(40)])
    pairs = {**SETTINGS, **shape, "data.path": str(file), "training.init_from": str(texts.path)}
    run = runs.train(tmp_path / "pairs", pairs, engine=engine)
    assert (run.resolve("last") / "chat_template.jinja").read_bytes() == (hub / "chat_template.jinja").read_bytes()  # type: ignore[operator]
    model = tzd.load(run.path, engine=engine)
    out = tzd.sample(model, prompt="ab", sampler="llada", steps=4)
    assert out.text[0].startswith("<s><user>ab<end>\n<assistant>") and out.tokens.shape == (1, 40)
    plain = tzd.sample(model, prompt="ab", sampler="llada", steps=4, chat=False)
    assert plain.text[0].startswith("ab") and plain.tokens.shape == (1, 40)
    char = {**SETTINGS, "data.path": str(file), "training.init_from": str(texts.path)}
    with pytest.raises(ConfigError, match="another tokenizer than this run"):
        runs.train(tmp_path / "char", char, engine=engine)


def test_a_checkpoint_says_how_its_answers_end(learnt: RunFolder) -> None:
    best = learnt.resolve("best")
    assert best is not None
    config = read_checkpoint(best).config
    assert config["tokenizer"]["kind"] == "pairs" and config["tokenizer"]["eos_id"] == 7
    assert config["diffusion"]["unconditional"] == 0.1
    assert config["provenance"]["corpus"] == "pairs"
