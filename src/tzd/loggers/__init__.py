"""Where metrics go. Loggers are handed to a trainer from outside; a new one is one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from tzd.checkpoint import RunFolder
from tzd.config import RunConfig
from tzd.errors import ConfigError, MissingExtraError, nearest
from tzd.training.records import Logger

EXTRAS = {"tensorboard": "TensorBoardLogger", "wandb": "WandbLogger"}  # each needs the extra of its name
LOGGERS = ("csv", *EXTRAS)


def run_loggers(config: RunConfig) -> Callable[[RunFolder, int | None, int], Sequence[Logger]]:
    """The loggers that a configuration asks for, to be made once the run's folder is known.

    Plain files and progress are there whatever it asks for: they are the run's own record.

    Returns:
        (run folder, step to resume from or None, steps in all) -> loggers.

    Raises:
        ConfigError: there is no such logger.
        MissingExtraError: what it needs is not installed.
    """
    extras = [_extra(kind) for kind in config.logger.kinds if _known(kind) != "csv"]

    def make(run: RunFolder, resume_step: int | None, total: int) -> Sequence[Logger]:
        from tzd.loggers.csv import CsvLogger
        from tzd.loggers.progress import ProgressLogger

        plain = CsvLogger(run.path, resume_step)
        others = [extra(config, run.path, resume_step) for extra in extras]
        return [plain, *others, ProgressLogger(resume_step or 0, total)]  # the bar last: it takes the terminal

    return make


def _known(kind: str) -> str:
    if kind not in LOGGERS:
        raise ConfigError(f"unknown logger.kind '{kind}'{nearest(kind, LOGGERS)}")
    return kind


def _extra(kind: str) -> Callable[..., Logger]:
    """The class of a logger that needs an extra."""
    try:
        made: Callable[..., Logger] = getattr(import_module(f"tzd.loggers.{kind}"), EXTRAS[kind])
    except ImportError as error:
        raise MissingExtraError(f"logger.kind={kind}", kind) from error
    return made
