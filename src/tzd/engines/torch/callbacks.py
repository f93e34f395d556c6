"""What happens beside the training step: metrics, validation, checkpoints, and leaving in good order."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning as L
import torch

from tzd.checkpoint import RunFolder
from tzd.engines.torch.checkpoint_io import TzdCheckpointIO
from tzd.engines.torch.module import DiffusionModule
from tzd.errors import TzdError
from tzd.training.records import Logger
from tzd.training.samples import validation_samples
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


class Signals(L.Callback):
    """Hears SIGINT and SIGTERM, so that a run is saved before it leaves; a second one ends it at once.

    Attributes:
        received: the signal's number, None until there is one.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Listens, in place of Lightning's own handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        os.write(2, b"\nstopping after this step; once more stops at once, and loses what was not saved\n")

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class Course(L.Callback):
    """The course of a run: a row of metrics, a validation, a checkpoint, each at its step, and leaving in good order.

    Args:
        task: what is trained.
        run: where checkpoints go.
        loggers: where metrics and samples go.
        checkpoint_io: writes checkpoints.
        signals: say when to save and leave.
    """

    def __init__(
        self,
        task: Task,
        run: RunFolder,
        loggers: Sequence[Logger],
        checkpoint_io: TzdCheckpointIO,
        signals: Signals,
    ) -> None:
        self.task, self.run, self.loggers, self.checkpoint_io = task, run, loggers, checkpoint_io
        self.signals = signals
        self.step = 0
        self.validations = 0
        self.best = math.inf
        self.losses = 0  # steps since the last row of metrics, and the sum of their losses
        self.loss_sum: torch.Tensor | float = 0.0
        self.seconds = 0.0  # of training, without validation, before the last row of metrics
        self.clock = 0.0
        self.clock_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs for its metrics to go on as if it had never stopped."""
        return {
            "validations": self.validations,
            "best": self.best,
            "losses": self.losses,
            "loss_sum": float(self.loss_sum),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Measures the untrained model, so that what training brings can be told."""
        assert isinstance(module, DiffusionModule)
        self.step = trainer.global_step
        if self.step == 0:
            self._validate(module)
        self._read_clock()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the loss; after an optimizer step, does what is due."""
        assert isinstance(module, DiffusionModule)
        self.loss_sum = self.loss_sum + outputs["loss"].detach()  # divided by the passes that a step accumulates
        if trainer.global_step == self.step:
            return  # still accumulating
        self.losses += 1
        self.step = trainer.global_step
        last = self.step >= self.task.total_steps
        if last or self.step == 1 or self.step % self.task.config.training.log_every_n_steps == 0:
            self._log(module)
        validation_due = last or self.step % self.task.eval_interval == 0
        leaving = self.signals.received is not None and not last
        if validation_due or leaving or self.step % self.task.config.training.checkpoint_interval == 0:
            self.seconds += self._read_clock()[0]
            if validation_due:
                self._validate(module)
            self._save(trainer, validated=validation_due)
            self._read_clock()  # validating and writing are no training
        trainer.should_stop = leaving

    def _save(self, trainer: L.Trainer, *, validated: bool) -> None:
        """Writes a checkpoint of this step and lets the pointers follow."""
        if not math.isfinite(float(self.loss_sum)):
            self._stop_not_finite(float(self.loss_sum))
        trainer.save_checkpoint(self.run.checkpoint_path(self.step))
        # `last` last: a run killed in between goes on from the step before, and comes to point `best` here again
        if validated and self.checkpoint_io.validation["nats_per_token"] == self.best:
            self.run.point("best", self.step)
        self.run.point("last", self.step)
        self.run.prune()

    def _read_clock(self) -> tuple[float, int]:
        """Seconds and steps since it was read before."""
        before, step_before = self.clock, self.clock_step
        self.clock, self.clock_step = time.perf_counter(), self.step
        return self.clock - before, self.step - step_before

    def _log(self, module: DiffusionModule) -> None:
        loss = float(self.loss_sum) / self.losses
        if not math.isfinite(loss):
            self._stop_not_finite(loss)
        elapsed, steps = self._read_clock()
        self.seconds += elapsed
        tokens = self.task.rows * self.task.config.data.block_size
        learning_rates = [group["lr"] for group in module.optimizers(use_pl_optimizer=False).param_groups]
        self._record(
            loss=loss,
            lr=learning_rates[-1],
            grad_norm=float(module.grad_norm),
            tokens_per_second=tokens * steps / elapsed if elapsed else 0.0,
        )
        self.losses, self.loss_sum = 0, 0.0

    def _validate(self, module: DiffusionModule) -> None:
        training = self.task.config.training
        with averaged(module):
            denoiser = module.denoiser()
            bound = self.task.validate(denoiser)
            if not math.isfinite(bound.nats_per_token):
                self._stop_not_finite(bound.nats_per_token)
            due = training.val_generation_freq and self.step and self.validations % training.val_generation_freq == 0
            texts = validation_samples(self.task.config, self.task.tokenizer, denoiser) if due else []
        if self.step:  # the untrained model is measured, but no checkpoint of it could be the best
            self.validations += 1
            self.best = min(self.best, bound.nats_per_token)
        numbers = {
            "nats_per_token": bound.nats_per_token,
            "stderr": bound.stderr,
            "bits_per_char": math.nan if bound.bits_per_char is None else bound.bits_per_char,
        }
        # JSON has no NaN; the step says which weights were measured, where a checkpoint is saved between validations
        valid = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        self.checkpoint_io.validation = {"step": self.step, **valid}
        self._record(**{f"val_{name}": value for name, value in numbers.items()})
        for logger in self.loggers:
            if texts:
                logger.log_samples(self.step, texts)

    def _record(self, **values: float) -> None:
        tokens = self.step * self.task.rows * self.task.config.data.block_size
        epoch = self.step * self.task.rows / self.task.windows.per_epoch
        row = {"step": self.step, "epoch": epoch, "tokens": tokens, "seconds": self.seconds, **values}
        for logger in self.loggers:
            logger.log(row)

    def _stop_not_finite(self, value: float) -> None:
        kept = self.run.resolve("last")
        where = f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"
        raise TzdError(
            f"the loss is {value} at step {self.step}; {where}. Lower model.lr and training.muon_lr, or lengthen"
            " training.warmup_steps"
        )
