"""Optimizers: AdamW, and Muon for the matrices with AdamW for the rest, as on every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx import optimizers as optim

from tzd.config import ModelSettings, TrainingSettings

Weights = dict[str, mx.array]


_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalised(x: mx.array) -> mx.array:
    """The matrix with all singular values near 1, by Muon's Newton-Schulz iteration (Jordan et al., 2024).

    Each iteration multiplies x by p = a + b·g + c·g², g being x·xᵀ of the smaller side. All of these commute, so that g
    becomes p·g·p, and x is multiplied once, by the product of all p: for a matrix four times as long as wide, half of
    the operations.

    Args:
        x: (m, n).
    """
    a, b, c = _NEWTON_SCHULZ
    tall = x.shape[0] > x.shape[1]
    x = x / (mx.linalg.norm(x) + 1e-7)
    gram = x.T @ x if tall else x @ x.T
    first = a * mx.eye(len(gram), dtype=x.dtype)
    total = factor = mx.addmm(first + b * gram, gram, gram, alpha=c)
    for _ in range(_ITERATIONS - 1):
        gram = factor @ (gram @ factor)
        factor = mx.addmm(first + b * gram, gram, gram, alpha=c)
        total = total @ factor
    return x @ total if tall else total @ x


class DecoupledMuon(optim.Muon):
    """Muon (Jordan et al., 2024) with decoupled weight decay, which MLX's own adds to the gradient."""

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        super().__init__(learning_rate, momentum=0.95, weight_decay=0.0, nesterov=True)
        self.decay = weight_decay

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]) -> mx.array:
        """One step of one matrix."""
        kept = self.momentum
        state["v"] = kept * state["v"] + (1 - kept) * gradient
        direction = orthogonalised((1 - kept) * gradient + kept * state["v"])
        rate = self.learning_rate.astype(gradient.dtype)
        longer = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
        return parameter * (1 - rate * self.decay) - (rate * longer) * direction


@dataclass(frozen=True)
class Group:
    """Parameters that share an optimizer.

    Attributes:
        names: of the parameters.
        optimizer: theirs.
        peak: its peak learning rate.
    """

    names: tuple[str, ...]
    optimizer: optim.Optimizer
    peak: float

    def apply(self, weights: Mapping[str, mx.array], gradients: Mapping[str, mx.array]) -> Weights:
        """The group's weights after a step."""
        return self.optimizer.apply_gradients(
            {name: gradients[name] for name in self.names}, {name: weights[name] for name in self.names}
        )


def split_parameters(network: nn.Module, names: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Hidden matrices, other matrices (embeddings, and a head called `head` or `lm_head`), and vectors."""
    embeddings = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
    shapes = dict(nn.utils.tree_flatten(network.parameters()))
    hidden: list[str] = []
    outer: list[str] = []
    vectors: list[str] = []
    for name in names:
        if shapes[name].ndim < 2:
            vectors.append(name)
        elif name in embeddings or name.startswith(("head", "lm_head")) or shapes[name].ndim > 2:
            outer.append(name)
        else:
            hidden.append(name)
    return hidden, outer, vectors


def make_groups(
    hidden: list[str], outer: list[str], vectors: list[str], *, model: ModelSettings, training: TrainingSettings
) -> list[Group]:
    """The optimizers that the settings ask for. Matrices decay, vectors do not.

    Args:
        hidden: names of the matrices that Muon trains, where it is chosen.
        outer: names of the other matrices.
        vectors: names of the rest.
        model: has AdamW's peak learning rate.
        training: has the rest.
    """

    def adamw(weight_decay: float) -> optim.Optimizer:
        betas = [training.beta1, training.beta2]
        return optim.AdamW(model.lr, betas, 1e-8, weight_decay, bias_correction=True)

    decayed, groups = hidden + outer, []
    if training.optimizer == "muon":
        decayed = outer
        if hidden:
            muon = DecoupledMuon(training.muon_lr, training.weight_decay)
            groups.append(Group(tuple(hidden), muon, training.muon_lr))
    if decayed:
        groups.append(Group(tuple(decayed), adamw(training.weight_decay), model.lr))
    if vectors:
        groups.append(Group(tuple(vectors), adamw(0.0), model.lr))
    return groups
