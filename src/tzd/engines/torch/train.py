"""A training run on PyTorch Lightning, from a configuration to a checkpoint folder."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import lightning as L
import torch
from torch import nn

from tzd.checkpoint import Checkpoint, RunFolder
from tzd.config import RunConfig
from tzd.engines.torch.callbacks import CourseCallback, TorchTrainee
from tzd.engines.torch.checkpoint_io import TzdCheckpointIO
from tzd.engines.torch.data import NoisedData
from tzd.engines.torch.denoiser import NETWORKS, build, set_weights, weight_shapes
from tzd.engines.torch.heap import kept_memory
from tzd.engines.torch.module import DiffusionModule
from tzd.engines.torch.packed import Packed, Quantised
from tzd.engines.torch.sharded import ShardedStrategy
from tzd.engines.torch.trainer import ending_together, make_trainer
from tzd.errors import ConfigError, InterruptedRunError, UserError
from tzd.training.course import Course, NotFiniteError
from tzd.training.memory import check_memory
from tzd.training.records import Logger
from tzd.training.run import checkpoint_to_resume, first_weights, initial_architecture, open_run
from tzd.training.samples import check_samplers
from tzd.training.task import Task, make_task

MakeLoggers = Callable[[RunFolder, int | None, int], Sequence[Logger]]

# Floating-point operations of a run from which on compiling it repays the half minute that it takes: about five
# minutes' worth of a laptop's cores, and of a data-centre GPU.
_COMPILE_FROM = {"cpu": 1e14, "cuda": 1e16}


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
def compiled(network: nn.Module) -> Iterator[None]:
    """A network compiled while it is trained; afterwards it is as it came, to be copied, saved or called.

    Its `nn.Embedding`s are called as they are: compiled, several threads add up an embedding's gradient in the order in
    which they come to it, and no two runs are alike.
    """
    before = network._compiled_call_impl
    kept = [(module, vars(module).get("forward")) for module in network.modules() if isinstance(module, nn.Embedding)]
    for module, _ in kept:
        module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    network.compile()
    try:
        yield
    finally:
        network._compiled_call_impl = before  # PyTorch has no other way back
        for module, own in kept:
            del module.forward
            if own is not None:
                vars(module)["forward"] = own


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
            warnings.filterwarnings("ignore", message=".*returned a view tensor.*")  # nobody rewrites logits' history
            warnings.filterwarnings("ignore", message=".*not a leaf Tensor.*")  # compiled: what an embedding gave
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def train(
    config: RunConfig,
    loggers: MakeLoggers,
    network: nn.Module | None = None,
    initial: Checkpoint | None = None,
) -> Path | None:
    """Trains, or goes on training.

    Of several processes each computes its rows of the same global batch; the first one writes.

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
    with quiet():
        trainer = make_trainer(config.training)
        task = make_task(
            config,
            initial_architecture(initial, config),
            world=trainer.world_size,
            progress=trainer.is_global_zero,
        )
        module = DiffusionModule(_network(task, network, initial), task)
        if network is None and task.world == 1 and trainer.strategy.root_device.type == "cpu":
            check_memory(task, weight_shapes(module.network))
        if not trainer.is_global_zero:
            with suppress(NotFiniteError):  # which the first process reports
                _fit(trainer, module, task, None, loggers)
            return None
        run = open_run(task)
        with run.lock():
            course, received = _fit(trainer, module, task, run, loggers)
    if course.leaving:
        raise InterruptedRunError(
            f"stopped and saved at step {course.step}; to go on, repeat the command with training.resume={run.path}",
            received or signal.SIGTERM,  # which another process may have received
        )
    return run.path


def _network(task: Task, network: nn.Module | None, initial: Checkpoint | None) -> nn.Module:
    own, network = network is not None, build(task.model) if network is None else network
    if not isinstance(network, nn.Module):
        raise UserError(f"engine=torch trains a torch.nn.Module, not a {type(network).__name__} (denoiser=)")
    if any(isinstance(layer, (Packed, Quantised)) for layer in network.modules()):
        raise UserError(
            "denoiser= is a network that was loaded for sampling, which cannot be trained:"
            " begin with its checkpoint instead (training.init_from)"
        )
    weights = first_weights(task, initial, weight_shapes(network), own=own)
    if weights is not None:
        set_weights(network, weights)
    return network


def _fit(
    trainer: L.Trainer,
    module: DiffusionModule,
    task: Task,
    run: RunFolder | None,
    make_loggers: MakeLoggers,
) -> tuple[Course, int | None]:
    """Trains. Returns what became of it, and the signal that was received, if one was."""
    own = type(module.network)
    name = None if own in NETWORKS.values() else own.__name__
    checkpoint_io = TzdCheckpointIO(task, trainer.strategy.broadcast, name)
    trainer.strategy.checkpoint_io = checkpoint_io
    trainer.fit_loop.epoch_loop.max_steps = task.total_steps
    # the others are told by the first process where its checkpoint lies
    resumed = task.config.training.resume is not False
    checkpoint, resume_step = (Path("the first process's") if resumed else None), None
    if run is not None:
        checkpoint, resume_step = checkpoint_to_resume(task, run)
    compiling = _compiles(module.network, task, trainer)
    if not resumed:
        # Lightning counts steps here; it has no other place to say that a run does not begin with the first
        progress = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        progress.ready = progress.completed = task.config.training.first_step
    loggers = make_loggers(run, resume_step, task.total_steps) if run is not None else ()
    trainee = TorchTrainee(trainer, module, checkpoint_io)
    callback = CourseCallback(task, trainee, run, loggers, resumed=resumed)
    trainer.callbacks = [*trainer.callbacks, callback]
    try:
        with (
            ending_together(trainer),
            compiled(module.network) if compiling else nullcontext(),
            kept_memory(trainer.strategy.root_device.type),
        ):
            trainer.fit(module, datamodule=NoisedData(task), ckpt_path=checkpoint)
        callback.course.finish(leave=callback.signals.received is not None)
    finally:
        callback.signals.close()  # where an error kept Lightning from it
        for logger in loggers:
            logger.close()
    return callback.course, callback.signals.received


def _compiles(network: nn.Module, task: Task, trainer: L.Trainer) -> bool:
    """Whether the network is to be compiled and can be."""
    setting = task.config.training.compile
    if isinstance(trainer.strategy, ShardedStrategy):
        if setting is True:
            raise ConfigError("training.compile=true with strategy=fsdp: leave it out, or set training.strategy=ddp")
        return False
    if not should_compile(setting, network, task, trainer.strategy.root_device.type):
        return False
    if can_compile():
        return True
    print("torch.compile finds no working C++ compiler here: training runs without it, slower", file=sys.stderr)
    return False
