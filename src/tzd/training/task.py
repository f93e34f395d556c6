"""What a run trains on and towards, the same for every engine: windows, noise, validation, cadence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tzd.config import Architecture, RunConfig
from tzd.corpus import Batch, Tokenizer
from tzd.diffusion.denoiser import Denoiser
from tzd.diffusion.likelihood import Nelbo, nelbo, scored
from tzd.diffusion.objective import Noised, Objective
from tzd.errors import ConfigError
from tzd.mapping import require, to_mapping
from tzd.training.data import TrainingData, open_data
from tzd.version import VERSION


@dataclass(frozen=True)
class Task:
    """A run's configuration with its corpus opened.

    Attributes:
        config: what was asked for.
        data: what is trained on and measured by.
        model: the architecture, with the tokenizer's vocabulary.
        objective: what is masked and how it is weighted.
        world: number of processes.
    """

    config: RunConfig
    data: TrainingData
    model: Architecture
    objective: Objective
    world: int = 1

    @property
    def tokenizer(self) -> Tokenizer:
        """Text <-> tokens."""
        return self.data.tokenizer

    @property
    def rows(self) -> int:
        """Rows of a global batch: what one optimizer step sees."""
        settings = self.config
        return settings.data.batch_size * settings.training.gradient_accumulation_steps * self.world

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every window of an epoch is seen once."""
        return max(1, math.ceil(self.data.examples.per_epoch / self.rows))

    @property
    def total_steps(self) -> int:
        """Optimizer steps in all."""
        training = self.config.training
        return training.max_steps or max(1, math.ceil(training.epochs * self.steps_per_epoch))

    def flop(self, parameters: int) -> float:
        """Floating-point operations of the run in each process: 6 per parameter and token (arXiv:2001.08361)."""
        return 6.0 * parameters * self.total_steps * self.rows * self.config.data.block_size / self.world

    @property
    def eval_interval(self) -> int:
        """Optimizer steps between validations."""
        training = self.config.training
        if training.eval_interval is not None:
            return training.eval_interval
        interval = training.val_check_interval
        return interval if isinstance(interval, int) else max(1, round(interval * self.steps_per_epoch))

    def layout(self) -> dict[str, np.ndarray]:
        """What the network is told of every batch, beside its tokens; see `Objective.layout`."""
        return self.objective.layout(self.config.data.block_size)

    def noised(self, step: int) -> Noised:
        """The corrupted global batch of a step: a pure function of the configuration and the step."""
        tokens, maskable = self.data.examples.batch(step * self.rows, self.rows)
        return self.objective.noise(
            tokens,
            maskable & self.objective.maskable(tokens),
            mask_id=self.model.mask_id,
            seed=self.config.seed,
            step=step,
        )

    def validate(
        self, denoiser: Denoiser, *, rank: int = 0, reduce: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Nelbo:
        """The NELBO of the validation rows, on the same masks every time.

        Args:
            denoiser: the model.
            rank: which process this is; each scores its share.
            reduce: sums an array over all processes.
        """
        data = self.data
        return self._nelbo(denoiser, data.validation, data.characters_per_token, (rank, self.world), reduce)

    def test(self, denoiser: Denoiser) -> Nelbo | None:
        """The NELBO of the test rows, on masks that never change; None where there are no such rows."""
        return self._nelbo(denoiser, self.data.test, self.data.test_characters_per_token) if self.data.test else None

    def _nelbo(
        self,
        denoiser: Denoiser,
        groups: Sequence[np.ndarray | Batch],
        characters_per_token: float,
        share: tuple[int, int] = (0, 1),
        reduce: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Nelbo:
        settings, context = self.config, self.objective.settings.context_len
        tokens = sum(int(scored(group, context).sum()) for group in groups)
        return nelbo(
            denoiser,
            groups,
            draws=settings.training.val_draws,
            seed=settings.seed,
            characters=tokens * characters_per_token,  # a window's border may lie within a character
            batch_size=2 * settings.data.batch_size,
            share=share,
            reduce=reduce,
        )

    def describe(self, step: int) -> dict[str, Any]:
        """What a checkpoint's config.json says."""
        return {
            "model": {"model_type": self.model.model_type, **to_mapping(self.model)},
            "tokenizer": self.tokenizer.describe(),
            "diffusion": to_mapping(self.objective.settings),
            "provenance": {
                "corpus": self.data.name,
                "corpus_sha256": self.data.sha256,
                "step": step,
                "seed": self.config.seed,
                "tzd_version": VERSION,
                "run": to_mapping(self.config),
            },
        }

    def check_same_run(self, saved: dict[str, Any], where: str) -> None:
        """Raises ConfigError where a saved run cannot be continued with this configuration."""
        now = self.describe(0)
        for part in ("model", "tokenizer", "diffusion"):
            for key in now[part]:
                if saved[part].get(key) != now[part][key]:
                    raise ConfigError(
                        f"{where} was trained with {part} {key}={saved[part].get(key)}, not {now[part][key]}:"
                        " resume with the settings of that run, or start a new one"
                    )
        optimizer = saved["provenance"].get("run", {}).get("training", {}).get("optimizer")
        if optimizer != self.config.training.optimizer:
            raise ConfigError(
                f"{where} was trained with training.optimizer={optimizer}, whose state {self.config.training.optimizer}"
                " cannot take: resume with that optimizer, or start a new run"
            )
        engine = saved["provenance"].get("run", {}).get("engine", {}).get("name")
        if engine != self.config.engine.name:
            raise ConfigError(
                f"{where} was trained with engine={engine}, whose state {self.config.engine.name} cannot take: resume"
                f" with that engine, or begin a new run with its weights (training.init_from)"
            )
        for key in ("corpus_sha256", "seed"):
            if saved["provenance"].get(key) != now["provenance"][key]:
                raise ConfigError(f"{where} was trained with another {key}: resume with the settings of that run")


def make_task(
    config: RunConfig, architecture: Architecture | None = None, *, world: int = 1, progress: bool = False
) -> Task:
    """Opens a run's data.

    Args:
        config: the run.
        architecture: of the checkpoint that the run begins with; the configuration's own if None.
        world: number of processes.
        progress: whether a download shows how far it is.
    """
    objective = Objective(config.objective)
    data = open_data(config, progress=progress)
    model = architecture or config.model.architecture(data.tokenizer.vocab_size, data.tokenizer.mask_id)
    require(
        not (model.time_steps and config.data.name == "pairs"),
        "data=pairs needs a denoiser that is not told the time: set model.time_steps=0",
    )
    return Task(config=config, data=data, model=model, objective=objective, world=world)
