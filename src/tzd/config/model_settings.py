"""The settings of the group `model`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from tzd.config.architecture import Architecture
from tzd.config.litgpt_library import overridden
from tzd.config.model import MODEL_CONFIGS, model_config
from tzd.mapping import require


@dataclass(frozen=True)
class ModelSettings:
    """Hydra group `model`: the architecture, and what TZD keeps beside it.

    `model_type` and the fields from `n_layer` to `padding_multiple` are those of the architectures; what one of them
    has not is refused with it. None leaves a setting to the architecture.

    Attributes:
        name: names the run's folder.
        lr: peak learning rate of AdamW.
        val_temperatures: temperatures of the samples printed while training; one sample at the sampler's own if None.
        generation_block_size: block length of those samples; the sampler's own if None.
        generation_num_steps: their number of steps; the sampler's own if None.
        test_temperatures: temperatures of the texts that a finished run writes.
        sampling_repo: "llada" or "smdm" draws them by that system's rule; None leaves it to the group `sampler`.
        config_name: for `litgpt`: a model of LitGPT's registry, whose architecture is that of the new one but for what
            is set beside it.
        litgpt: for `litgpt`: further fields of `LitgptConfig`, those that have no key here.
        pretrained_model_name: for `litgpt`: the model whose weights are trained on, by its name on the hub.
        checkpoint_dir: for `litgpt`: the folder into which `litgpt download` has put it; without a
            `pretrained_model_name` that of the weights themselves.
    """

    name: str = "tiny"
    model_type: str = "tiny"
    n_layer: int | None = None
    n_head: int | None = None
    n_embd: int | None = None
    block_size: int = 256
    intermediate_size: int | None = None
    dropout: float = 0.0
    norm_eps: float | None = None
    rope_base: float | None = None
    time_steps: int = 0
    value_residual: bool = False
    n_query_groups: int | None = None
    bias: bool | None = None
    norm_class_name: str | None = None
    mlp_class_name: str | None = None
    rotary_percentage: float | None = None
    rotary_dtype: str | None = None
    parallel_residual: bool | None = None
    shared_attention_norm: bool | None = None
    padding_multiple: int | None = None
    shift_logits: bool | None = None
    config_name: str | None = None
    litgpt: dict[str, Any] = field(default_factory=dict)
    pretrained_model_name: str | None = None
    checkpoint_dir: str | None = None
    lr: float = 5e-3
    val_temperatures: tuple[float, ...] | None = None
    test_temperatures: tuple[float, ...] = (0.5, 0.7, 1.0)
    generation_block_size: int | None = None
    generation_num_steps: int | None = None
    sampling_repo: str | None = None

    def __post_init__(self) -> None:
        require(self.lr > 0, f"model.lr must be positive, not {self.lr}")
        for name in ("val_temperatures", "test_temperatures"):
            given = getattr(self, name) or ()
            require(all(v >= 0 for v in given), f"model.{name} must not be negative, not {given}")
        require(
            self.sampling_repo in (None, "llada", "smdm"),
            f"model.sampling_repo must be llada, smdm or null, not '{self.sampling_repo}'",
        )
        for name in ("config_name", "litgpt", "pretrained_model_name", "checkpoint_dir"):
            value = getattr(self, name)
            require(not value or self.model_type == "litgpt", f"model.{name}={value} needs model.model_type=litgpt")
        for name in self.litgpt:
            require(name not in ("vocab_size", "mask_id"), f"model.litgpt.{name}: the tokenizer says it; leave it out")
            require(not hasattr(self, name), f"model.litgpt.{name} has a key of its own: set model.{name}")
        require(
            self.config_name is None or self.pretrained is None,
            f"model.config_name={self.config_name}: the architecture of given weights is theirs; leave it out",
        )
        self.architecture(vocab_size=2)  # says now what it would say after the corpus is read

    def architecture(self, vocab_size: int, mask_id: int | None = None) -> Architecture:
        """The architecture for a vocabulary, and for its own [MASK] if it has one; else [MASK] lies beyond it."""
        has = {name: [f.name for f in fields(cast(Any, cls))] for name, cls in MODEL_CONFIGS.items()}
        values: dict[str, Any] = {"model_type": self.model_type, "vocab_size": vocab_size}
        values |= {} if mask_id is None else {"mask_id": mask_id}
        for setting in fields(self):
            key, value = setting.name, getattr(self, setting.name)
            owners = [name for name in has if key in has[name]]
            if self.model_type in owners:
                values |= {} if value is None else {key: value}
            elif owners and self.model_type in has:
                require(
                    value == setting.default,
                    f"model.{key}={value}: model_type={self.model_type} has no such setting;"
                    f" leave it out, or set model.model_type={owners[0]}",
                )
        if self.model_type == "litgpt":
            values = overridden(self.config_name, {**values, **self.litgpt}, self.block_size)
        return model_config(values)

    @property
    def pretrained(self) -> Path | None:
        """The folder of LitGPT's weights that training begins with, if any: where `litgpt download` puts them."""
        if self.pretrained_model_name is None:
            return None if self.checkpoint_dir is None else Path(self.checkpoint_dir)
        folder, name = Path(self.checkpoint_dir or "checkpoints"), Path(self.pretrained_model_name)
        return folder if folder.parts[-len(name.parts) :] == name.parts else folder / name
