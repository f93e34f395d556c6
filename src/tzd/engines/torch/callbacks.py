"""The course of a run, and the signals that end it, as Lightning calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from tzd.checkpoint import RunFolder
from tzd.engines.torch.checkpoint_io import TzdCheckpointIO
from tzd.engines.torch.denoiser import TorchDenoiser
from tzd.engines.torch.module import DiffusionModule
from tzd.training.course import Course
from tzd.training.records import Logger
from tzd.training.signals import Signals
from tzd.training.task import Task


@contextmanager
def averaged(module: DiffusionModule) -> Iterator[None]:
    """The network with its averages in place of its weights, where averages are kept."""
    parameters = module.named_weights()
    kept = {name: parameters[name].detach().clone() for name in module.average}
    with torch.no_grad():
        for name, value in module.average.items():
            parameters[name].copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)


class TorchTrainee:
    """Implements `tzd.training.course.Trainee`.

    Args:
        trainer: Lightning's.
        module: what it trains.
        checkpoint_io: writes checkpoints.
    """

    def __init__(self, trainer: L.Trainer, module: DiffusionModule, checkpoint_io: TzdCheckpointIO) -> None:
        self.trainer, self.module, self.checkpoint_io = trainer, module, checkpoint_io

    @contextmanager
    def measured(self) -> Iterator[TorchDenoiser]:
        """The denoiser as it is now, with averaged weights where averages are kept."""
        with averaged(self.module):
            yield self.module.denoiser()

    def save(self, path: Path, validation: Mapping[str, float | None]) -> None:
        """Has Lightning write a checkpoint."""
        self.checkpoint_io.validation = validation
        self.trainer.save_checkpoint(path)

    def rates(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the last step."""
        groups = self.module.optimizers(use_pl_optimizer=False).param_groups
        return {"lr": groups[-1]["lr"], "grad_norm": float(self.module.grad_norm)}

    @property
    def reduce(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """One process trains."""
        return None


class CourseCallback(L.Callback):
    """Tells a course what happens, and Lightning when to stop.

    Args:
        task: what is trained.
        trainee: what trains it.
        run: where checkpoints go.
        loggers: where metrics and samples go.
        resumed: whether the run goes on from a checkpoint.
    """

    def __init__(
        self, task: Task, trainee: TorchTrainee, run: RunFolder, loggers: Sequence[Logger], *, resumed: bool
    ) -> None:
        self.signals = Signals()
        self.course = Course(task, trainee, run, loggers)
        self.resumed = resumed

    @property
    def state_key(self) -> str:
        """Under which Lightning keeps the state."""
        return "Course"

    def state_dict(self) -> dict[str, Any]:
        """The course's state, for a checkpoint."""
        return self.course.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.course.restore(state_dict)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Listens for signals, in place of Lightning's own handlers, and begins."""
        self.signals.open()
        self.course.begin(trainer.global_step, resumed=self.resumed)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the loss; after an optimizer step, does what is due."""
        self.course.add_loss(outputs["loss"].detach())  # divided by the passes that a step accumulates
        if trainer.global_step == self.course.step:
            return  # still accumulating
        self.course.after_step(trainer.global_step, leave=self.signals.received is not None)
        trainer.should_stop = self.course.leaving

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Gives the signals back."""
        self.signals.close()
