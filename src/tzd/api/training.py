"""Training a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tzd.checkpoint import RunFolder
from tzd.checkpoint.litgpt import pretrained_folder
from tzd.config import RunConfig, run_config
from tzd.engines import engine_module
from tzd.engines.formats import read_any
from tzd.errors import UserError


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
    start = config.training.init_from or pretrained_folder(config.model)
    run = engine_module(config.engine.name, "train").train(
        config, run_loggers(config), network=denoiser, initial=None if start is None else read_any(start)
    )
    if run is None:
        return None
    best = RunFolder(run).resolve("best")
    assert best is not None  # a run that ends has validated
    return best
