"""The optimizers of the PyTorch engine."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon

from tzd.config import ModelSettings, TinyConfig, TrainingSettings
from tzd.engines.torch import optim
from tzd.engines.torch.optim import MuonWithAdamW, make_optimizer, split_parameters
from tzd.engines.torch.tiny import Tiny

LR, MUON_LR, DECAY, BETAS = 3e-3, 0.02, 0.1, (0.85, 0.97)
MODEL = ModelSettings(lr=LR)


class Mixed(nn.Module):
    """Every kind of parameter: embedding, hidden matrices, head, vectors, a tensor of three axes, a frozen matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 8)
        self.wide = nn.Linear(8, 24)
        self.tall = nn.Linear(24, 8)
        self.filter = nn.Conv1d(8, 8, 3)
        self.norm = nn.LayerNorm(8)
        self.fixed = nn.Linear(8, 8, bias=False).requires_grad_(False)
        self.head = nn.Linear(8, 7)


def settings(optimizer: str) -> TrainingSettings:
    return TrainingSettings(optimizer=optimizer, muon_lr=MUON_LR, weight_decay=DECAY, beta1=BETAS[0], beta2=BETAS[1])


def optimizer_for(network: nn.Module, kind: str = "muon") -> torch.optim.Optimizer:
    return make_optimizer(network, MODEL, settings(kind))


def set_gradients(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        set_gradients(network, step)
        optimizer.step()


def names(network: nn.Module, tensors: list[Tensor]) -> set[str]:
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return {name_of[id(tensor)] for tensor in tensors}


def identical(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_parameters_are_split_by_what_they_are_and_frozen_ones_left_out() -> None:
    network = Mixed()
    hidden, outer, vectors = (names(network, part) for part in split_parameters(network))
    assert hidden == {"wide.weight", "tall.weight"}
    assert outer == {"embedding.weight", "filter.weight", "head.weight"}
    assert vectors == {"wide.bias", "tall.bias", "filter.bias", "norm.weight", "norm.bias", "head.bias"}


def test_every_matrix_of_tiny_but_embeddings_and_head_is_muons() -> None:
    network = Tiny(TinyConfig(vocab_size=5, n_layer=2, n_head=2, n_embd=8, block_size=8, time_steps=3))
    hidden, outer, vectors = split_parameters(network)
    assert names(network, outer) == {"token_embedding.weight", "time_embedding.weight", "head.weight"}
    assert len(hidden) == 2 * 4 and not vectors


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_matrices_decay_and_vectors_do_not(kind: str) -> None:
    network = Mixed()
    decays = {}
    for group in optimizer_for(network, kind).param_groups:
        decays |= dict.fromkeys(names(network, group["params"]), group["weight_decay"])
    vectors = names(network, split_parameters(network)[2])
    assert decays.keys() == {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, decay in decays.items() if decay == 0.0} == vectors
    assert set(decays.values()) == {0.0, DECAY}


def test_muon_with_adamw_is_torchs_muon_and_torchs_adamw_bit_for_bit() -> None:
    ours, theirs = Mixed(), Mixed()
    optimizer = optimizer_for(ours)
    assert isinstance(optimizer, MuonWithAdamW)
    hidden, outer, vectors = split_parameters(theirs)
    muon = Muon(hidden, lr=MUON_LR, weight_decay=DECAY, momentum=0.95, nesterov=True, adjust_lr_fn="original")
    groups = [{"params": outer, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    adamw = AdamW(groups, lr=LR, betas=BETAS, eps=1e-8, fused=True)
    before = copy.deepcopy(ours)
    for step in range(3):
        take_steps(ours, optimizer, step, step + 1)
        set_gradients(theirs, step)
        muon.step()
        adamw.step()
        assert identical(ours, theirs)
    moved = {name for (name, p), q in zip(ours.named_parameters(), before.parameters(), strict=True) if (p != q).any()}
    assert moved == {name for name, p in ours.named_parameters() if p.requires_grad}


def test_matrices_of_one_shape_are_orthogonalised_together_as_torchs_muon_does_each_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(optim, "_STACKED", 2 * 48 * 24)  # two of the three at a time
    shapes = [(48, 24), (24, 48), (24, 24)] * 3
    generator = torch.Generator().manual_seed(0)
    ours, theirs = nn.ParameterList(torch.zeros(shape) for shape in shapes), nn.ParameterList(map(torch.zeros, shapes))
    optimizer = make_optimizer(ours, MODEL, settings("muon"))
    muon = Muon(theirs, lr=MUON_LR, weight_decay=DECAY, momentum=0.95, nesterov=True, adjust_lr_fn="original")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        optimizer.step()
        muon.step()
        assert identical(ours, theirs)


def test_adamw_is_torchs_own_with_the_settings_given() -> None:
    ours, theirs = Mixed(), Mixed()
    hidden, outer, vectors = split_parameters(theirs)
    groups = [{"params": hidden + outer, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    adamw = AdamW(groups, lr=LR, betas=BETAS, eps=1e-8, fused=True)
    take_steps(ours, optimizer_for(ours, "adamw"), 0, 3)
    take_steps(theirs, adamw, 0, 3)
    assert identical(ours, theirs)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_restored_optimizer_goes_on_bit_for_bit(kind: str) -> None:
    whole = Mixed()
    optimizer = optimizer_for(whole, kind)
    take_steps(whole, optimizer, 0, 2)
    resumed, state = copy.deepcopy(whole), copy.deepcopy(optimizer.state_dict())
    take_steps(whole, optimizer, 2, 5)
    restored = optimizer_for(resumed, kind)
    restored.load_state_dict(state)
    take_steps(resumed, restored, 2, 5)
    assert identical(whole, resumed)
    fresh = copy.deepcopy(whole)
    take_steps(fresh, optimizer_for(fresh, kind), 5, 6)
    take_steps(whole, optimizer, 5, 6)
    assert not identical(whole, fresh)  # the state matters


def test_a_learning_rate_set_from_outside_reaches_both_optimizers() -> None:
    network = Mixed()
    optimizer = optimizer_for(network)
    optimizer.load_state_dict(optimizer.state_dict())  # replaces the groups
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(network)
    take_steps(network, optimizer, 0, 2)
    assert identical(network, before)


def test_a_network_without_hidden_matrices_is_adamws_alone() -> None:
    network = nn.Embedding(5, 4)
    optimizer = make_optimizer(network, MODEL, settings("muon"))
    assert isinstance(optimizer, AdamW)


def test_the_step_returns_the_loss_of_its_closure_which_may_take_gradients() -> None:
    network = Mixed()
    optimizer = optimizer_for(network)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum((p**2).sum() for p in network.parameters() if p.requires_grad)
        loss.backward()
        return loss.detach()

    with torch.no_grad():
        first = optimizer.step(closure)
    assert optimizer.step(closure) < first
