"""Lightning's trainer for a run's settings: its devices, its processes and their precision."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed

from tzd.config import TrainingSettings
from tzd.engines.torch.inference import bfloat16_is_native
from tzd.engines.torch.sharded import ShardedStrategy
from tzd.errors import ConfigError, TzdError, first_line

_LAST_WORDS = 5.0  # seconds in which a process that has failed may say why


def auto_precision(device_type: str) -> str:
    """bf16-mixed where the processor multiplies bfloat16 matrices in hardware, else 32-true."""
    known = device_type in ("cpu", "cuda")  # PyTorch may not have heard of a device that Lightning is asked for
    return "bf16-mixed" if known and bfloat16_is_native(torch.device(device_type)) else "32-true"


def make_trainer(settings: TrainingSettings) -> L.Trainer:
    """A trainer that knows its device and its processes, and nothing of the task yet.

    Raises:
        ConfigError: the settings do not fit each other, this machine, or how the processes were started.
    """
    devices, strategy, precision = _devices(settings.devices), _strategy(settings), _precision(settings)
    try:
        trainer = L.Trainer(
            accelerator=settings.accelerator,
            devices=devices,
            num_nodes=settings.num_nodes,
            strategy=strategy,
            precision=precision,
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
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if environment is not None:
            environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    # Lightning's own words about an impossible combination
    except (ValueError, RuntimeError, TypeError, MisconfigurationException, ImportError) as error:
        raise ConfigError(
            f"training.accelerator, devices, num_nodes, strategy or precision: {first_line(error)}"
        ) from error
    if trainer.num_devices > 1 and environment is not None and not environment.creates_processes_externally:
        _check_startable(trainer.num_devices)
    started = int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else trainer.world_size
    if trainer.world_size != started:  # Lightning looks at one process alone no further: each would train by itself
        raise ConfigError(
            f"torchrun has started {started} processes, and training.devices={devices} on"
            f" training.num_nodes={settings.num_nodes} takes {trainer.world_size}: set them to what torchrun was told"
        )
    return trainer


def _devices(devices: int | str) -> int | str:
    if devices != "auto":
        return devices
    return int(os.environ["LOCAL_WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def _strategy(settings: TrainingSettings) -> Any:
    """Lightning's name of a strategy or one of ours; Lightning would fork the process of a notebook for `auto`."""
    if settings.strategy == "fsdp":
        if settings.precision == "16-mixed":
            raise ConfigError("training.strategy=fsdp with precision=16-mixed: use bf16-mixed, which scales no loss")
        return ShardedStrategy()
    alone = _devices(settings.devices) in (1, "1") and settings.num_nodes == 1
    return "ddp" if settings.strategy == "auto" and not alone and not hasattr(sys, "ps1") else settings.strategy


def _precision(settings: TrainingSettings) -> Any:
    accelerator = settings.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    device_type = {"gpu": "cuda"}.get(accelerator, accelerator)
    if settings.precision == "16-mixed" and (device_type != "cuda" or not torch.cuda.is_available()):
        raise ConfigError(f"training.precision=16-mixed is for CUDA, not for {device_type}: use bf16-mixed or 32-true")
    return auto_precision(device_type) if settings.precision == "auto" else str(settings.precision)


def _check_startable(devices: int) -> None:
    """ConfigError where Lightning could not start the other processes, which repeat this one's command."""
    main = sys.modules["__main__"]
    if hasattr(sys, "ps1") or (getattr(main, "__spec__", None) is None and not hasattr(main, "__file__")):
        raise ConfigError(
            f"training.devices={devices} takes {devices} processes, which repeat the command that started this one, and"
            " a notebook or an interactive session has none: train by a command (tzd train ...) or a script of your own"
        )


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """Ends the processes that this one has started if it fails, and tells in one line if another one has gone."""
    try:
        with _heard_first(trainer) as started:
            yield
    except BaseException as error:
        lost = isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
        deadline = time.monotonic() + (_LAST_WORDS if lost else 0.0)
        while time.monotonic() < deadline and all(process.poll() is None for process in started):
            time.sleep(0.05)
        for process in started:
            process.kill()  # they may wait for this one, deaf to anything less
        if trainer.world_size > 1 and isinstance(error, RuntimeError) and lost:
            raise TzdError(
                "another process has gone; go on from the last checkpoint with training.resume=true"
            ) from error
        raise


@contextmanager
def _heard_first(trainer: L.Trainer) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that this one has started, once it has failed.

    Lightning watches them, and kills all, this process too, when it finds one failed: a moment before this one, which
    meets the consequences, can put away its logs and say what happened. So it is told to watch no longer.
    """
    started: list[subprocess.Popen[bytes]] = []

    class Heard(L.Callback):
        def on_exception(self, trainer: L.Trainer, module: L.LightningModule, error: BaseException) -> None:
            if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
                started.extend(trainer.strategy.launcher.procs)
                trainer.strategy.launcher.procs.clear()

    trainer.callbacks = [*trainer.callbacks, Heard()]
    yield started
