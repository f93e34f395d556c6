"""Optimizers: AdamW, and Muon for the matrices with AdamW for the rest, as one optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tzd.config import ModelSettings, TrainingSettings
from tzd.engines.torch.sharded import sharded_like, whole

_MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
_ITERATIONS = 5
_STACKED = 2**22  # numbers of the matrices that are iterated at once: larger ones gain nothing, and take memory


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices, other matrices (embeddings, and a head called `head` or `lm_head`), and vectors."""
    embeddings = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    hidden: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif id(parameter) in embeddings or name.startswith(("head", "lm_head")) or parameter.ndim > 2:
            outer.append(parameter)
        else:
            hidden.append(parameter)
    return hidden, outer, vectors


def orthogonalised(matrices: Tensor) -> Tensor:
    """The matrices with all singular values near 1, in bfloat16, by Newton-Schulz iterations (Jordan et al., 2024).

    Args:
        matrices: (N, m, n) of any dtype. Bit for bit what `torch.optim.Muon` makes of each of them.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(torch.bfloat16)
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    x = x.mT if tall else x
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonWithAdamW(Optimizer):
    """Muon on the first group of parameters, AdamW on the others.

    One optimizer, so that Lightning clips, accumulates and saves as usual: PyTorch's AdamW works on the groups and the
    state of this one. Muon: Jordan et al. 2024, step for step `torch.optim.Muon`, but that matrices of one shape are
    orthogonalised together.

    Args:
        groups: parameter groups; the first is Muon's.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})
        self._link()

    def _link(self) -> None:
        self._adamw = AdamW([{**group} for group in self.param_groups[1:]])
        self._adamw.param_groups = self.param_groups[1:]
        self._adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state; it replaces groups and state, so that the inner optimizers are linked anew."""
        super().load_state_dict(state_dict)
        self._link()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon()
        self._adamw.step()
        return loss

    @torch.no_grad()
    def _muon(self) -> None:
        group = self.param_groups[0]
        shapes: dict[torch.Size, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes.setdefault(parameter.shape, []).append(parameter)
        for (m, n), parameters in shapes.items():
            rate, together = group["lr"] * math.sqrt(max(1, m / n)), max(1, _STACKED // (m * n))
            for start in range(0, len(parameters), together):
                part = parameters[start : start + together]
                directions = orthogonalised(torch.stack([self._direction(parameter) for parameter in part]))
                for parameter, direction in zip(part, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(sharded_like(direction, parameter), alpha=-rate)

    def _direction(self, parameter: Tensor) -> Tensor:
        """The gradient after Nesterov's momentum, whole, in bfloat16."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        kept = state["momentum_buffer"].lerp_(gradient, 1 - _MOMENTUM)
        return whole(gradient.lerp(kept, _MOMENTUM).to(torch.bfloat16))


def make_optimizer(network: nn.Module, model: ModelSettings, training: TrainingSettings) -> Optimizer:
    """The optimizer that the settings ask for. Matrices decay, vectors do not."""
    hidden, outer, vectors = split_parameters(network)
    first = next(network.parameters())
    shared = {"lr": model.lr, "betas": (training.beta1, training.beta2), "eps": 1e-8}
    # every key that AdamW's kernels read, since Muon's wrapper gives it groups without defaults
    shared |= {"fused": first.device.type in ("cpu", "cuda", "mps"), "amsgrad": False, "maximize": False}
    shared |= {"foreach": None, "capturable": False, "differentiable": False, "decoupled_weight_decay": True}
    decayed = {**shared, "weight_decay": training.weight_decay}
    plain = {"params": vectors, **shared, "weight_decay": 0.0}
    rest = [plain] if vectors else []
    if training.optimizer == "adamw" or not hidden:
        return AdamW([{"params": hidden + outer, **decayed}, *rest])
    muon = {"params": hidden, "lr": training.muon_lr, "weight_decay": training.weight_decay}
    return MuonWithAdamW([muon, {"params": outer, **decayed}, *rest])
