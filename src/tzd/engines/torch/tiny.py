"""The `tiny` denoiser in PyTorch: Tiny Diffusion's transformer (github.com/nathan-barry/tiny-diffusion, model.py).

Token embedding, root-mean-square norms without parameters, rotary positions, normalised queries and keys,
bidirectional attention, squared ReLU, no biases. Queries, keys and values come from one matrix.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.config import TinyConfig
from tzd.diffusion.rotary import rotary_tables
from tzd.engines.torch.cache import Memory

# Up to this length, plain products in bfloat16 take half the time of PyTorch's own kernel on a CPU (docs/log.md); what
# they hold grows with the square of the length.
_SHORT = 512


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the halves of each head: x (..., width), tables (..., width / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


def attention_mask(attention: Tensor | None) -> Tensor | None:
    """(B, L) or (B, L, L) bool as a mask that broadcasts over heads."""
    if attention is None:
        return None
    return attention[:, None, None, :] if attention.ndim == 2 else attention[:, None]


class TimesTransposed(torch.autograd.Function):
    """a bᵀ of matrices (N, m, k) and (N, n, k), whose gradient of b lies as b does.

    Autograd's own lies across, and so do the copies that `matmul` makes of heads: what is next to the product then
    reads one number of a row at a time (docs/log.md).
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """(N, m, n)."""
        ctx.save_for_backward(a, b)
        return a @ b.mT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of a and b."""
        a, b = ctx.saved_tensors
        return gradients[0] @ b, gradients[0].mT @ a


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention: (B, heads, L, width) each -> the same."""
    on_cpu = q.device.type == "cpu" and q.dtype == torch.bfloat16
    if on_cpu and mask is None and q.shape[-2] <= _SHORT:
        scores = TimesTransposed.apply((q * q.shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1))
        return (scores.softmax(dim=-1) @ v.flatten(0, 1)).unflatten(0, q.shape[:2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def mixed_values(v: Tensor, first: Tensor, mix: Tensor | None) -> Tensor:
    """Values with those of the first layer, of the same shape, mixed in by two numbers (arXiv:2410.17897), if given."""
    if mix is None:
        return v
    own, other = mix.to(v.dtype)
    return own * v + other * first


class Attention(nn.Module):
    """Bidirectional attention with rotary positions and normalised queries and keys."""

    def __init__(self, config: TinyConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        self.norm_eps = config.norm_eps
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.value_mix = nn.Parameter(torch.empty(2)) if config.value_residual and layer else None

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        memory: Memory | None = None,
        first: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, L, C) -> the same, and the first layer's values; tables broadcast to (B, L, 2, heads, width / 2).

        `first` holds the values of the first layer, (B, L, heads, width); None in that one.
        """
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.n_head, width // self.n_head)
        qk, v = qkv.split((2, 1), dim=2)
        qk, v = rotate(qk, cos, sin), v.squeeze(2)
        q, k = F.rms_norm(qk, (qk.shape[-1],), eps=self.norm_eps).to(qkv.dtype).unbind(2)
        first = v if first is None else first
        v = mixed_values(v, first, self.value_mix)
        if memory is not None:
            k, v = memory.updated(self.layer, k, v)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mixed = attend(q, k, v, mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width)), first


class Mlp(nn.Module):
    """Two matrices with a squared ReLU between them (Primer, arXiv:2109.08668)."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    """Attention and MLP, each on the normalised residual stream."""

    def __init__(self, config: TinyConfig, layer: int) -> None:
        super().__init__()
        self.norm_eps = config.norm_eps
        self.dropout = config.dropout
        self.attention = Attention(config, layer)
        self.mlp = Mlp(config)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        memory: Memory | None = None,
        first: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, L, C) -> the same, and the first layer's values."""
        width = (x.shape[-1],)
        mixed, first = self.attention(F.rms_norm(x, width, eps=self.norm_eps), cos, sin, mask, memory, first)
        x = x + F.dropout(mixed, self.dropout, self.training)
        mixed = self.mlp(F.rms_norm(x, width, eps=self.norm_eps))
        return x + F.dropout(mixed, self.dropout, self.training), first


class Rotary(nn.Module):
    """The tables of rotary positions: no parameters, and saved only where they came with the weights.

    Args:
        config: the architecture. With its `rotary_tables` there are 2 · block_size rows, as in the files of Tiny
            Diffusion's MLX port, of which the first block_size are used.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        length = config.block_size * (2 if config.rotary_tables else 1)
        tables = rotary_tables(length, config.n_embd // config.n_head, config.rope_base)
        for name, table in zip(("cos", "sin"), tables, strict=True):
            self.register_buffer(name, torch.from_numpy(table), persistent=config.rotary_tables)

    def forward(self, length: int, positions: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the positions, 0 to length-1 if None, shaped to broadcast over (B, L, 2, heads, ·)."""
        at = slice(length) if positions is None else positions
        cos, sin = (table[at].to(dtype)[..., None, None, :] for table in (self.cos, self.sin))
        return cos, sin


class Tiny(nn.Module):
    """x_t → logits over clean tokens.

    Args:
        config: the architecture.
    """

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.n_embedding_rows, config.n_embd)
        self.time_embedding = nn.Embedding(config.time_steps, config.n_embd) if config.time_steps else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.rotary = Rotary(config)

    def forward(
        self,
        tokens: Tensor,
        t: Tensor | None = None,
        positions: Tensor | None = None,
        attention: Tensor | None = None,
        rows: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Logits; see `tzd.diffusion.denoiser.Denoiser.forward`. `t` holds rows of the time embedding, (B,) int.

        With a `memory` the tokens attend to all of its positions, and `attention` is (B, L, positions).
        """
        x = self.token_embedding(tokens)
        if self.time_embedding is not None:
            x = x + self.time_embedding(t)[:, None]
        x = F.dropout(x, self.config.dropout, self.training)
        x = F.rms_norm(x, (x.shape[-1],), eps=self.config.norm_eps)
        cos, sin = self.rotary(tokens.shape[1], positions, self._dtype())
        mask, first = attention_mask(attention), None
        for block in self.blocks:
            x, values = block(x, cos, sin, mask, memory, first)
            first = values if self.config.value_residual else None  # held, and sharded ones passed on, for that alone
        if rows is not None:
            x = x.reshape(-1, x.shape[-1])[rows]
        x = F.rms_norm(x, (x.shape[-1],), eps=self.config.norm_eps)
        return self.head(x)

    def _dtype(self) -> torch.dtype:
        """The dtype that the matrices compute in."""
        weight = self.head.weight
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype
