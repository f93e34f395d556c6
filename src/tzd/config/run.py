"""The settings of a run: one dataclass per Hydra group, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tzd.config.data_settings import DataSettings, ObjectiveSettings, TokenizerSettings
from tzd.config.model_settings import ModelSettings
from tzd.config.training_settings import TrainingSettings
from tzd.mapping import from_mapping, require


@dataclass(frozen=True)
class EngineSettings:
    """Hydra group `engine`: what computes."""

    name: str = "torch"


@dataclass(frozen=True)
class LoggerSettings:
    """Hydra group `logger`.

    Attributes:
        kind: csv, tensorboard, wandb, or a list of several; plain files (csv) are written in any case.
        project: W&B's project; $WANDB_PROJECT or tinyzero-diffusion if None.
        name: name of the run and its folder; made of the corpus and the model if None.
    """

    kind: str | tuple[str, ...] = "csv"
    project: str | None = None
    name: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What `kind` names, each once."""
        return (self.kind,) if isinstance(self.kind, str) else tuple(dict.fromkeys(self.kind))


@dataclass(frozen=True)
class RunConfig:
    """Everything that a training run is told.

    Attributes:
        seed: of the initial weights, the windows and the noise.
        experiment_suffix: appended to the run's name.
        sampler: a sampler's name and its settings, checked where samplers are known.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "dilated"})
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    seed: int = 1337
    experiment_suffix: str = ""

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must not be negative, not {self.seed}")
        require(
            self.training.init_from is None or self.model.pretrained is None,
            f"training.init_from={self.training.init_from} and {self.model.pretrained} (model.pretrained_model_name,"
            " model.checkpoint_dir): a run begins with one of them",
        )
        require(
            self.data.block_size <= self.model.block_size,
            f"data.block_size={self.data.block_size} is longer than model.block_size={self.model.block_size}",
        )
        require(
            self.objective.name != "block" or not self.model.time_steps,
            "objective=block takes a denoiser that is not conditioned on time: set model.time_steps=0",
        )
        require(
            self.objective.context_len < self.data.block_size,
            f"objective.context_len={self.objective.context_len} leaves nothing of"
            f" data.block_size={self.data.block_size}",
        )

    @property
    def run_name(self) -> str:
        """Name of the run and its folder."""
        name = self.logger.name or f"{self.data.name}-{self.model.name}"
        return f"{name}-{self.experiment_suffix}" if self.experiment_suffix else name


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """The run that plain data describes."""
    return from_mapping(RunConfig, values)
