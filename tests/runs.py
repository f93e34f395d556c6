"""Training runs that take a moment: a small text, a smaller model."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tzd
from tzd.checkpoint import RunFolder
from tzd.config import RunConfig, run_config
from tzd.training.records import read_rows
from tzd.training.task import Task

WORDS = ("apple ", "banana ", "cherry ", "damson ")
TEXT = "".join(WORDS[i] for i in np.random.default_rng(0).integers(0, 4, 1500))
SMALL: dict[str, dict[str, Any]] = {
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 24, "lr": 3e-3},
    "data": {"name": "text", "batch_size": 8, "block_size": 24},
    "objective": {"name": "nelbo"},
    "training": {
        "max_steps": 6,
        "warmup_steps": 2,
        "muon_lr": 0.02,
        "eval_interval": 3,
        "val_windows": 8,
        "val_generation_freq": 0,
        "test": False,
        "log_every_n_steps": 1,
        "precision": "32-true",
        "accelerator": "cpu",
    },
}
NOT_ALIKE = {"seconds", "tokens_per_second"}  # columns that tell the time of day


def config_in(folder: Path, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """SMALL with changes, "training.max_steps" and the like; text and runs lie in the folder."""
    folder.mkdir(exist_ok=True)
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(TEXT)
    values: dict[str, Any] = {group: dict(settings) for group, settings in SMALL.items()}
    values["data"]["path"] = str(text)
    values["training"]["save_dir"] = str(folder)
    values["logger"] = {"name": "run"}
    for key, value in (changes or {}).items():
        group, _, name = key.rpartition(".")
        (values.setdefault(group, {}) if group else values)[name] = value
    return run_config(values)


def train(
    folder: Path, changes: Mapping[str, Any] | None = None, denoiser: Any = None, engine: str = "torch"
) -> RunFolder:
    checkpoint = tzd.train(config_in(folder, {"engine.name": engine, **(changes or {})}), denoiser=denoiser)
    assert checkpoint is not None
    return RunFolder(checkpoint.parent)


def weights(run: RunFolder, pointer: str = "last") -> dict[str, np.ndarray]:
    checkpoint = run.resolve(pointer)
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def assert_same_weights(a: RunFolder, b: RunFolder) -> None:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def rows(run: RunFolder) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in NOT_ALIKE} for row in read_rows(run.path / "metrics.csv")]


def send_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Has the process receive a signal while the batch of that step is made."""
    original = Task.noised

    def noised(self: Task, at: int) -> Any:
        if at == step:
            os.kill(os.getpid(), number)
        return original(self, at)

    monkeypatch.setattr(Task, "noised", noised)


def spoil_from(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Makes the loss of every batch from a step on not a number."""
    original = Task.noised

    def spoiled(self: Task, at: int) -> Any:
        noised = original(self, at)
        return replace(noised, weight=noised.weight * np.float32("nan")) if at >= step else noised

    monkeypatch.setattr(Task, "noised", spoiled)
