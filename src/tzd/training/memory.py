"""Whether a run fits into the memory of its machine, and in which parts its batches would.

Linux promises more memory than there is, and kills who uses it; MLX does not survive being refused some. Neither leaves
a word, so what cannot fit is told before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tzd.config import RunConfig
from tzd.errors import TzdError
from tzd.training.costs import Shapes
from tzd.training.plan import make_plan
from tzd.training.task import Task

_AT_MOST = 4 / 3  # times what is taken that a plan says
_SPARE = 2.0  # times what a plan says that must be free: libraries take some, too, and what is freed is in pieces


class DoesNotFitError(TzdError):
    """A run is larger than its machine, going by its plan."""


def in_parts(config: RunConfig) -> Iterator[RunConfig]:
    """The same run with its batches in more and smaller parts, the largest first."""
    size, passes = config.data.batch_size, config.training.gradient_accumulation_steps
    for parts in (parts for parts in range(2, size + 1) if size % parts == 0):
        yield replace(
            config,
            data=replace(config.data, batch_size=size // parts),
            training=replace(config.training, gradient_accumulation_steps=passes * parts),
        )


def settings_of(config: RunConfig) -> str:
    """What to add to a command, so that its batches come in these parts."""
    passes = config.training.gradient_accumulation_steps
    return f"data.batch_size={config.data.batch_size} training.gradient_accumulation_steps={passes}"


def free_memory(*, all_of_it: bool = False) -> float:
    """Bytes that this process may take on top of what it has; infinite where the system does not say.

    Args:
        all_of_it: also what other processes have now, and what lies on the disk.
    """
    if sys.platform != "linux":
        return float("inf")
    import resource

    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = {line[0].rstrip(":"): int(line[1]) for line in lines}
    free = (kibibytes["MemTotal"] + kibibytes["SwapTotal"] if all_of_it else kibibytes["MemAvailable"]) * 1024.0
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return min(free, limit - taken_addresses())


def taken_addresses() -> int:
    """Bytes of addresses that this process has, on Linux."""
    import resource

    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def check_memory(task: Task, shapes: Shapes) -> None:
    """Refuses a run that cannot fit into the memory of this machine, going by its plan.

    Args:
        task: what is trained, by a processor and in one process.
        shapes: of the network's weights.

    Raises:
        DoesNotFitError: even the least that it may take is too much.
    """

    def planned(config: RunConfig) -> float:
        return make_plan(config, task.model, shapes, task.total_steps).memory["one process"].peak

    needed, there = planned(task.config), free_memory(all_of_it=True)
    if needed / _AT_MOST <= there:
        return
    free = free_memory()
    fitting = next((config for config in in_parts(task.config) if planned(config) * _SPARE <= free), None)
    mend = f"{settings_of(fitting)} fits, and trains alike" if fitting else "make the model or data.block_size smaller"
    raise DoesNotFitError(
        f"data.batch_size={task.config.data.batch_size} takes about {needed / 2**30:.1f} GiB of memory, and there are"
        f" {there / 2**30:.1f} GiB: {mend}"
    )
