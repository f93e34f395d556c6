"""Linear layers for sampling on a processor: matrices laid out once for its kernels, in the precision asked for.

`nn.Linear` lays its matrix out anew at every call, and takes a kernel for float32 that leaves half of some processors
idle (docs/log.md). Nothing here can be trained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Packed(nn.Module):
    """A linear layer by oneDNN's kernels.

    Args:
        linear: what it computes.
        dtype: of its matrix, and of what it returns: float32 or bfloat16.
        rows: how many rows of the matrix count; all if None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, rows: int | None = None) -> None:
        super().__init__()
        matrix, bias = _cut(linear, rows)
        self.register_buffer("weight", torch.ops.mkldnn._reorder_linear_weight(matrix.to(dtype).contiguous(), None))
        self.register_buffer("bias", None if bias is None else bias.to(dtype))

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        """(..., inputs) -> (..., outputs), through a ReLU where `activation` is "relu"."""
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], self.weight.shape[0], dtype=self.weight.dtype)
        x = x.to(self.weight.dtype)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], "")
        return result


class Quantised(nn.Module):
    """A linear layer in 8-bit integers: a scale for each row of the matrix, and one for each token at every call.

    Both are symmetric: the largest entry is 127 (as in LLM.int8, arXiv:2208.07339, without its outliers).

    Args:
        linear: what it computes.
        dtype: of what it returns.
        rows: how many rows of the matrix count; all if None.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, rows: int | None = None) -> None:
        super().__init__()
        matrix, bias = _cut(linear, rows)
        self.dtype = dtype
        integers, scale = _integers(matrix)
        self.register_buffer("weight", integers.to(torch.int8))
        self.register_buffer("scale", scale.T)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        """(..., inputs) -> (..., outputs), through a ReLU where `activation` is "relu"."""
        if not x.numel():  # an expert of a mixture that no token goes through
            return x.new_zeros(*x.shape[:-1], self.weight.shape[0], dtype=self.dtype)
        integers, scale = _integers(x.flatten(0, -2).float())
        sums = torch._int_mm(integers.to(torch.int8), self.weight.T)
        y = (sums * scale).mul_(self.scale)
        y = y if self.bias is None else y.add_(self.bias)
        y = F.relu_(y) if activation == "relu" else y
        return y.to(self.dtype).view(*x.shape[:-1], -1)


def _integers(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, K) as whole numbers of -127 to 127, and what one of them stands for in each row, (N, 1)."""
    scale = x.abs().amax(dim=-1, keepdim=True).clamp_min_(torch.finfo(x.dtype).tiny).div_(127)
    return (x / scale).round_(), scale


def _cut(linear: nn.Linear, rows: int | None) -> tuple[Tensor, Tensor | None]:
    """The first rows of a matrix, and of its bias."""
    bias = linear.bias
    return linear.weight.detach()[:rows], None if bias is None else bias.detach()[:rows]
