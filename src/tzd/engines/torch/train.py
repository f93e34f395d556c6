"""A training run on PyTorch Lightning, from a configuration to a checkpoint folder."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from tzd.checkpoint import Checkpoint, RunFolder
from tzd.config import RunConfig, TrainingSettings
from tzd.engines.torch.callbacks import CourseCallback, TorchTrainee
from tzd.engines.torch.checkpoint_io import TzdCheckpointIO
from tzd.engines.torch.data import NoisedData
from tzd.engines.torch.denoiser import NETWORKS, build, set_weights, weight_shapes
from tzd.engines.torch.module import DiffusionModule
from tzd.errors import ConfigError, InterruptedRunError, UserError
from tzd.training.records import Logger
from tzd.training.run import checkpoint_to_resume, first_weights, initial_architecture, open_run
from tzd.training.samples import validation_samplers
from tzd.training.task import Task, make_task

# Floating-point operations of a run from which on compiling it repays the half minute that it takes: about five
# minutes' worth of a laptop's cores, and of a data-centre GPU.
_COMPILE_FROM = {"cpu": 1e14, "cuda": 1e16}


def auto_precision(device_type: str) -> str:
    """bf16-mixed where the processor multiplies bfloat16 matrices in hardware, else 32-true."""
    if device_type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device_type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16-mixed" if native else "32-true"
    return "32-true"


def should_compile(setting: bool | str, network: nn.Module, task: Task, device_type: str) -> bool:
    """Whether `torch.compile` pays: a function of the configuration, so that a resumed run decides alike."""
    if isinstance(setting, bool):
        return setting
    parameters = sum(p.numel() for p in network.parameters())
    return task.flop(parameters) >= _COMPILE_FROM.get(device_type, float("inf"))


def can_compile() -> bool:
    """Whether a small function compiles: a compiler may be missing, or lack Python's headers."""
    loggers = [logging.getLogger(name) for name in ("torch._dynamo", "torch._inductor")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8))
    except Exception:  # whatever is wrong with the compiler, training can do without
        return False
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its banners, and without its advice on data loaders that do next to nothing."""
    loggers = [
        logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "torch.utils.cpp_extension")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*not resumable.*")  # ours is: it starts at the step
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _trainer(settings: TrainingSettings) -> L.Trainer:
    """A trainer that knows its device and its number of processes, and nothing of the task yet."""
    precision = settings.precision
    if precision == "auto":
        accelerator = settings.accelerator
        if accelerator == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        precision = auto_precision({"gpu": "cuda"}.get(accelerator, accelerator))
    try:
        trainer = L.Trainer(
            accelerator=settings.accelerator,
            devices=1 if settings.devices == "auto" else settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=str(precision),
            max_epochs=-1,
            max_steps=settings.max_steps or -1,
            accumulate_grad_batches=settings.gradient_accumulation_steps,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
    # Lightning's own words about an impossible combination
    except (ValueError, RuntimeError, TypeError, MisconfigurationException, ImportError) as error:
        raise ConfigError(
            f"training.accelerator, devices, strategy or precision: {str(error).splitlines()[0]}"
        ) from error
    if trainer.world_size > 1:
        raise ConfigError(
            f"training.devices={settings.devices} on training.num_nodes={settings.num_nodes} asks for"
            f" {trainer.world_size} processes: this version trains in one; set both to 1"
        )
    return trainer


def train(
    config: RunConfig,
    loggers: Callable[[RunFolder, int | None, int], Sequence[Logger]],
    network: nn.Module | None = None,
    initial: Checkpoint | None = None,
) -> Path:
    """Trains, or goes on training.

    Args:
        config: the run.
        loggers: (run folder, step to resume from or None, steps in all) -> where metrics, samples and progress go.
        network: a module of the caller's own in place of the configured architecture; it takes tokens (B, L) and
            returns logits (B, L, V).
        initial: what a new run begins with, instead of random weights.

    Returns:
        The run's folder.

    Raises:
        InterruptedRunError: a signal stopped the run, after it was saved.
        TzdError: the loss is not finite, a folder cannot be written, or the configuration does not fit.
    """
    if config.training.val_generation_freq:
        validation_samplers(config)  # says now what it would say at the first validation
    with quiet():
        trainer = _trainer(config.training)
        task = make_task(config, initial_architecture(initial, config), world=trainer.world_size, progress=True)
        module = DiffusionModule(_network(task, network, initial), task)
        run = open_run(task)
        with run.lock():
            _fit(trainer, module, task, run, loggers)
    return run.path


def _network(task: Task, network: nn.Module | None, initial: Checkpoint | None) -> nn.Module:
    own, network = network is not None, build(task.model) if network is None else network
    if not isinstance(network, nn.Module):
        raise UserError(f"engine=torch trains a torch.nn.Module, not a {type(network).__name__} (denoiser=)")
    weights = first_weights(task, initial, weight_shapes(network), own=own)
    if weights is not None:
        set_weights(network, weights)
    return network


def _fit(
    trainer: L.Trainer,
    module: DiffusionModule,
    task: Task,
    run: RunFolder,
    make_loggers: Callable[[RunFolder, int | None, int], Sequence[Logger]],
) -> None:
    own = type(module.network)
    checkpoint_io = TzdCheckpointIO(task, None if own in NETWORKS.values() else own.__name__)
    trainer.strategy.checkpoint_io = checkpoint_io
    trainer.fit_loop.epoch_loop.max_steps = task.total_steps
    checkpoint, resume_step = checkpoint_to_resume(task, run)
    if should_compile(task.config.training.compile, module.network, task, trainer.strategy.root_device.type):
        if can_compile():
            module.network.compile()
        else:
            print("torch.compile finds no working C++ compiler here: training runs without it, slower", file=sys.stderr)
    if checkpoint is None:
        # Lightning counts steps here; it has no other place to say that a run does not begin with the first
        progress = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        progress.ready = progress.completed = task.config.training.first_step
    loggers = make_loggers(run, resume_step, task.total_steps)
    trainee = TorchTrainee(trainer, module, checkpoint_io)
    callback = CourseCallback(task, trainee, run, loggers, resumed=checkpoint is not None)
    trainer.callbacks = [*trainer.callbacks, callback]
    try:
        trainer.fit(module, datamodule=NoisedData(task), ckpt_path=checkpoint)
    finally:
        for logger in loggers:
            logger.close()
    course, received = callback.course, callback.signals.received
    if received is not None and course.step < task.total_steps:
        raise InterruptedRunError(
            f"stopped and saved at step {course.step}; to go on, repeat the command with training.resume={run.path}",
            received,
        )
