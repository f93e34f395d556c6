"""What a run will cost: operations, memory of each device, time and disk. docs/scaling.md has the formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tzd.config import Architecture, RunConfig, TrainingSettings
from tzd.diffusion.objective import BLOCK, HEAD_ON_MASKED_FROM
from tzd.diffusion.schedule import schedule
from tzd.errors import ConfigError
from tzd.training.costs import (
    Parameters,
    Shapes,
    activation_bytes,
    count_parameters,
    largest_block,
    muon_flop,
    score_bytes,
    training_flop,
)

STRATEGIES = ("one process", "DDP", "FSDP")
_CHUNK_BYTES = 3 * 4 * 2**22  # of the loss, which takes float32 logits some rows at a time
_MLX_QUEUE = 10  # arrays of logits, or of some columns of them, that MLX has under way at a time on a processor
_MLX_CHUNK_BYTES = 2 * _MLX_QUEUE * 4 * 2**19  # on two streams


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, under one strategy.

    Attributes:
        weights: that the optimizer steps on.
        copies: of the weights: in the matrices' precision, and gathered ones.
        gradients: and the buckets in which they travel.
        optimizer: moments.
        average: the moving average.
        activations: kept for the backward pass.
        logits: of the loss, and what it makes of them.
    """

    weights: float
    copies: float
    gradients: float
    optimizer: float
    average: float
    activations: float
    logits: float
    gradients_stay: bool

    @property
    def peak(self) -> float:
        """The most at any time: activations have gone by the time that the last gradients come."""
        lasting = self.weights + self.copies + self.optimizer + self.average
        passing = self.activations + self.logits
        return lasting + (self.gradients + passing if self.gradients_stay else max(self.gradients, passing))


@dataclass(frozen=True)
class Plan:
    """A run's costs.

    Attributes:
        parameters: of the model.
        devices: processes, one per device.
        tokens_per_step: of the global batch.
        steps: of the optimizer, in all.
        head_share: share of the tokens at which the head runs.
        flop_per_token: operations of forward and backward pass.
        flop_per_step: of all devices together, the optimizer included.
        memory: by strategy, of each device.
        checkpoint_bytes: of one checkpoint.
        checkpoints: that a run keeps at most.
    """

    parameters: Parameters
    devices: int
    tokens_per_step: int
    steps: int
    head_share: float
    flop_per_token: float
    flop_per_step: float
    memory: dict[str, Memory]
    checkpoint_bytes: float
    checkpoints: int

    @property
    def tokens(self) -> int:
        """Tokens of the run."""
        return self.steps * self.tokens_per_step

    @property
    def flop(self) -> float:
        """Operations of the run."""
        return self.steps * self.flop_per_step

    def hours(self, flop_per_second: float) -> float:
        """Hours of training, if each device computes so fast; validation and checkpoints aside."""
        return self.flop / (flop_per_second * self.devices) / 3600

    def to_mapping(self) -> dict[str, Any]:
        """Plain data; memory in bytes."""
        parameters, memory = self.parameters, self.memory
        return {
            "parameters": {"total": parameters.total, "non_embedding": parameters.non_embedding, **vars(parameters)},
            "devices": self.devices,
            "tokens_per_step": self.tokens_per_step,
            "steps": self.steps,
            "tokens": self.tokens,
            "head_share": self.head_share,
            "flop_per_token": self.flop_per_token,
            "flop_per_step": self.flop_per_step,
            "flop": self.flop,
            "memory": {name: {**vars(m), "peak": m.peak} for name, m in memory.items()},
            "checkpoint_bytes": self.checkpoint_bytes,
            "checkpoints": self.checkpoints,
        }


def make_plan(config: RunConfig, model: Architecture, shapes: Shapes, steps: int) -> Plan:
    """The costs of a run.

    Args:
        config: the run.
        model: its architecture, with the vocabulary.
        shapes: of its parameters.
        steps: of the optimizer, in all.
    """
    training, data = config.training, config.data
    devices = count_devices(training)
    micro = data.batch_size * data.block_size  # tokens of a forward pass
    tokens = micro * training.gradient_accumulation_steps * devices
    parameters = count_parameters(shapes, model)
    share = head_share(config, model)
    halves = _halves(config)
    per_token = halves * training_flop(parameters, model, halves * data.block_size, share)
    muon = muon_flop(shapes) * devices if training.optimizer == "muon" else 0.0
    widths = Widths.of(training, config.engine.name)
    moments = _moments(parameters, training)
    saved = parameters.total * (2 if training.ema_decay else 1) * 4 + moments * 4
    return Plan(
        parameters=parameters,
        devices=devices,
        tokens_per_step=tokens,
        steps=steps,
        head_share=share,
        flop_per_token=per_token,
        flop_per_step=per_token * tokens + muon,
        memory={
            name: _memory(name, config, model, shapes, parameters, widths, round(share * halves * micro))
            for name in STRATEGIES
        },
        checkpoint_bytes=float(saved),
        checkpoints=math.ceil(steps / training.checkpoint_interval)
        if training.save_top_k == -1
        else 1 + training.save_top_k,
    )


