"""The report of a model beside others: its numbers are those of the library, and bad requests are one line."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from running import Run, run_tzd

import tzd as package
from runs import train
from tzd.configs import compose
from tzd.corpus import open_corpus
from tzd.evaluation.report import kind_of, markdown

ROOT = Path(__file__).parents[2]
MARKOV = {"data.name": "markov", "data.path": None, "training.max_steps": 2}
RUNS = ("denoiser", "ar", "blocks-16", "blocks-4")
FLAGS = ("--draws", 1, "--samples", 6, "--steps", 4, "--seed", 3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three models: a denoiser, an autoregressive one and one of blocks of four."""
    folder = tmp_path_factory.mktemp("models")
    train(folder / "denoiser", MARKOV)
    train(folder / "ar", {**MARKOV, "objective": {"name": "block", "block_len": 1}})
    train(folder / "four", {**MARKOV, "objective": {"name": "block", "block_len": 4}})
    return folder


@pytest.fixture(scope="module")
def report(models: Path) -> dict[str, Any]:
    """What a process of its own has written."""
    named = ("denoiser/run", "--judge", "ar/run", "--beside", "four/run")
    result = run_tzd("report", *named, *FLAGS, "--out", "out", "--json", cwd=models)
    assert result.returncode == 0, result.stderr
    values: dict[str, Any] = json.loads((models / "out" / "report.json").read_text())
    assert json.loads(result.stdout.splitlines()[-1]) == values
    assert result.stdout.startswith((models / "out" / "report.md").read_text())
    return values


def test_every_model_is_scored_on_held_out_text_and_on_the_half_that_chose_no_checkpoint(
    models: Path, report: dict[str, Any]
) -> None:
    corpus = open_corpus("markov")
    assert [row["model"] for row in report["predictions"]] == ["denoiser/run", "ar/run", "four/run"]
    assert [row["block_len"] for row in report["predictions"]] == [0, 1, 4]
    for row in report["predictions"]:
        model = package.load(models / row["model"])
        assert (row["parameters"], row["step"]) == (3248, 2)
        for part, text in (("held_out", corpus.part("held-out")), ("test", corpus.splits["test"])):
            bound = package.nelbo(model, text, draws=1, seed=3)
            assert row[part]["nats_per_char"] == pytest.approx(bound.nats_per_token)
            assert row[part]["nats_per_char_stderr"] == pytest.approx(bound.stderr)


