"""What is said of a network, a run or a setting that the MLX engine cannot use, word by word."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refusals import told
from tzd.config import TinyConfig, TrainingSettings
from tzd.errors import InterruptedRunError

mx = pytest.importorskip("mlx.core")

from mlx import nn  # noqa: E402

from tzd.engines.mlx import train as training  # noqa: E402
from tzd.engines.mlx.denoiser import MlxDenoiser, load_denoiser  # noqa: E402
from tzd.engines.mlx.learner import AbandonedError, Learner  # noqa: E402
from tzd.engines.mlx.trainee import MlxTrainee  # noqa: E402

ANY: Any = SimpleNamespace()
TIMED = TinyConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=16, block_size=12, time_steps=8)
CANVAS = np.zeros((3, 12), dtype=np.int32)


class Own(nn.Module):
    """A module that takes tokens alone, and has nothing that could be trained."""

    def __call__(self, tokens: Any) -> Any:
        return mx.zeros((*tokens.shape, 11))


def settings(workers: int = 0, **changes: Any) -> Callable[[], Any]:
    return lambda: training.check_settings(TrainingSettings(**changes), workers)


SAID: list[tuple[Callable[[], Any], str]] = [
    (
        settings(devices=2, strategy="ddp"),
        "training.devices=2, num_nodes=1, strategy=ddp: leave these out; MLX starts processes by its own launcher"
        " (mlx.launch -n 2 -- tzd train engine=mlx ...)",
    ),
    (
        settings(precision="16-mixed"),
        "training.precision=16-mixed: MLX trains in float32 (32-true) or bfloat16 (bf16-mixed)",
    ),
    (settings(2), "data.num_workers=2: on MLX the training process makes its batches; set it to 0"),
    (
        lambda: training._trainee(ANY, ANY, None, ANY),
        "engine=mlx trains an mlx.nn.Module, not a SimpleNamespace (denoiser=)",
    ),
    (
        lambda: Learner(ANY, Own(), ANY, dtype=None, compiled=False),
        "Own has nothing to train: all of it is frozen",
    ),
    (
        lambda: load_denoiser(TIMED, {}, context_len=0, where=Path("c"), network=Own(), precision="int8"),
        "precision=int8 is for models of the package's own, not for a network that is given",
    ),
    (
        lambda: MlxDenoiser(Own(), TIMED).forward(CANVAS, t=np.zeros(3)),
        "Own.__call__ has no argument 't', which is needed here",
    ),
    (
        lambda: MlxDenoiser(Own(), TIMED).forward(CANVAS, attention=np.ones((3, 11), bool)),
        "attention must be (B, L) or (B, L, L), not (3, 11) for tokens (3, 12)",
    ),
]


@pytest.mark.parametrize(("call", "line"), SAID, ids=[line[:60] for _, line in SAID])
def test_what_the_engine_cannot_use_is_told_word_by_word(call: Callable[[], Any], line: str) -> None:
    assert told(call) == line


def test_a_device_that_is_not_here_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "is_available", lambda device: False)
    assert told(lambda: training.choose_device("gpu")) == "training.accelerator=gpu: MLX has no such device here"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Runs the training whose course is given."""
    run = SimpleNamespace(path=Path("runs/a"), lock=nullcontext)
    monkeypatch.setattr(training, "check_samplers", lambda config: None)
    monkeypatch.setattr(training, "make_task", lambda *args, **options: ANY)
    monkeypatch.setattr(training, "_trainee", lambda *args: ANY)
    monkeypatch.setattr(training, "open_run", lambda task: run)
    config: Any = SimpleNamespace(training=TrainingSettings(accelerator="cpu"), data=SimpleNamespace(num_workers=0))

    def train(course: Callable[[], Any]) -> Any:
        monkeypatch.setattr(training, "_fit", lambda *args: course())
        return training.train(config, lambda *args: [], Own())

    return train


def test_a_run_that_was_stopped_says_how_it_goes_on(running: Callable[[Callable[[], Any]], Any]) -> None:
    with pytest.raises(InterruptedRunError) as stopped:
        running(lambda: (SimpleNamespace(step=7, leaving=True), None))
    assert stopped.value.exit_code == 143 and str(stopped.value) == (
        "stopped and saved at step 7; to go on, repeat the command with training.resume=runs/a"
    )


def test_a_run_that_another_process_gave_up_says_so(running: Callable[[Callable[[], Any]], Any]) -> None:
    def abandoned() -> Any:
        raise AbandonedError

    assert told(lambda: running(abandoned)) == "another process has given up: see what it says"


def test_a_checkpoint_that_cannot_be_resumed_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.engines.mlx.trainee.check_weights", lambda *args: None)
    task = SimpleNamespace(config=SimpleNamespace(training=TrainingSettings()), check_same_run=lambda *args: None)
    learner: Any = SimpleNamespace(task=task, network=Own(), weights={"head.weight": 0})
    trainee = MlxTrainee(learner)
    saved: Any = SimpleNamespace(folder=Path("c"), config={}, weights={}, training_state=lambda: None)
    assert told(lambda: trainee.restore(saved)) == (
        "c holds a model but no training state: begin a new run with its weights (training.init_from)"
    )
    saved.training_state = lambda: {"moments": {}}
    assert told(lambda: trainee.restore(saved)) == (
        "c was trained with head.weight frozen: resume with the same weights frozen"
    )