def count_devices(training: TrainingSettings) -> int:
    """Processes of a run; "auto" counts as one per node."""
    devices = training.devices
    if isinstance(devices, str) and "," in devices:
        count = len([part for part in devices.split(",") if part.strip()])
    else:
        try:
            count = 1 if devices == "auto" else int(devices)
        except ValueError as error:
            raise ConfigError(f"training.devices={devices}: a plan takes a number of devices") from error
    if count < 1:
        raise ConfigError(f"training.devices={devices}: a plan takes a number of devices, at least 1")
    return count * training.num_nodes


@dataclass(frozen=True)
class Widths:
    """Bytes of a number: of the weights, in matrix products, and of the residual stream."""

    weights: int
    products: int
    residual: int

    @classmethod
    def of(cls, training: TrainingSettings, engine: str) -> Widths:
        """Those of a precision; "auto" is bf16-mixed on torch, as on a GPU and a recent processor, and 32 on MLX."""
        precision = str(training.precision)
        if precision == "auto":
            precision = "32" if engine == "mlx" else "bf16-mixed"
        if precision.endswith("-mixed"):
            return cls(4, 2, 4)
        width = {"64": 8, "32": 4}.get(precision.removesuffix("-true"), 2)
        return cls(width, width, width)


def _halves(config: RunConfig) -> int:
    """How often a window stands in what the network sees: block diffusion runs it on [x_t ; x_0]."""
    return 2 if config.objective.name == BLOCK else 1


def head_share(config: RunConfig, model: Architecture) -> float:
    """Mean share of the tokens that the network sees at which the head runs in training."""
    objective = config.objective
    if objective.name == BLOCK:  # (n + 1)/2 of a block's n tokens, and none of the second half
        return min(0.5, (objective.block_len + 1) / (4 * objective.block_len) + 1 / 32)
    if model.vocab_size < HEAD_ON_MASKED_FROM:
        return 1.0
    curve = schedule(objective.schedule, objective.schedule_power)
    masked = 0.5 if objective.name == "exact_k" else float(np.mean(1 - curve.alpha((np.arange(1000) + 0.5) / 1000)))
    free = 1 - objective.context_len / config.data.block_size
    return min(1.0, masked * free + 1 / 32)  # the count is rounded up to a sixteenth of the batch


def _moments(parameters: Parameters, training: TrainingSettings) -> int:
    """Numbers that the optimizer keeps: two per parameter with AdamW, one per matrix of Muon's."""
    return 2 * parameters.total - (parameters.matrices if training.optimizer == "muon" else 0)


def _memory(
    strategy: str,
    config: RunConfig,
    model: Architecture,
    shapes: Shapes,
    parameters: Parameters,
    widths: Widths,
    head_rows: int,
) -> Memory:
    training, total = config.training, parameters.total
    parts = count_devices(training) if strategy == "FSDP" else 1
    matrices = total - parameters.vectors - parameters.embedding
    casts = matrices * widths.products if widths.products < widths.weights else 0
    gathered = 2 * largest_block(shapes) + parameters.embedding + parameters.head  # one computes, the next one comes
    length = config.data.block_size * _halves(config)
    micro = config.data.batch_size * length
    scores = score_bytes(model, micro, length) if config.engine.name == "mlx" else 0.0
    return Memory(
        weights=total * widths.weights / parts,
        copies=casts + (min(total, gathered) * widths.weights if parts > 1 else 0),
        gradients=total * widths.weights / parts * (2 if strategy == "DDP" else 1),
        optimizer=_moments(parameters, training) * widths.weights / parts,
        average=total * widths.weights / parts if training.ema_decay else 0.0,
        activations=activation_bytes(model, micro, widths.products, widths.residual) + scores,
        logits=_logit_bytes(config.engine.name, head_rows * model.vocab_size, model, parameters, widths),
        gradients_stay=strategy == "DDP" or training.gradient_accumulation_steps > 1,
    )


def _logit_bytes(engine: str, logits: int, model: Architecture, parameters: Parameters, widths: Widths) -> float:
    """What the loss holds of so many logits, in networks of tzd's own.

    On PyTorch their gradient takes their place. On MLX, where the vocabulary is large, some columns are held at a time,
    and the parts of the head's gradient until they are joined.
    """
    if engine != "mlx":
        return logits * widths.products + min(_CHUNK_BYTES, 3 * 4 * logits)
    if model.vocab_size < HEAD_ON_MASKED_FROM:
        return _MLX_QUEUE * 4.0 * logits
    return min(_MLX_CHUNK_BYTES, _MLX_QUEUE * 4 * logits) + 2 * 4.0 * parameters.head