def test_texts_are_judged_beside_real_ones_and_gaps_filled(models: Path, report: dict[str, Any]) -> None:
    real, mine = report["texts"]
    assert (real["label"], mine["label"], mine["nfe"]) == ("real text", "dilated steps=4", 4)
    model, judge = package.load(models / "denoiser/run"), package.load(models / "ar/run")
    texts = package.sample(model, length=24, batch_size=6, steps=4, seed=3).text
    nats = [package.nelbo(judge, text, draws=1).nats_per_token for text in texts]
    assert mine["judge_nats_per_char"] == pytest.approx(sum(nats) / 6)
    assert report["span"] == 3 and 0 <= report["infill"]["infill_accuracy"] <= 1
    assert report["infill"]["infill_accuracy"] == mine["infill_accuracy"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    models: Path, tzd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    monkeypatch.setattr("tzd.evaluation.frontier.Bench.measure", lambda *_: pytest.fail("it has measured"))
    (models / "file").write_text("")
    result = tzd("report", "denoiser/run", "--judge", "ar/run", *FLAGS, "--out", "file")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("tzd: cannot write file: ") and result.stderr.count("\n") == 1


def test_the_judge_judges_in_float32_whatever_the_precision(
    models: Path, tzd: Run, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(models)
    flags = ("--judge", "ar/run", *FLAGS, "--precision", "bf16", "--out", tmp_path / "out", "--json")
    result = tzd("report", "denoiser/run", *flags)
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout.splitlines()[-1])
    assert values["predictions"][1] == report["predictions"][1]
    assert values["texts"][0] == report["texts"][0]
    assert values["predictions"][0] != report["predictions"][0]


def test_the_page_says_what_the_numbers_say(report: dict[str, Any]) -> None:
    page = markdown(report)
    row = report["predictions"][0]["held_out"]
    assert f"{row['nats_per_char']:.4f} ± {row['nats_per_char_stderr']:.4f}" in page
    assert f"{row['nats_per_char'] / math.log(2):.4f}" in page
    for kind in ("masked diffusion, NELBO", "autoregressive, −log p", "block diffusion, 4 tokens, NELBO"):
        assert page.count(f"| {kind} |") == 1
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [5, 4, 4]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1  # each row has every column


def test_a_number_that_is_not_known_is_a_dash(report: dict[str, Any]) -> None:
    unknown = [{**row, "copied": None, "copied_stderr": None} for row in report["texts"]]
    page = markdown({**report, "texts": unknown})
    assert page.count("| – |\n") == 2 and "None" not in page and "nan" not in page


def test_a_model_is_called_by_what_its_blocks_make_it() -> None:
    assert [kind_of(n) for n in (0, 1, 16)] == [
        "masked diffusion, NELBO",
        "autoregressive, −log p",
        "block diffusion, 16 tokens, NELBO",
    ]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("recipe", ["shakespeare", "shakespeare_cpu"])
def test_make_trains_a_recipe_and_baselines_as_large_and_reports(recipe: str) -> None:
    asked = ["make", "--no-print-directory", "-n", "shakespeare", f"RECIPE={recipe}"]
    lines = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    trained = [shlex.split(line)[2:] for line in lines if "tzd train" in line]
    configs = [compose(overrides, folders=()) for overrides in trained]
    assert [config.objective.name for config in configs] == ["pooled", "block", "block", "block"]
    assert [config.objective.block_len for config in configs[1:]] == [1, 16, 4]
    shapes = [(c.model.n_layer, c.model.n_embd, c.model.n_head, c.model.rope_base) for c in configs]
    assert len(set(shapes)) == 1
    folders = [str(config.training.run_folder) for config in configs]
    (report,) = [shlex.split(line)[2:] for line in lines if "tzd report" in line]
    assert [report[0], report[2], *report[4].split(",")] == folders


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_goes_on_with_what_was_interrupted_and_leaves_alone_what_is_trained(tmp_path: Path) -> None:
    for run, file in (("denoiser", "finished"), ("denoiser", "step-00000002"), ("ar", "step-00000001")):
        (tmp_path / "runs/shakespeare" / run).mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/shakespeare" / run / file).touch()
    asked = ["make", "--no-print-directory", "-n", "-f", str(ROOT / "Makefile"), "shakespeare", "READY="]
    lines = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    trained = [shlex.split(line)[3:] for line in lines if "tzd train" in line]
    assert [line[0] for line in trained] == [f"training.run_folder=runs/shakespeare/{x}" for x in RUNS[1:]]
    assert ["training.resume=true" in line for line in trained] == [True, False, False]
    assert lines[0] == 'echo "runs/shakespeare/denoiser is trained; remove it to train it anew"'


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "the following arguments are required: --judge"),
        ("--judge denoiser/run", "a judge is a model whose likelihoods are exact"),
        ("--judge ar/run --beside nowhere", "there is no checkpoint at nowhere"),
        ("--judge ar/run --beside four/run,", "--beside four/run,: write paths with a comma between them"),
        ("--judge ar/run --samples 0", "--samples must be at least 1, not 0"),
        ("--judge ar/run --sampler lada", "unknown sampler 'lada' (did you mean 'llada'?)"),
        ("--judge ar/run --data denoiser/text.txt", "--split is for a named corpus"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(
    flags: str, message: str, models: Path, tzd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    result = tzd("report", "denoiser/run", *flags.split(), "--out", tmp_path / "out")
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
