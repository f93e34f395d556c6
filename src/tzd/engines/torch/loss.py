"""Σ weight · CE in PyTorch, without the float32 copies of the logits that a large vocabulary makes expensive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = 2**22  # float32 numbers that are held at a time: of rows of logits, 16 MiB


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor, *, overwrite: bool = False) -> Tensor:
    """Σ weight · CE in float32.

    Args:
        logits: (..., V).
        targets: (...) int.
        weight: (...).
        overwrite: put the gradient in the place of the logits, so that there is one array of their size and not two.
            Where what made them needs them for its own gradient, `backward` raises RuntimeError.
    """
    return _WeightedCrossEntropy.apply(logits.flatten(0, -2), targets.flatten(), weight.flatten(), overwrite)


class _WeightedCrossEntropy(torch.autograd.Function):
    """The gradient is made with the loss, some rows at a time, and kept in the logits' own precision.

    Beside the logits there is then one array of their size and dtype at most. With `F.cross_entropy` in float32 there
    are two of float32, and for logits of 16 bits a third.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, weight: Tensor, overwrite: bool) -> Tensor:
        """Logits (N, V), targets and weight (N,) -> a number."""
        # ∂CE/∂logits: probabilities, less 1 at the target
        slope = logits.detach() if overwrite else torch.empty_like(logits)
        total = torch.zeros((), device=logits.device)
        for part, target, w, out in _chunks(logits, targets[:, None], weight[:, None], slope):
            log_p = part.float().log_softmax(dim=-1)
            total -= (log_p.gather(1, target) * w).sum()
            p = log_p.exp_()
            out.copy_(p.scatter_add_(1, target, p.new_full((1, 1), -1.0).expand_as(target)))
        ctx.save_for_backward(slope, weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Weighs what `forward` has kept, in its place."""
        slope, weight = ctx.saved_tensors
        for part, factor in _chunks(slope, (gradients[0] * weight)[:, None]):  # PyTorch copies other dtypes
            part.mul_(factor)
        return slope, None, None, None


def _chunks(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each, as many at a time as may be held in float32."""
    rows = max(1, _CHUNK // logits.shape[-1])
    return zip(*(x.split(rows) for x in (logits, *others)), strict=True)
