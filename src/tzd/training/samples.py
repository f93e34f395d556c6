"""What a model writes while it is being trained, and at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tzd.config import RunConfig
from tzd.diffusion.denoiser import Denoiser
from tzd.sampling import DEFAULT, Sampler, sampler, stream
from tzd.training.records import Written
from tzd.training.task import Task

_LONGEST = 256  # tokens; enough to judge by, and short beside a validation
_TEST_TEXTS = 4  # at each temperature


def validation_samplers(config: RunConfig) -> list[Sampler]:
    """The sampler that the configuration names, once per temperature in `model.val_temperatures`, if any.

    `model.sampling_repo`, `generation_num_steps` and `generation_block_size` decide where they are given.

    Raises:
        ConfigError: the sampler is unknown, has no such setting, or the value is impossible.
    """
    return _samplers(config, config.model.val_temperatures)


def test_samplers(config: RunConfig) -> list[Sampler]:
    """Likewise, once per temperature in `model.test_temperatures`."""
    return _samplers(config, config.model.test_temperatures)


def check_samplers(config: RunConfig) -> None:
    """Says now what would be said at the first validation, or at the end."""
    if config.training.val_generation_freq:
        validation_samplers(config)
    if config.training.test:
        test_samplers(config)


def _samplers(config: RunConfig, temperatures: Sequence[float] | None) -> list[Sampler]:
    model, settings = config.model, dict(config.sampler)
    name = settings.pop("name", DEFAULT)
    if model.sampling_repo is not None:
        name, settings = {"llada": "llada", "smdm": "smdm-greedy"}[model.sampling_repo], {}
    if model.generation_num_steps is not None:
        settings["steps"] = model.generation_num_steps
    if model.generation_block_size is not None:
        settings["block_len"] = model.generation_block_size
    if temperatures is None:
        return [sampler(name, **settings)]
    return [sampler(name, **{**settings, "temperature": temperature}) for temperature in temperatures]


def validation_samples(task: Task, denoiser: Denoiser) -> list[Written]:
    """A text by each of `validation_samplers`, which goes on from the data's prompt."""
    return _written(task, denoiser, validation_samplers(task.config), 1)


def test_samples(task: Task, denoiser: Denoiser) -> list[Written]:
    """Some texts by each of `test_samplers`, likewise; those of one temperature are written together."""
    return _written(task, denoiser, test_samplers(task.config), _TEST_TEXTS)


def _written(task: Task, denoiser: Denoiser, rules: Sequence[Sampler], count: int) -> list[Written]:
    canvas = np.full((count, min(denoiser.seq_len, _LONGEST)), denoiser.mask_id, dtype=np.int32)
    context = task.data.prompt[: canvas.shape[1] - 1]
    canvas[:, : len(context)] = context
    texts = []
    for rule in rules:
        *_, last = stream(denoiser, canvas, sampler=rule, seed=task.config.seed)
        texts += [Written(rule.temperature, task.tokenizer.decode(row)) for row in last.tokens]
    return texts
