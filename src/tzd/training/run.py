"""Where a run's checkpoints go, with which weights it begins, and from which checkpoint it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tzd.checkpoint import Checkpoint, RunFolder, check_export, check_weights, read_checkpoint, write_npz
from tzd.checkpoint.layout import CONFIG
from tzd.config import Architecture, RunConfig, model_config
from tzd.corpus.chat import same_tokens
from tzd.errors import ConfigError, UserError
from tzd.training.initial import initial_weights
from tzd.training.task import Task


def open_run(task: Task) -> RunFolder:
    """The run's folder: a new one, or the one to go on in.

    Raises:
        UserError: there is no such run, or what is asked for could not be written.
    """
    config = task.config
    if config.training.export_to is not None:
        check_export(Path(config.training.export_to), task.tokenizer, task.model)
        _refuse_overwriting(Path(config.training.export_to), config)
    resume, save_dir, folder = config.training.resume, config.training.save_dir, config.training.run_folder
    if resume is False and folder is not None:
        return RunFolder.at(folder)
    if resume is True and folder is not None:
        resume = folder
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


def _refuse_overwriting(export: Path, config: RunConfig) -> None:
    """UserError if a new run's export would take the place of a file that is not what the run begins with."""
    start = config.training.init_from
    if config.training.resume is not False or (start is not None and Path(start).resolve() == export.resolve()):
        return
    for file in (export, export.with_suffix(".json")):
        if file.exists():
            raise UserError(f"{file} exists, and the run would overwrite it: name another file (training.export_to)")


def checkpoint_to_resume(task: Task, run: RunFolder) -> tuple[Path | None, int | None]:
    """The checkpoint to go on from and its step, if the run is to be resumed. The run must be locked.

    What is exported is brought up to that checkpoint, should the run have died in between.
    """
    config, total_steps = task.config, task.total_steps
    last = run.resolve("last")
    if config.training.resume is False:
        if last is not None:  # another run was quicker to take the lock, and has ended
            raise UserError(f"{run.path} holds a run by now: resume it, or start a run of another name")
        return None, None
    assert last is not None  # `open_run` looked
    if config.training.export_to is not None:
        saved, export = read_checkpoint(last), Path(config.training.export_to)
        task.check_same_run(saved.config, str(last))
        before = saved.section("provenance").get("run", {}).get("training", {}).get("export_to")
        if export.exists() and (before is None or Path(before).resolve() != export.resolve()):
            raise UserError(
                f"{export} exists, and is not what {run.path} exports to: name another (training.export_to)"
            )
        write_npz(export, saved)
    step = int(last.name.removeprefix("step-"))
    if step > total_steps or (step == total_steps and run.is_finished(step)):
        raise ConfigError(f"{run.path} is at step {step} of {total_steps}: raise training.max_steps or epochs to go on")
    return last, step


def initial_architecture(initial: Checkpoint | None, config: RunConfig) -> Architecture | None:
    """The architecture of the checkpoint that a run begins with, which then is the run's, but for the dropout.

    Also for the window of a pretrained model, and for whether its logits are shifted, which the weights do not say.

    Raises:
        ConfigError: a pretrained model is another one than the settings beside it say.
    """
    if initial is None:
        return None
    saved = dict(initial.config.get("model", {}))
    if "dropout" in saved:
        saved["dropout"] = config.model.dropout
    if "shift_logits" in saved and config.model.shift_logits is not None:
        saved["shift_logits"] = config.model.shift_logits
    if config.model.pretrained is not None:
        _check_pretrained(initial, saved, config)
        saved["block_size"] = config.model.block_size
    return model_config(saved, f"{initial.folder / CONFIG}: model")


def _check_pretrained(initial: Checkpoint, saved: Mapping[str, Any], config: RunConfig) -> None:
    where, told = initial.source, config.model
    for key in saved.keys() - {"block_size"}:
        value = getattr(told, key, None)
        if value is not None and value != saved[key]:
            raise ConfigError(
                f"{where} has {key}={saved[key]}, not model.{key}={value}: leave it out (model=litgpt does)"
            )
    if told.litgpt:
        raise ConfigError(f"model.litgpt={told.litgpt}: {where} says its architecture itself; leave it out")
    if told.block_size > saved["block_size"]:
        raise ConfigError(
            f"data.block_size={told.block_size} is longer than the window of {where}, {saved['block_size']}"
        )


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
    if own and task.config.training.export_to is not None:
        raise ConfigError("training.export_to writes the 'tiny' architecture, not a module of your own: leave it out")
    if initial is None:
        return None if own else initial_weights(shapes, task.config.seed, task.model.model_type)
    _check_initial(initial, task)
    check_weights(initial.weights, shapes, initial.source)
    return initial.weights


def _check_initial(initial: Checkpoint, task: Task) -> None:
    where, model, training = initial.source, task.model, task.config.training
    tokenizer = initial.config.get("tokenizer")
    if tokenizer == {} and task.tokenizer.vocab_size != model.vocab_size:  # nothing says which one it is
        raise ConfigError(
            f"{where} has {model.vocab_size} tokens, and this run's tokenizer {task.tokenizer.vocab_size}:"
            " set tokenizer to the one that it was trained with (training.init_from)"
        )
    if tokenizer != {} and not same_tokens(tokenizer, task.tokenizer):
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
