"""Training a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tzd.api.rehearsal import smaller_batches
from tzd.checkpoint import RunFolder
from tzd.checkpoint.litgpt import pretrained_folder
from tzd.config import RunConfig, run_config
from tzd.engines import engine_module
from tzd.engines.formats import read_any
from tzd.errors import TzdError, UserError, first_line, is_out_of_memory
from tzd.training.records import Logger

MakeLoggers = Callable[[RunFolder, int | None, int], Sequence[Logger]]


def train(config: RunConfig | Mapping[str, Any] | Sequence[str] = (), denoiser: Any = None) -> Path | None:
    """Trains a model.

    Args:
        config: a `RunConfig`, the same as plain data, or a list of overrides as on the command line
            (`["model=tiny_cpu", "data=pydocs", "training.max_steps=500"]`).
        denoiser: your own module of the engine's kind (torch's or MLX's) in place of the configured architecture: it
            takes tokens (B, L) and returns logits (B, L, V), V being the tokenizer's vocabulary.

    Returns:
        The folder of the best checkpoint; the run folder is its parent, and `load` takes either. None in every
        process but the first, where several train together.
    """
    from tzd.loggers import run_loggers

    if isinstance(config, str):
        raise UserError(f"train takes a list of overrides, not a text: {config.split()}")
    if isinstance(config, Mapping):
        config = run_config(config)
    elif not isinstance(config, RunConfig):
        from tzd.configs import compose

        config = compose(list(config))
    run = _trained(config, denoiser, run_loggers(config))
    if run is None:
        return None
    best = RunFolder(run).resolve("best")
    assert best is not None  # a run that ends has validated
    return best


def _trained(config: RunConfig, denoiser: Any, make_loggers: MakeLoggers) -> Path | None:
    """Trains; where memory is short, says with which settings it is not."""
    start = config.training.init_from or pretrained_folder(config.model)
    initial = None if start is None else read_any(start)
    engine = engine_module(config.engine.name, "train")
    opened: list[RunFolder] = []

    def loggers(run: RunFolder, step: int | None, total: int) -> Sequence[Logger]:
        opened.append(run)
        return make_loggers(run, step, total)

    def attempt(short: RunConfig) -> None:
        engine.train(short, lambda *_: (), initial=initial)

    try:
        run: Path | None = engine.train(config, loggers, network=denoiser, initial=initial)
        return run
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
    # by now nothing is left of the error, which holds what was in memory when it came
    mend = smaller_batches(config, attempt if denoiser is None else None, reason)
    saved = [run.path for run in opened if (run.path / "last").is_file()]
    on = f"; what was saved goes on with training.resume={saved[0]}" if saved else ""
    raise TzdError(f"out of memory with data.batch_size={config.data.batch_size}: {mend}{on}")
