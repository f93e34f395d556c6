"""What training on a large vocabulary holds: never two float32 arrays of (masked rows × V)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runs import train
from tzd.config import model_config
from tzd.diffusion.objective import HEAD_ON_MASKED_FROM
from tzd.engines.torch.denoiser import NETWORKS, build
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.module import DiffusionModule

VOCAB, ROWS = HEAD_ON_MASKED_FROM + 52, 8 * 24


class Held(TorchDispatchMode):
    """Counts the arrays of float32 that live at one time and have at least so many numbers."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.most = least, 0
        self._alive: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.dtype == torch.float32 and x.untyped_storage().nbytes() >= 4 * self.least:
                ref = StorageWeakRef(x.untyped_storage())
                self._alive[ref.cdata] = ref
        self._alive = {key: ref for key, ref in self._alive.items() if not ref.expired()}
        self.most = max(self.most, len(self._alive))
        return out


def held_in_steps(folder: Path, monkeypatch: pytest.MonkeyPatch, denoiser: Any = None, **changes: Any) -> int:
    """How many such arrays the optimizer steps of a run hold at a time, a sixteenth of its tokens being masked."""
    (folder / "text.txt").write_text("".join(chr(0x4E00 + i % VOCAB) for i in range(3 * VOCAB)))
    held, step = Held(ROWS // 16 * VOCAB), DiffusionModule.optimizer_step

    def watched(*args: Any, **kwargs: Any) -> None:
        with held:
            step(*args, **kwargs)

    monkeypatch.setattr(DiffusionModule, "optimizer_step", watched)
    # the loss takes some rows at a time in float32; here one
    monkeypatch.setattr("tzd.engines.torch.loss._CHUNK", 1)
    small = {"model.n_embd": 4, "training.val_windows": 1, "training.max_steps": 2, "training.eval_interval": 2}
    train(folder, {**small, **changes}, denoiser=denoiser)
    return held.most


@pytest.mark.parametrize(("precision", "arrays"), [("32-true", 1), ("bf16-mixed", 0)])
def test_a_step_holds_one_array_of_logits_in_float32_and_none_where_products_are_bfloat16(
    precision: str, arrays: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held_in_steps(tmp_path, monkeypatch, **{"training.precision": precision}) == arrays


def test_a_module_of_the_callers_own_that_needs_its_logits_again_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = nn.Sequential(nn.Embedding(VOCAB + 1, 4), nn.Linear(4, VOCAB), nn.Tanh())
    assert held_in_steps(tmp_path, monkeypatch, denoiser=own) > 1


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("model_type", NETWORKS)
def test_no_network_of_ours_needs_its_logits_again(model_type: str, compiled: bool) -> None:
    settings = {"model_type": model_type, "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 12}
    if model_type == "litgpt":
        pytest.importorskip("litgpt")
        settings["final_logit_softcapping"] = 2.0
    network = build(model_config({**settings, "vocab_size": 40}))
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    if compiled:  # as by default, but for the code that is written in the end
        network.compile(backend="aot_eager_decomp_partition")
    generator = torch.Generator().manual_seed(0)
    tokens, targets = (torch.randint(40, (3, 12), generator=generator) for _ in range(2))
    rows, weight = torch.arange(0, 36, 2), torch.rand(36, generator=generator)
    for at in (None, rows):
        results = []
        for overwrite in (False, True):
            network.zero_grad()
            logits = network(tokens, rows=at)
            loss = weighted_cross_entropy(logits, targets.flatten()[at], weight[at], overwrite=overwrite)
            loss.backward()
            results.append([loss.detach(), *(parameter.grad for parameter in network.parameters())])
        assert all(map(torch.equal, *results))
        assert results[0][-1].abs().sum() > 0


def test_logits_that_are_needed_again_are_not_overwritten_in_silence() -> None:
    logits = torch.zeros(3, 5, requires_grad=True).tanh()
    loss = weighted_cross_entropy(logits, torch.zeros(3, dtype=torch.long), torch.ones(3), overwrite=True)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()
