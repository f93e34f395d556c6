"""Metrics, samples and the configuration for Weights & Biases (W&B), with an account or offline."""

from __future__ import annotations

import netrc
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from tzd.checkpoint.durable import one_line_errors, replace_file
from tzd.config import RunConfig
from tzd.errors import TzdError, first_line
from tzd.loggers.tags import tags
from tzd.mapping import to_mapping
from tzd.printable import printable
from tzd.training.records import Phase, Written
from tzd.untrusted import read_file

PROJECT = "tinyzero-diffusion"
_INIT_SECONDS, _FINISH_SECONDS = 30.0, 120.0  # how long a network may keep a run waiting, before and after it


class WandbLogger:
    """A `Logger` that hands everything to W&B, whose folder is `wandb/` in the run folder.

    Without an account (no API key in the environment or in netrc) or without a network the run is kept offline, unless
    `$WANDB_MODE` says what to do. Once begun, W&B cannot stop a run: what goes wrong is said once, and the run goes
    on without it. The optimizer step is a metric of its own, `step`, and the axis of all others: W&B's internal step
    could not go back when a run is resumed.
    """

    def __init__(self, config: RunConfig, folder: Path, resume_step: int | None = None) -> None:
        """Begins a run of W&B, or goes on with the one of the run folder.

        Args:
            config: the run's, which W&B keeps with it.
            folder: the run folder; its name is the run's.
            resume_step: step of the checkpoint from which the run goes on. None for a new run.

        Raises:
            TzdError: W&B cannot begin, or the folder cannot be written.
        """
        kept = folder / "wandb" / "run-id"
        self._owns_service = "WANDB_SERVICE" not in os.environ  # else the caller uses W&B too, and what is his stays
        self._run: Any = None
        hooks = sys.excepthook, sys.exit  # which W&B replaces, to learn how a process ends
        try:
            run_id = None if resume_step is None else _read_id(kept)
            self._run, note = _begin(config, folder, run_id, alone=self._owns_service)
            if not self._run.disabled:
                replace_file(kept, f"{self._run.id}\n".encode())
                self._run.define_metric("step")
                self._run.define_metric("*", step_metric="step")
                print(f"W&B: {note}", file=sys.stderr)
        except BaseException:
            self.close()
            raise
        finally:
            sys.excepthook, sys.exit = hooks

    def log(self, record: Mapping[str, float]) -> None:
        """Hands on a row of metrics."""
        self._guarded(lambda run: run.log({"step": int(record["step"]), **tags(record)}))

    def log_samples(self, step: int, samples: Sequence[Written], phase: Phase = "val") -> None:
        """Hands on texts, as the table `val/samples` or `test/samples`."""
        rows = [[step, sample.temperature, printable(sample.text)] for sample in samples]
        self._guarded(
            lambda run: run.log(
                {"step": step, f"{phase}/samples": wandb.Table(["step", "temperature", "text"], data=rows)}
            )
        )

    def close(self) -> None:
        """Ends W&B's run, as a failed one while an error is on its way, and the process that served it."""
        failed = sys.exc_info()[0] is not None
        self._guarded(lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        if self._owns_service:
            with suppress(Exception, SystemExit):  # it exits with what its service exits with
                wandb.teardown()

    def _guarded(self, action: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            self._run = None
            print(f"W&B failed ({first_line(error)}): the run goes on without it", file=sys.stderr)


def _begin(config: RunConfig, folder: Path, run_id: str | None, *, alone: bool) -> tuple[Any, str]:
    """A run of W&B, and what there is to say about it; `alone` if nobody else uses W&B in this process."""
    try:
        settings = wandb.setup(settings=wandb.Settings(silent=True) if alone else None).settings  # silent never asks
        if "WANDB_MODE" in os.environ or settings.mode != "online":
            run, why = _init(config, folder, run_id), "as was asked for"
        elif not _has_account(settings):
            if alone:
                wandb.setup(settings=wandb.Settings(mode="offline"))  # its telemetry does not start then
            run, why = _init(config, folder, run_id, "offline"), "no API key was found"
        else:
            try:
                run, why = _init(config, folder, run_id), ""
            except wandb.Error as error:
                run, why = _init(config, folder, run_id, "offline"), first_line(error)
    except Exception as error:  # wandb's own, pydantic's, the system's
        raise TzdError(
            f"W&B cannot begin ({first_line(error)}): set WANDB_MODE=offline, or leave wandb out of logger.kind"
        ) from error
    if not run.offline:
        return run, str(run.url)
    return run, f"offline ({why}); to upload the run: wandb sync {folder / 'wandb'}/offline-run-*"


def _init(config: RunConfig, folder: Path, run_id: str | None, mode: Any = None) -> Any:
    """`wandb.init`, silent, beside any other run of this process."""
    return wandb.init(
        project=config.logger.project or os.environ.get("WANDB_PROJECT") or PROJECT,
        name=folder.name,
        dir=folder,
        id=run_id,
        resume=None if run_id is None else "allow",
        config=to_mapping(config),
        mode=mode,
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECONDS, finish_timeout=_FINISH_SECONDS),
    )


def _has_account(settings: Any) -> bool:
    """Whether W&B would find a key, by the places where it looks."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    try:
        hosts = netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return hosts.authenticators(urlsplit(settings.base_url).netloc) is not None


def _read_id(file: Path) -> str | None:
    """The id of the run folder's run of W&B; None if it has none."""
    with one_line_errors(file):
        text = read_file(file, 1 << 10).decode(errors="replace").strip() if file.exists() else ""
    return text if re.fullmatch(r"[\w-]{1,128}", text, re.ASCII) else None
