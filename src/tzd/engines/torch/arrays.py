"""`tzd.arrays.Arrays` for PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class TorchArrays:
    """The functions that candidates and scores call, on one device.

    Args:
        device: where arrays are made.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def asarray(self, x: np.ndarray) -> Tensor:
        return torch.as_tensor(np.require(x, requirements=["C", "W"]), device=self.device)

    def to_numpy(self, x: Tensor) -> np.ndarray:
        return x.cpu().numpy()

    def floats(self, x: Tensor) -> Tensor:
        return x if x.dtype in (torch.float32, torch.float64) else x.float()

    def softmax(self, x: Tensor) -> Tensor:
        return torch.softmax(x, dim=-1)

    def log_probability(self, logits: Tensor, index: Tensor) -> Tensor:
        return -F.cross_entropy(logits, index, reduction="none")

    def log(self, x: Tensor) -> Tensor:
        return x.clamp_min(torch.finfo(x.dtype).tiny).log()

    def rows(self, x: Tensor, index: Tensor) -> Tensor:
        return x[index]

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def where(self, condition: Tensor, a: Any, b: Any) -> Tensor:
        return torch.where(condition, a, b)

    def argmax(self, x: Tensor) -> Tensor:
        return x.argmax(dim=-1)

    def max(self, x: Tensor) -> Tensor:
        return x.amax(dim=-1)

    def top2(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[-1] == 1:
            return x[..., 0], torch.zeros_like(x[..., 0])
        largest = x.topk(2, dim=-1).values
        return largest[..., 0], largest[..., 1]

    def sum(self, x: Tensor) -> Tensor:
        return x.sum(dim=-1)

    def entropy(self, p: Tensor) -> Tensor:
        return torch.special.entr(p).sum(dim=-1)

    def sort_descending(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, order = torch.sort(x, dim=-1, descending=True, stable=True)
        return values, order

    def cumsum(self, x: Tensor) -> Tensor:
        return x.cumsum(dim=-1)

    def take(self, x: Tensor, index: Tensor) -> Tensor:
        return x.gather(-1, index)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    def pad_last(self, x: Tensor, width: int) -> Tensor:
        return F.pad(x, (0, width - x.shape[-1]))
