"""A training run on MLX, from a configuration to a checkpoint folder."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlx.core as mx
from mlx import nn

from tzd.checkpoint import Checkpoint, RunFolder, read_checkpoint
from tzd.config import RunConfig, TrainingSettings
from tzd.engines.mlx.denoiser import build, set_weights, weight_shapes
from tzd.engines.mlx.learner import AbandonedError, Learner
from tzd.engines.mlx.streams import hint
from tzd.engines.mlx.trainee import MlxTrainee
from tzd.errors import ConfigError, InterruptedRunError, TzdError, UserError, is_out_of_memory
from tzd.training.course import Course, NotFiniteError
from tzd.training.memory import check_memory
from tzd.training.records import Logger
from tzd.training.run import checkpoint_to_resume, first_weights, initial_architecture, open_run
from tzd.training.samples import check_samplers
from tzd.training.signals import Signals
from tzd.training.task import Task, make_task

# Floating-point operations of a run from which on compiling repays the seconds that a CPU takes for it.
_COMPILE_FROM = 1e14

MakeLoggers = Callable[[RunFolder, int | None, int], Sequence[Logger]]


def check_settings(settings: TrainingSettings, workers: int) -> None:
    """ConfigError for settings that Lightning has and MLX does not."""
    if settings.devices not in ("auto", 1, "1") or settings.num_nodes != 1 or settings.strategy != "auto":
        raise ConfigError(
            f"training.devices={settings.devices}, num_nodes={settings.num_nodes}, strategy={settings.strategy}:"
            " leave these out; MLX starts processes by its own launcher (mlx.launch -n 2 -- tzd train engine=mlx ...)"
        )
    if str(settings.precision) in ("64-true", "16-mixed"):
        raise ConfigError(
            f"training.precision={settings.precision}: MLX trains in float32 (32-true) or bfloat16 (bf16-mixed)"
        )
    if workers:
        raise ConfigError(f"data.num_workers={workers}: on MLX the training process makes its batches; set it to 0")


def choose_device(accelerator: str) -> mx.Device:
    """The device that `training.accelerator` means."""
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"training.accelerator={accelerator}: MLX knows auto, cpu and gpu")
    if accelerator == "auto":
        return mx.default_device()
    device = mx.Device(mx.cpu if accelerator == "cpu" else mx.gpu)
    if not mx.is_available(device):
        raise ConfigError(f"training.accelerator={accelerator}: MLX has no such device here")
    return device


@contextmanager
def on_device(device: mx.Device) -> Iterator[None]:
    """Makes it the default device for as long as the run takes."""
    before = mx.default_device()
    mx.set_default_device(device)
    try:
        yield
    finally:
        mx.set_default_device(before)


def train(
    config: RunConfig,
    loggers: MakeLoggers,
    network: nn.Module | None = None,
    initial: Checkpoint | None = None,
) -> Path | None:
    """Trains, or goes on training.

    Started by MLX's launcher, each process computes its rows of the same global batch; the first one writes.

    Args:
        config: the run.
        loggers: (run folder, step to resume from or None, steps in all) -> where metrics, samples and progress go.
        network: a module of the caller's own in place of the configured architecture; it takes tokens (B, L) and
            returns logits (B, L, V).
        initial: what a new run begins with, instead of random weights.

    Returns:
        The run's folder; None in every process but the first.

    Raises:
        InterruptedRunError: a signal stopped the run, after it was saved.
        TzdError: the loss is not finite, a folder cannot be written, or the configuration does not fit.
    """
    check_samplers(config)
    check_settings(config.training, config.data.num_workers)
    with on_device(choose_device(config.training.accelerator)):
        group = mx.distributed.init()
        first = group.rank() == 0
        task = make_task(config, initial_architecture(initial, config), world=group.size(), progress=first)
        trainee = _trainee(task, network, initial, group)
        if network is None and task.world == 1 and mx.default_device() == mx.Device(mx.cpu):
            check_memory(task, weight_shapes(trainee.learner.network))
        run = None
        try:
            run = open_run(task) if first else None
            with run.lock() if run else nullcontext():
                course, received = _fit(task, trainee, run, loggers)
        except AbandonedError as error:
            if first:
                raise TzdError("another process has given up: see what it says") from error
            return None
        except RuntimeError as error:
            if group.size() == 1 or is_out_of_memory(error):
                raise
            raise TzdError(
                "another process has gone; go on from the last checkpoint with training.resume=true"
            ) from error
        except NotFiniteError:
            trainee.give_up()
            if first:
                raise
            return None
        except TzdError:
            trainee.give_up()
            raise
    if run is not None and course.leaving:
        raise InterruptedRunError(
            f"stopped and saved at step {course.step}; to go on, repeat the command with training.resume={run.path}",
            received or signal.SIGTERM,  # which another process may have received
        )
    return run.path if run else None


def _trainee(
    task: Task, network: nn.Module | None, initial: Checkpoint | None, group: mx.distributed.Group
) -> MlxTrainee:
    own, network = network is not None, build(task.model) if network is None else network
    if not isinstance(network, nn.Module):
        raise UserError(f"engine=mlx trains an mlx.nn.Module, not a {type(network).__name__} (denoiser=)")
    weights = first_weights(task, initial, weight_shapes(network), own=own)
    if weights is not None:
        set_weights(network, weights)
    settings = task.config.training
    on_gpu = mx.default_device() == mx.Device(mx.gpu)
    half = settings.precision == "bf16-mixed" or (settings.precision == "auto" and on_gpu)
    compiled = settings.compile
    if compiled == "auto":
        compiled = (
            on_gpu or task.flop(sum(math.prod(shape) for shape in weight_shapes(network).values())) >= _COMPILE_FROM
        )
    return MlxTrainee(Learner(task, network, group, dtype=mx.bfloat16 if half else None, compiled=bool(compiled)))


def _fit(
    task: Task, trainee: MlxTrainee, run: RunFolder | None, make_loggers: MakeLoggers
) -> tuple[Course, int | None]:
    """Trains. Returns what became of it, and the signal that was received, if one was."""
    state, loggers = None, list[Logger]()
    if run is not None:
        path, resume_step = checkpoint_to_resume(task, run)
        state = None if path is None else trainee.restore(read_checkpoint(path))
        loggers = list(make_loggers(run, resume_step, task.total_steps))
    course = Course(task, trainee, run, loggers, trainee.learner.group.rank())
    course.restore(state or {})
    trainee.course_state = course.state
    signals = Signals(say=run is not None)
    try:
        resumed = trainee.begin_alike(state is not None)
        signals.open()  # until now, a signal ends the process at once
        if run is not None and (advice := hint()):  # now that nothing speaks against the run
            print(advice, file=sys.stderr)
        course.begin(trainee.steps, resumed=resumed)
        while course.step < task.total_steps and not course.leaving:
            noised = task.noised(course.step)
            loss, leave = trainee.learner.step(course.step, noised, leave=signals.received is not None)
            trainee.steps = course.step + 1
            course.add_loss(loss)
            course.after_step(trainee.steps, leave=leave)
        trainee.end()
        signals.close()  # the run is saved: a signal ends what follows at once
        course.finish(leave=signals.received is not None)
    finally:
        signals.close()
        for logger in loggers:
            logger.close()
    return course, signals.received
