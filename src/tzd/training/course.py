"""The course of a run, the same for every engine: what is due after which step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tzd.checkpoint import RunFolder, read_checkpoint, write_npz
from tzd.diffusion.denoiser import Denoiser
from tzd.errors import TzdError
from tzd.training.records import Logger
from tzd.training.samples import validation_samples
from tzd.training.task import Task


class Trainee(Protocol):
    """What a course needs of the engine that trains."""

    def measured(self) -> AbstractContextManager[Denoiser]:
        """The denoiser as it is now, with averaged weights where averages are kept."""
        ...

    def save(self, path: Path, validation: Mapping[str, float | None]) -> None:
        """Writes a checkpoint of this step; `validation` is the last measurement."""
        ...

    def rates(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the last step."""
        ...

    @property
    def reduce(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Sums an array over all processes; None in a single one."""
        ...


class Course:
    """A row of metrics, a validation, a checkpoint, each at its step, and leaving in good order.

    Args:
        task: what is trained.
        trainee: what trains it.
        run: where checkpoints go; None in a process that writes nothing.
        loggers: where metrics and samples go.
        rank: which process this is.

    Attributes:
        step: optimizer steps done.
        leaving: whether the run ends here, before its last step.
    """

    def __init__(
        self,
        task: Task,
        trainee: Trainee,
        run: RunFolder | None,
        loggers: Sequence[Logger],
        rank: int = 0,
    ) -> None:
        self.task, self.trainee, self.run, self.loggers = task, trainee, run, loggers
        self.rank = rank
        self.step = 0
        self.leaving = False
        self.validation: Mapping[str, float | None] = {}  # the last one; it goes with the weights it measures
        self.validations = 0
        self.best = math.inf
        self.losses = 0  # steps since the last row of metrics, and the sum of their losses
        self.loss_sum: Any = 0.0
        self.seconds = 0.0  # of training, without validation, before the last row of metrics
        self.clock = 0.0
        self.clock_step = 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs for its metrics to go on as if it had never stopped."""
        return {
            "validations": self.validations,
            "best": self.best,
            "losses": self.losses,
            "loss_sum": float(self.loss_sum),
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up such a state."""
        for name, value in state.items():
            setattr(self, name, value)

    def begin(self, step: int, *, resumed: bool) -> None:
        """Measures the model that a new run begins with, so that what training brings can be told."""
        self.step = step
        if not resumed:
            self._validate(trained=False)
        self._read_clock()

    def add_loss(self, loss: Any) -> None:
        """Counts the loss of a forward pass, or of the whole step; it need not be evaluated yet."""
        self.loss_sum = self.loss_sum + loss

    def after_step(self, step: int, *, leave: bool) -> None:
        """Does what is due after an optimizer step.

        Args:
            step: optimizer steps done.
            leave: whether the run is to be saved and left now.
        """
        self.step = step
        self.losses += 1
        training = self.task.config.training
        last = step >= self.task.total_steps
        self.leaving = leave and not last
        if last or step == 1 or step % training.log_every_n_steps == 0:
            self._log()
        validation_due = last or step % self.task.eval_interval == 0
        if validation_due or self.leaving or step % training.checkpoint_interval == 0:
            self.seconds += self._read_clock()[0]
            if validation_due:
                self._validate(trained=True)
            self._save(validated=validation_due)
            self._read_clock()  # validating and writing are no training

    def _save(self, *, validated: bool) -> None:
        """Writes a checkpoint of this step and lets the pointers follow."""
        if not math.isfinite(float(self.loss_sum)):
            self._stop_not_finite(float(self.loss_sum))
        if self.run is None:
            return
        path = self.run.checkpoint_path(self.step)
        self.trainee.save(path, self.validation)
        # `last` last: a run killed in between goes on from the step before, and comes to point `best` here again
        if validated and self.validation["nats_per_token"] == self.best:
            self.run.point("best", self.step)
        self.run.point("last", self.step)
        self.run.prune()
        if self.task.config.training.export_to is not None:
            write_npz(Path(self.task.config.training.export_to), read_checkpoint(path))

    def _read_clock(self) -> tuple[float, int]:
        """Seconds and steps since it was read before."""
        before, step_before = self.clock, self.clock_step
        self.clock, self.clock_step = time.perf_counter(), self.step
        return self.clock - before, self.step - step_before

    def _log(self) -> None:
        loss = float(self.loss_sum) / self.losses
        if not math.isfinite(loss):
            self._stop_not_finite(loss)
        elapsed, steps = self._read_clock()
        self.seconds += elapsed
        tokens = self.task.rows * self.task.config.data.block_size
        speed = tokens * steps / elapsed if elapsed else 0.0
        self._record(loss=loss, **self.trainee.rates(), tokens_per_second=speed)
        self.losses, self.loss_sum = 0, 0.0

    def _validate(self, *, trained: bool) -> None:
        freq = self.task.config.training.val_generation_freq
        with self.trainee.measured() as denoiser:
            bound = self.task.validate(denoiser, rank=self.rank, reduce=self.trainee.reduce)
            if not math.isfinite(bound.nats_per_token):
                self._stop_not_finite(bound.nats_per_token)
            due = self.loggers and freq and trained and self.validations % freq == 0
            texts = validation_samples(self.task, denoiser) if due else []
        if trained:  # what a run begins with is measured, but no checkpoint of it could be the best
            self.validations += 1
            self.best = min(self.best, bound.nats_per_token)
        numbers = {
            "nats_per_token": bound.nats_per_token,
            "stderr": bound.stderr,
            "bits_per_char": math.nan if bound.bits_per_char is None else bound.bits_per_char,
        }
        # JSON has no NaN; the step says which weights were measured, where a checkpoint is saved between validations
        valid = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        self.validation = {"step": self.step, **valid}
        self._record(**{f"val_{name}": value for name, value in numbers.items()})
        for logger in self.loggers:
            if texts:
                logger.log_samples(self.step, texts)

    def _record(self, **values: float) -> None:
        tokens = self.step * self.task.rows * self.task.config.data.block_size
        epoch = self.step * self.task.rows / self.task.data.examples.per_epoch
        row = {"step": self.step, "epoch": epoch, "tokens": tokens, "seconds": self.seconds, **values}
        for logger in self.loggers:
            logger.log(row)

    def _stop_not_finite(self, value: float) -> None:
        kept = self.run.resolve("last") if self.run else None
        where = f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"
        raise TzdError(
            f"the loss is {value} at step {self.step}; {where}. Lower model.lr and training.muon_lr, or lengthen"
            " training.warmup_steps"
        )
