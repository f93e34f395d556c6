"""What a model writes while it is being trained."""

from __future__ import annotations

import numpy as np

from tzd.config import RunConfig
from tzd.diffusion.denoiser import Denoiser
from tzd.sampling import Sampler, sampler, stream
from tzd.training.task import Task

_LONGEST = 256  # tokens; enough to judge by, and short beside a validation


def validation_samplers(config: RunConfig) -> list[Sampler]:
    """The sampler that the configuration names, once per temperature in `model.val_temperatures`, if any.

    `model.sampling_repo`, `generation_num_steps` and `generation_block_size` decide where they are given.

    Raises:
        ConfigError: the sampler is unknown, has no such setting, or the value is impossible.
    """
    model, settings = config.model, dict(config.sampler)
    name = settings.pop("name", "ancestral")
    if model.sampling_repo is not None:
        name, settings = {"llada": "llada", "smdm": "smdm-greedy"}[model.sampling_repo], {}
    if model.generation_num_steps is not None:
        settings["steps"] = model.generation_num_steps
    if model.generation_block_size is not None:
        settings["block_len"] = model.generation_block_size
    if model.val_temperatures is None:
        return [sampler(name, **settings)]
    return [sampler(name, **{**settings, "temperature": temperature}) for temperature in model.val_temperatures]


def validation_samples(task: Task, denoiser: Denoiser) -> list[str]:
    """A text by each of `validation_samplers`; with a context, it goes on from the first held-out text's."""
    canvas = np.full((1, min(denoiser.seq_len, _LONGEST)), denoiser.mask_id, dtype=np.int32)
    context = task.data.validation[0][0, : min(denoiser.context_len, canvas.shape[1] - 1)]
    canvas[:, : len(context)] = context
    texts = []
    for rule in validation_samplers(task.config):
        *_, last = stream(denoiser, canvas, sampler=rule, seed=task.config.seed)
        texts.append(task.tokenizer.decode(last.tokens[0]))
    return texts
