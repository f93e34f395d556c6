"""What is said of a run that cannot begin, go on or be shown, word by word."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refusals import told
from runs import config_in
from tzd.errors import ConfigError
from tzd.training import run as runs
from tzd.training.course import Course
from tzd.training.records import read_metrics
from tzd.training.task import Task, make_task


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def task(**changes: Any) -> Task:
    return make_task(config_in(Path("run"), {key.replace("__", "."): value for key, value in changes.items()}))


def standing_at(step: int) -> Any:
    """A run folder, as far as it is asked for its last checkpoint."""
    last = Path(f"folder/step-{step:08}")
    return SimpleNamespace(path=Path("folder"), resolve=lambda pointer: last, is_finished=lambda at: True)


def test_a_run_that_cannot_be_gone_on_with_is_told_word_by_word() -> None:
    Path("empty").mkdir()
    assert told(lambda: runs.open_run(task(training__resume="nowhere"))) == (
        "training.resume=nowhere is no folder: give a run folder, or true for the latest run"
    )
    assert told(lambda: runs.open_run(task(training__resume="empty"))) == (
        "there is nothing to resume in empty: it holds no checkpoint (training.resume)"
    )
    assert told(lambda: runs.checkpoint_to_resume(task(training__resume="folder"), standing_at(6))) == (
        "folder is at step 6 of 6: raise training.max_steps or epochs to go on"
    )
    assert told(lambda: runs.checkpoint_to_resume(task(), standing_at(3))) == (
        "folder holds a run by now: resume it, or start a run of another name"
    )


def test_an_export_that_would_replace_something_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.npz").touch()
    exported = task(tokenizer__name="byte", training__export_to="a.npz")
    assert told(lambda: runs.open_run(exported)) == (
        "a.npz exists, and the run would overwrite it: name another file (training.export_to)"
    )
    resumed = task(tokenizer__name="byte", training__export_to="a.npz", training__resume="folder")
    saved = SimpleNamespace(config=resumed.describe(3), section=lambda name: {"run": {}})
    monkeypatch.setattr(runs, "read_checkpoint", lambda path: saved)
    assert told(lambda: runs.checkpoint_to_resume(resumed, standing_at(3))) == (
        "a.npz exists, and is not what folder exports to: name another (training.export_to)"
    )
    assert told(lambda: runs.first_weights(exported, None, {}, own=True)) == (
        "training.export_to writes the 'tiny' architecture, not a module of your own: leave it out"
    )


def test_weights_that_a_run_cannot_begin_with_are_told_word_by_word() -> None:
    begun = task(training__first_step=6, training__init_from="w.npz")
    initial: Any = SimpleNamespace(source="w.npz", config={"tokenizer": begun.tokenizer.describe()})
    assert told(lambda: runs.first_weights(begun, initial, {}, own=False)) == (
        "training.first_step=6 is not before the last of 6 steps: raise training.max_steps or epochs"
    )
    config: Any = SimpleNamespace(model=SimpleNamespace(litgpt={"n_layer": 1}))
    assert told(lambda: runs._check_pretrained(initial, {}, config)) == (
        "model.litgpt={'n_layer': 1}: w.npz says its architecture itself; leave it out"
    )


OTHERS: list[tuple[str, Any, str]] = [
    (
        "model.n_embd",
        32,
        "c was trained with model n_embd=32, not 16: resume with the settings of that run, or start a new one",
    ),
    (
        "provenance.run.training.optimizer",
        "sgd",
        "c was trained with training.optimizer=sgd, whose state muon cannot take: resume with that optimizer, or start"
        " a new run",
    ),
    (
        "provenance.run.engine.name",
        "mlx",
        "c was trained with engine=mlx, whose state torch cannot take: resume with that engine, or begin a new run with"
        " its weights (training.init_from)",
    ),
    ("provenance.seed", 7, "c was trained with another seed: resume with the settings of that run"),
]


@pytest.mark.parametrize(("key", "value", "line"), OTHERS)
def test_a_checkpoint_of_another_run_is_told_word_by_word(key: str, value: Any, line: str) -> None:
    now = task(engine__name="torch", training__optimizer="muon")
    saved = copy.deepcopy(now.describe(3))
    now.check_same_run(saved, "c")
    *groups, name = key.split(".")
    group: Any = saved
    for part in groups:
        group = group[part]
    group[name] = value
    with pytest.raises(ConfigError) as refused:
        now.check_same_run(saved, "c")
    assert str(refused.value) == line


def test_a_denoiser_that_is_told_the_time_learns_no_pairs() -> None:
    Path("pairs.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' * 40)
    pairs = {"data__name": "pairs", "data__path": "pairs.jsonl", "tokenizer__name": "byte"}
    assert told(lambda: task(**pairs, model__time_steps=8)) == (
        "data=pairs needs a denoiser that is not told the time: set model.time_steps=0"
    )


def test_a_loss_that_is_no_number_is_told_word_by_word() -> None:
    course = Course(task(), None, None, ())  # type: ignore[arg-type]  # which is asked for nothing
    course.step = 3
    assert told(lambda: course._stop_not_finite(math.nan)) == (
        "the loss is nan at step 3; no checkpoint was written yet. Lower model.lr and training.muon_lr, or lengthen"
        " training.warmup_steps"
    )


def test_metrics_that_are_no_numbers_are_told_word_by_word() -> None:
    Path("metrics.csv").write_text("step,epoch\n1,many\n")
    assert told(lambda: read_metrics(Path())) == (
        "metrics.csv holds a cell that is no number: could not convert string to float: 'many'; remove the line"
    )
