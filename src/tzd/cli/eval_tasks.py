"""`tzd eval CKPT --tasks A,B`: the tasks of lm-evaluation-harness."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from tzd.cli import writing
from tzd.errors import TzdError, UserError, first_line, nearest

_BOOTSTRAPS = 1000  # of standard errors that have no formula


def run(args: argparse.Namespace) -> int:
    """Prints the harness's table."""
    from tzd.api.harness import HarnessModel

    names = [name.strip() for name in args.tasks.split(",") if name.strip()]
    for name, least in {"batch_size": 1, "limit": 1, "draws": 1, "num_fewshot": 0}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    names, tasks = _tasks(names, args.include_path)
    given = {name: getattr(args, name) for name in ("batch_size", "draws") if getattr(args, name) is not None}
    settings = writing.settings(args)
    model = HarnessModel(
        writing.load_model(args, args.checkpoint), sampler=args.sampler, seed=args.seed, **given, **settings
    )
    results = _evaluate(model, tasks, names, args)
    from lm_eval.utils import handle_non_serializable, make_table

    print(make_table(results))
    if results.get("groups"):
        print(make_table(results, "groups"))
    if args.json:
        kept = {key: results[key] for key in ("results", "groups", "versions", "n-shot", "n-samples") if key in results}
        described = {"model": str(args.checkpoint), "limit": args.limit, "chat": args.chat, "seed": args.seed}
        described |= {"draws": model.draws, "sampler": model.sampler, "settings": model.settings}
        print(json.dumps({**described, **kept}, default=handle_non_serializable))
    return 0


def _tasks(patterns: list[str], folder: Path | None) -> tuple[list[str], Any]:
    """The names that are meant, and the harness's catalogue: of one's own tasks alone where these have them all.

    Raises:
        UserError: there is no such task, or no such folder.
    """
    if not patterns:
        raise UserError("--tasks: name a task at least")
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder} is no folder (--include-path)")
    _keep_to_oneself()
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = TaskManager(include_path=str(folder), include_defaults=False)
        if all(own.match_tasks([pattern]) for pattern in patterns):
            return own.match_tasks(patterns), own
    every = TaskManager(include_path=None if folder is None else str(folder))
    for pattern in patterns:
        if not every.match_tasks([pattern]):
            hint = nearest(pattern, every.all_tasks)
            raise UserError(
                f"there is no task '{pattern}'{hint if 'mean' in hint else ''}; --include-path FOLDER adds some"
            )
    return every.match_tasks(patterns), every


def _keep_to_oneself() -> None:
    """Has the harness's libraries count nothing over the network, and measure errors within this process."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    import datasets

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def _evaluate(model: Any, tasks: Any, names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    with contextlib.redirect_stdout(sys.stderr):  # the harness talks of its work
        try:
            results: dict[str, Any] = simple_evaluate(
                model=model,
                tasks=names,
                task_manager=tasks,
                limit=args.limit,
                num_fewshot=args.num_fewshot,
                apply_chat_template=args.chat,
                bootstrap_iters=_BOOTSTRAPS,
                log_samples=False,
            )
        except (TzdError, KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # of a task's data, its templates, its metrics: of any library's kind
            raise TzdError(
                f"the tasks {', '.join(names)} cannot be run ({type(error).__name__}: {first_line(error)})"
            ) from error
    return results
