"""Where metrics go. Loggers are handed to a trainer from outside; a new one is one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tzd.checkpoint import RunFolder
from tzd.config import RunConfig
from tzd.errors import ConfigError, nearest
from tzd.training.records import Logger

LOGGERS = ("csv",)


def run_loggers(config: RunConfig) -> Callable[[RunFolder, int | None, int], Sequence[Logger]]:
    """The loggers that a configuration asks for, to be made once the run's folder is known.

    Returns:
        (run folder, step to resume from or None, steps in all) -> loggers.

    Raises:
        ConfigError: there is no such logger.
    """
    if config.logger.kind not in LOGGERS:
        raise ConfigError(f"unknown logger.kind '{config.logger.kind}'{nearest(config.logger.kind, LOGGERS)}")

    def make(run: RunFolder, resume_step: int | None, total: int) -> Sequence[Logger]:
        from tzd.loggers.csv import CsvLogger
        from tzd.loggers.progress import ProgressLogger

        return [CsvLogger(run.path, resume_step), ProgressLogger(resume_step or 0, total)]

    return make
