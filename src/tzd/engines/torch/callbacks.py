"""The course of a run, and the signals that end it, as Lightning calls them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, distributed

from tzd.checkpoint import Checkpoint, RunFolder
from tzd.engines.torch.checkpoint_io import TzdCheckpointIO
from tzd.engines.torch.denoiser import TorchDenoiser, set_weights
from tzd.engines.torch.module import DiffusionModule
from tzd.engines.torch.sharded import ShardedStrategy
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
        # A sharded network computes in all processes at once or not at all, but each measures its own share of the
        # windows, and one alone writes texts: they do so with a whole one.
        self._whole = copy.deepcopy(module.network) if isinstance(trainer.strategy, ShardedStrategy) else None
        self._group: Any = None

    def meet(self) -> None:
        """Has the processes meet on the host too, so that what they say to each other waits for no device."""
        if self.trainer.world_size > 1:
            on_host = distributed.get_backend() == "gloo"
            self._group = distributed.group.WORLD if on_host else distributed.new_group(backend="gloo")

    @contextmanager
    def measured(self) -> Iterator[TorchDenoiser]:
        """The denoiser as it is now, with averaged weights where averages are kept."""
        if self._whole is None:
            with averaged(self.module):
                yield self.module.denoiser(self.module.network)
            return
        self._whole.load_state_dict(self.module.weights())
        yield self.module.denoiser(self._whole)
        self._whole.cpu()

    def at(self, checkpoint: Checkpoint) -> TorchDenoiser:
        """The denoiser with the weights of a checkpoint, once training is over."""
        network = self.module.network if self._whole is None else self._whole
        set_weights(network, checkpoint.weights)
        return self.module.denoiser(network)

    def save(self, path: Path | None, validation: Mapping[str, float | None]) -> None:
        """Has Lightning write a checkpoint; the processes without a path take part where weights are sharded."""
        self.checkpoint_io.validation = validation
        self.trainer.save_checkpoint(path or "")

    def rates(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the last step."""
        groups = self.module.optimizers(use_pl_optimizer=False).param_groups
        return {"lr": groups[-1]["lr"], "grad_norm": float(self.module.grad_norm)}

    @property
    def reduce(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Sums an array over all processes; None in a single one."""
        return self._summed if self._group is not None else None

    def _summed(self, values: np.ndarray) -> np.ndarray:
        sent = torch.from_numpy(np.array(values))
        distributed.all_reduce(sent, group=self._group)
        return sent.numpy()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over all processes, on their devices."""
        return self.trainer.strategy.reduce(value, reduce_op="mean")

    def any(self, said: bool) -> bool:
        """Whether any process says so."""
        return said if self._group is None else bool(self._summed(np.array([said], np.int64))[0])


class CourseCallback(L.Callback):
    """Tells a course what happens, and Lightning when to stop.

    Args:
        task: what is trained.
        trainee: what trains it.
        run: where checkpoints go; None in a process that writes nothing.
        loggers: where metrics and samples go.
        resumed: whether the run goes on from a checkpoint.
    """

    def __init__(
        self, task: Task, trainee: TorchTrainee, run: RunFolder | None, loggers: Sequence[Logger], *, resumed: bool
    ) -> None:
        rank = trainee.trainer.global_rank
        self.signals = Signals(say=rank == 0)
        self.course = Course(task, trainee, run, loggers, rank)
        self.trainee = trainee
        self.resumed = resumed
        self._loss: Any = 0.0  # of the passes of the step that is under way

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

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Has the processes meet, before any of them does what may fail; listens for signals in Lightning's place.

        Lightning, which would begin to listen a moment later, leaves by an exception once it has heard one, and tells
        the other processes of it wherever they are.
        """
        self.trainee.meet()
        self.signals.open()
        trainer._signal_connector.register_signal_handlers = lambda: None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begins."""
        self.course.begin(trainer.global_step, resumed=self.resumed)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the loss; after an optimizer step, does what is due."""
        self._loss = self._loss + outputs["loss"].detach()  # divided by the passes that a step accumulates
        if trainer.global_step == self.course.step:
            return  # still accumulating
        self.course.add_loss(self.trainee.mean(self._loss))
        self._loss = 0.0
        self.course.after_step(trainer.global_step, leave=self.trainee.any(self.signals.received is not None))
        trainer.should_stop = self.course.leaving

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Gives the signals back."""
        self.signals.close()
