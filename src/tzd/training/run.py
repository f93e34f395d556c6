"""Where a run's checkpoints go, with which weights it begins, and from which checkpoint it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tzd.checkpoint import Checkpoint, RunFolder, check_export, check_weights
from tzd.checkpoint.layout import CONFIG
from tzd.config import Architecture, RunConfig, model_config
from tzd.errors import ConfigError
from tzd.training.initial import initial_weights
from tzd.training.task import Task


def open_run(task: Task) -> RunFolder:
    """The run's folder: a new one, or the one to go on in.

    Raises:
        UserError: there is no such run, or what is asked for could not be written.
    """
    config = task.config
    if config.training.export_to is not None:
        check_export(Path(config.training.export_to), task.tokenizer, task.model.model_type)
    resume, save_dir = config.training.resume, config.training.save_dir
    if resume is False:
        return RunFolder.create(save_dir, config.run_name)
    if resume is True:
        return RunFolder.latest(save_dir, config.run_name)
    if not Path(resume).is_dir():
        raise ConfigError(f"training.resume={resume} is no folder: give a run folder, or true for the latest run")
    run = RunFolder(Path(resume))
    if run.resolve("last") is None:
        raise ConfigError(f"there is nothing to resume in {run.path}: it holds no checkpoint (training.resume)")
    return run


def checkpoint_to_resume(config: RunConfig, run: RunFolder, total_steps: int) -> tuple[Path | None, int | None]:
    """The checkpoint to go on from and its step, if the run is to be resumed. The run must be locked."""
    if config.training.resume is False:
        return None, None
    last = run.resolve("last")
    assert last is not None  # `open_run` looked
    step = int(last.name.removeprefix("step-"))
    if step >= total_steps:
        raise ConfigError(f"{run.path} is at step {step} of {total_steps}: raise training.max_steps or epochs to go on")
    return last, step


def initial_architecture(initial: Checkpoint | None) -> Architecture | None:
    """The architecture of the checkpoint that a run begins with, which then is the run's."""
    if initial is None:
        return None
    return model_config(initial.config.get("model", {}), f"{initial.folder / CONFIG}: model")


def first_weights(
    task: Task, initial: Checkpoint | None, shapes: Mapping[str, tuple[int, ...]], *, own: bool
) -> Mapping[str, np.ndarray] | None:
    """The weights that a new run begins with.

    Args:
        task: what is trained.
        initial: the checkpoint that it begins with, if any.
        shapes: of the network's weights, by name.
        own: whether the network is a module of the caller's own, with weights of its own.

    Returns:
        Name -> array; None leaves the network as it is.

    Raises:
        ConfigError: the checkpoint cannot be what the run begins with.
        CheckpointError: its weights do not fit the network.
    """
    if initial is None:
        return None if own else initial_weights(shapes, task.config.seed, task.model.model_type)
    _check_initial(initial, task)
    check_weights(initial.weights, shapes, initial.folder)
    return initial.weights


def _check_initial(initial: Checkpoint, task: Task) -> None:
    where, model, training = initial.folder, task.model, task.config.training
    tokenizer = initial.config.get("tokenizer")
    if tokenizer == {} and task.tokenizer.vocab_size != model.vocab_size:  # nothing says which one it is
        raise ConfigError(
            f"{where} has {model.vocab_size} tokens, and this run's tokenizer {task.tokenizer.vocab_size}:"
            " set tokenizer to the one that it was trained with (training.init_from)"
        )
    if tokenizer != {} and tokenizer != task.tokenizer.describe():
        raise ConfigError(
            f"{where} has another tokenizer than this run, whose tokens would mean other things to it:"
            " set tokenizer and data as they were (training.init_from)"
        )
    if task.config.data.block_size > model.block_size:
        raise ConfigError(
            f"data.block_size={task.config.data.block_size} is longer than the window of {where}, {model.block_size}"
        )
    if training.first_step >= task.total_steps:
        raise ConfigError(
            f"training.first_step={training.first_step} is not before the last of {task.total_steps} steps:"
            " raise training.max_steps or epochs"
        )
