"""Optimizers: AdamW, and Muon for the matrices with AdamW for the rest, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from tzd.config import ModelSettings, TrainingSettings

_MUON_ONLY = {
    "momentum": 0.95,
    "nesterov": True,
    "ns_coefficients": (3.4445, -4.775, 2.0315),
    "ns_steps": 5,
    "eps": 1e-7,
}


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


class MuonWithAdamW(Optimizer):
    """Muon on the first group of parameters, AdamW on the others.

    One optimizer, so that Lightning clips, accumulates and saves as usual: both inner ones work on the groups and
    the state of this one. Muon: Jordan et al. 2024, `torch.optim.Muon`.

    Args:
        groups: parameter groups; the first is Muon's.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})
        self._link()

    def _link(self) -> None:
        self._muon = Muon([{**self.param_groups[0]}])
        self._adamw = AdamW([{**group} for group in self.param_groups[1:]])
        self._muon.param_groups = self.param_groups[:1]
        self._adamw.param_groups = self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state

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
        self._muon.step()
        self._adamw.step()
        return loss


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
    muon = {"params": hidden, "lr": training.muon_lr, "weight_decay": training.weight_decay, **_MUON_ONLY}
    muon["adjust_lr_fn"] = "original"
    return MuonWithAdamW([muon, {"params": outer, **decayed}, *rest])
