"""What a run trains on: its batches, its length, its validation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from runs import config_in
from tzd.corpus import Windows, open_corpus
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.engines.torch.data import NoisedBatches
from tzd.training.task import Task, make_task


def task_for(folder: Path, **training: Any) -> Task:
    return make_task(config_in(folder, {f"training.{name}": value for name, value in training.items()}))


def test_epochs_last_until_every_window_was_seen_and_max_steps_decide_where_given(tmp_path: Path) -> None:
    task = task_for(tmp_path, max_steps=None, epochs=2.5)
    assert task.steps_per_epoch == math.ceil(task.data.examples.per_epoch / 8)
    assert task.total_steps == math.ceil(2.5 * task.steps_per_epoch)
    assert task_for(tmp_path, max_steps=7, epochs=2.5).total_steps == 7
    accumulated = task_for(tmp_path, max_steps=None, epochs=1.0, gradient_accumulation_steps=3)
    assert accumulated.total_steps == accumulated.steps_per_epoch == math.ceil(task.data.examples.per_epoch / 24)


def test_validations_come_at_steps_or_at_shares_of_an_epoch(tmp_path: Path) -> None:
    def interval(**training: Any) -> int:
        return task_for(tmp_path, **{"eval_interval": None, **training}).eval_interval

    per_epoch = task_for(tmp_path).steps_per_epoch
    assert interval() == interval(val_check_interval=1.0) == per_epoch
    assert interval(val_check_interval=0.5) == round(per_epoch / 2)
    assert interval(val_check_interval=1e-9) == interval(val_check_interval=1) == 1
    assert interval(val_check_interval=50) == 50
    assert interval(eval_interval=9, val_check_interval=50) == 9


def test_validation_windows_are_not_in_the_training_text_and_score_alike_every_time(tmp_path: Path) -> None:
    task = task_for(tmp_path, val_windows=5, val_draws=3)
    splits = open_corpus("text", path=task.config.data.path).splits
    validation = task.tokenizer.encode(splits["validation"])
    examples = task.data.examples
    assert isinstance(examples, Windows) and len(task.tokenizer.encode(splits["train"])) == len(examples.tokens)
    assert [group.shape for group in task.data.validation] == [(5, 24)]
    cut = validation[: len(validation) // 24 * 24].reshape(-1, 24).tolist()
    assert all(row in cut for row in task.data.validation[0].tolist())
    oracle = FunctionDenoiser(lambda x: np.random.default_rng(x.sum()).normal(size=(*x.shape, 15)), 15, 24)
    first, second = task.validate(oracle), task.validate(oracle)
    assert first == second and (first.draws, first.tokens) == (3, 120)
    assert first.bits_per_char == pytest.approx(first.nats_per_token / math.log(2))  # a token is a character


def test_noise_is_a_function_of_the_step(tmp_path: Path) -> None:
    task, other = task_for(tmp_path), task_for(tmp_path)
    for step in (0, 3):
        a, b = task.noised(step), other.noised(step)
        assert all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    assert not np.array_equal(task.noised(0).x_t, task.noised(3).x_t)


def test_what_a_checkpoint_says_of_its_run_is_plain_data(tmp_path: Path) -> None:
    task = task_for(tmp_path)
    said = task.describe(12)
    assert json.loads(json.dumps(said)) == said
    assert said["model"]["model_type"] == "tiny" and said["model"]["vocab_size"] == task.tokenizer.vocab_size
    assert said["provenance"]["step"] == 12 and said["provenance"]["corpus_sha256"] == task.data.sha256


def test_workers_hand_out_the_batches_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(config_in(tmp_path, {"training.gradient_accumulation_steps": 3}))

    def first(count: int, worker: int = 0, workers: int = 1) -> list[Tensor]:
        class Info:
            id, num_workers = worker, workers

        monkeypatch.setattr("tzd.engines.torch.data.get_worker_info", lambda: Info if workers > 1 else None)
        batches = iter(NoisedBatches(task, first_step=2, rank=0))
        return [next(batches)[1] for _ in range(count)]

    alone, halves = first(8), [first(4, worker, 2) for worker in range(2)]
    assert all(torch.equal(batch, halves[i % 2][i // 2]) for i, batch in enumerate(alone))
    whole = torch.from_numpy(task.noised(2).x_t)
    assert torch.equal(torch.cat(alone[:3]), whole.long())


def test_bits_per_character_do_not_suffer_from_characters_cut_by_windows(tmp_path: Path) -> None:
    config = config_in(tmp_path, {"tokenizer.name": "byte", "training.val_windows": 0})
    (tmp_path / "text.txt").write_text("日本語の文章です。" * 400, encoding="utf-8")
    task = make_task(config)
    uniform = FunctionDenoiser(lambda x: np.zeros((*x.shape, 256)), 256, 24)
    assert task.validate(uniform).bits_per_char == pytest.approx(3 * 8)  # three bytes a character, eight bits each
