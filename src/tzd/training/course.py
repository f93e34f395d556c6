"""The course of a run, the same for every engine: what is due after which step."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tzd.checkpoint import Checkpoint, RunFolder, read_checkpoint, write_npz
from tzd.diffusion.denoiser import Denoiser
from tzd.diffusion.likelihood import Nelbo
from tzd.errors import TzdError
from tzd.training.records import Logger, Phase
from tzd.training.samples import test_samples, validation_samples
from tzd.training.task import Task


class Trainee(Protocol):
    """What a course needs of the engine that trains."""

    def measured(self) -> AbstractContextManager[Denoiser]:
        """The denoiser as it is now, with averaged weights where averages are kept."""
        ...

    def save(self, path: Path | None, validation: Mapping[str, float | None]) -> None:
        """Writes a checkpoint of this step; `validation` is the last measurement.

        Every process is told at once; `path` is None in those that write nothing.
        """
        ...

    def at(self, checkpoint: Checkpoint) -> Denoiser:
        """The denoiser with the weights of a checkpoint, once training is over."""
        ...

    def rates(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the last step."""
        ...

    @property
    def reduce(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Sums an array over all processes; None in a single one."""
        ...


class NotFiniteError(TzdError):
    """The loss is not finite: every process finds out at the same step, and the first one speaks for all."""


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
        self.top: list[list[float]] = []  # (bound, step) of the best checkpoints, the best first
        self.rows = 0  # seen; batches may have had another size before the run was resumed
        self.losses = 0  # steps since the last row of metrics, and the sum of their losses
        self.loss_sum: Any = 0.0
        self.seconds = 0.0  # of training, without validation, before the last row of metrics
        self.clock = 0.0
        self.clock_step = 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs for its metrics to go on as if it had never stopped."""
        return {
            "validations": self.validations,
            "top": self.top,
            "rows": self.rows,
            "losses": self.losses,
            "loss_sum": float(self.loss_sum),
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up such a state."""
        for name in self.state().keys() & state.keys():
            setattr(self, name, state[name])

    def begin(self, step: int, *, resumed: bool) -> None:
        """Measures the model that a new run begins with, so that what training brings can be told."""
        self.step = step
        if resumed:
            self._settle()
        else:
            self.rows = step * self.task.rows
            self._validate(trained=False)
        self._read_clock()

    def add_loss(self, loss: Any) -> None:
        """Counts the loss of a step's global batch, or of a part of it; it need not be evaluated yet."""
        self.loss_sum = self.loss_sum + loss

    def after_step(self, step: int, *, leave: bool) -> None:
        """Does what is due after an optimizer step.

        Args:
            step: optimizer steps done.
            leave: whether the run is to be saved and left now.
        """
        self.step = step
        self.losses += 1
        self.rows += self.task.rows
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

    def _settle(self) -> None:
        """Has the run's folder be as it was at this step: the run may have died between one name and the next."""
        if self.run is None:
            return
        there = [int(step) for _, step in self.top if self.run.checkpoint_path(int(step)).is_dir()]
        self.run.point("best", there[0] if there else None)
        self.run.prune(there)

    def _save(self, *, validated: bool) -> None:
        """Writes a checkpoint of this step and lets the pointers follow."""
        if not math.isfinite(float(self.loss_sum)):
            self._stop_not_finite(float(self.loss_sum))
        # this step's loss was that of the weights before it: its gradient tells whether they are still good
        norm = self.trainee.rates()["grad_norm"]
        if (
            not math.isfinite(norm) and self.task.config.training.precision != "16-mixed"
        ):  # where such steps are skipped
            self._stop_not_finite(norm, "the norm of the gradient")
        if self.run is not None:
            self.run.check_held()
        path = self.run.checkpoint_path(self.step) if self.run is not None else None
        self.trainee.save(path, self.validation)
        if self.run is None or path is None:
            return
        # `last` last: a run killed in between goes on from the step before, and comes to point `best` here again
        if validated:
            self.run.point("best", int(self.top[0][1]))
        self.run.point("last", self.step)
        self.run.prune([int(step) for _, step in self.top])
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
            self._rank(bound.nats_per_token)
        numbers = self._report("val", bound)
        # JSON has no NaN; the step says which weights were measured, where a checkpoint is saved between validations
        valid = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        self.validation = {"step": self.step, **valid}
        for logger in self.loggers:
            if texts:
                logger.log_samples(self.step, texts)

    def _rank(self, bound: float) -> None:
        """Finds this step its place among the best that are there; of two equal ones the earlier is better."""
        run, most = self.run, self.task.config.training.save_top_k
        there = [best for best in self.top if run is None or run.checkpoint_path(int(best[1])).is_dir()]
        top = sorted([*there, [bound, self.step]])
        self.top = top if most == -1 else top[:most]

    def finish(self, *, leave: bool) -> None:
        """What a run ends with, in the process that writes: the best checkpoint's bound and its texts.

        A run that was stopped here, or died, has made its steps, and comes here at once when it is resumed.

        Args:
            leave: whether the run was told to end, as may be in its very last step.
        """
        if self.run is None or self.leaving or leave:
            return
        self.step = self.task.total_steps
        self._settle()
        if self.run.resolve("best") is None:  # somebody has removed it, and the next best is not known any more
            self.run.point("best", self.step)
        if self.task.config.training.test:
            self._test(self.run)
        self.run.point("finished", self.step)

    def _test(self, run: RunFolder) -> None:
        print("testing the best checkpoint (training.test=false leaves this out)", file=sys.stderr)
        best = run.resolve("best")
        assert best is not None  # a run that is finished has validated
        denoiser = self.trainee.at(read_checkpoint(best))
        bound = self.task.test(denoiser)
        if bound is not None:
            self._report("test", bound)
        samples = test_samples(self.task, denoiser)
        for logger in self.loggers:
            logger.log_samples(self.step, samples, "test")

    def _report(self, phase: Phase, bound: Nelbo) -> dict[str, float]:
        numbers = {
            "nats_per_token": bound.nats_per_token,
            "stderr": bound.stderr,
            "bits_per_char": math.nan if bound.bits_per_char is None else bound.bits_per_char,
        }
        self._record(**{f"{phase}_{name}": value for name, value in numbers.items()})
        return numbers

    def _record(self, **values: float) -> None:
        tokens = self.rows * self.task.config.data.block_size
        epoch = self.rows / self.task.data.examples.per_epoch
        row = {"step": self.step, "epoch": epoch, "tokens": tokens, "seconds": self.seconds, **values}
        if self.run is not None:
            self.run.check_held()
        for logger in self.loggers:
            logger.log(row)

    def _stop_not_finite(self, value: float, what: str = "the loss") -> None:
        kept = self.run.resolve("last") if self.run else None
        where = f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"
        raise NotFiniteError(
            f"{what} is {value} at step {self.step}; {where}. Lower model.lr and training.muon_lr, or lengthen"
            " training.warmup_steps"
        )
