"""A few steps of a run, elsewhere and unheard: how fast it is, and whether it fits."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from tzd.config import RunConfig
from tzd.errors import InterruptedRunError, is_out_of_memory
from tzd.training.memory import DoesNotFitError, free_memory, in_parts, settings_of, taken_addresses

_ALONE = (1, "1", "auto")  # devices of a run that is one process, unless a launcher started it


def rehearsed(config: RunConfig, folder: str, steps: int, *, windows: int = 1) -> RunConfig:
    """A short run of the same batches, in one process, that leaves nothing outside of a folder.

    Args:
        config: the run.
        folder: where it writes.
        steps: of the optimizer, with a validation and a checkpoint at their end.
        windows: that it validates on.
    """
    training = replace(
        config.training,
        max_steps=steps,
        first_step=0,
        resume=False,
        export_to=None,
        run_folder=None,
        save_dir=folder,
        devices=1,
        num_nodes=1,
        strategy="auto",
        compile=False if config.training.compile == "auto" else config.training.compile,
        eval_interval=steps,
        checkpoint_interval=steps,
        val_draws=1,
        val_windows=windows,
        val_generation_freq=0,
        log_every_n_steps=1,
        test=False,
    )
    return replace(config, training=training, logger=replace(config.logger, kind="csv", name="rehearsal"))


def smaller_batches(config: RunConfig, attempt: Callable[[RunConfig], Any] | None, reason: str) -> str:
    """What to do where the batches of a run do not fit into memory: how to take them in parts that do.

    Args:
        config: the run.
        attempt: trains, and raises what it raised before where memory is short; None where that cannot be tried.
        reason: what was said when it was short.

    Returns:
        The end of a message.
    """
    parts = list(in_parts(config))
    if not parts:
        return "make the model or data.block_size smaller"
    started = os.environ.get("WORLD_SIZE", "1") != "1" or "MLX_RANK" in os.environ
    if attempt is None or started or config.training.devices not in _ALONE or config.training.num_nodes > 1:
        share = config.data.batch_size // parts[0].data.batch_size
        less = "half" if share == 2 else f"1/{share}"
        return f"{settings_of(parts[0])} takes about {less} as much, and trains alike"
    print(f"out of memory with {settings_of(config)}: trying what fits", file=sys.stderr)
    on_host = sys.platform == "linux" and "DefaultCPUAllocator" in reason
    for smaller in parts:
        with _refused_in_time() if on_host else nullcontext():
            if _fits(smaller, attempt):
                return f"{settings_of(smaller)} fits, and trains alike"
    return "not even one window at a time fits: make the model or data.block_size smaller"


def _fits(config: RunConfig, attempt: Callable[[RunConfig], Any]) -> bool:
    gc.collect()  # what the last one held
    passes = min(2, config.training.gradient_accumulation_steps)  # as much is held then as with any more
    short = replace(config, training=replace(config.training, gradient_accumulation_steps=passes))
    with tempfile.TemporaryDirectory() as folder:
        try:
            attempt(rehearsed(short, folder, 2, windows=2 * config.data.batch_size))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        except InterruptedRunError as error:
            what = f"stopped while trying {settings_of(config)}, for memory is too short for larger batches"
            raise InterruptedRunError(what, error.exit_code - 128) from None
        except DoesNotFitError:
            return False
    return True


@contextmanager
def _refused_in_time() -> Iterator[None]:
    """Has the system refuse what it does not have, which else it promises, and kills the process that uses it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(taken_addresses() + free_memory())
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
