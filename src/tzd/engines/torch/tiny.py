"""The `tiny` denoiser in PyTorch: Tiny Diffusion's transformer (github.com/nathan-barry/tiny-diffusion, model.py).

Token embedding, root-mean-square norms without parameters, rotary positions, normalised queries and keys,
bidirectional attention, squared ReLU, no biases. Queries, keys and values come from one matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.config import TinyConfig


def rotary_tables(length: int, width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions 0..length-1 (RoFormer, arXiv:2104.09864). Each (length, width / 2)."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the halves of each head: x (..., width), tables (..., width / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


def attention_mask(attention: Tensor | None) -> Tensor | None:
    """(B, L) or (B, L, L) bool as a mask that broadcasts over heads."""
    if attention is None:
        return None
    return attention[:, None, None, :] if attention.ndim == 2 else attention[:, None]


class Attention(nn.Module):
    """Bidirectional attention with rotary positions and normalised queries and keys."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.norm_eps = config.norm_eps
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, C) -> (B, L, C); tables broadcast to (B, L, 2, heads, width / 2)."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.n_head, width // self.n_head)
        qk = rotate(qkv[:, :, :2], cos, sin)
        qk = F.rms_norm(qk, (qk.shape[-1],), eps=self.norm_eps).to(qkv.dtype)
        q, k, v = qk[:, :, 0].transpose(1, 2), qk[:, :, 1].transpose(1, 2), qkv[:, :, 2].transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


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

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.norm_eps = config.norm_eps
        self.dropout = config.dropout
        self.attention = Attention(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        width = (x.shape[-1],)
        mixed = self.attention(F.rms_norm(x, width, eps=self.norm_eps), cos, sin, mask)
        x = x + F.dropout(mixed, self.dropout, self.training)
        mixed = self.mlp(F.rms_norm(x, width, eps=self.norm_eps))
        return x + F.dropout(mixed, self.dropout, self.training)


class Tiny(nn.Module):
    """x_t → logits over clean tokens.

    Args:
        config: the architecture.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.n_embedding_rows, config.n_embd)
        self.time_embedding = nn.Embedding(config.time_steps, config.n_embd) if config.time_steps else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        cos, sin = rotary_tables(config.block_size, config.n_embd // config.n_head, config.rope_base)
        self.register_buffer("cos", cos, persistent=False)  # tables, not parameters: neither trained nor saved
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        t: Tensor | None = None,
        positions: Tensor | None = None,
        attention: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Logits; see `tzd.diffusion.denoiser.Denoiser.forward`. `t` holds rows of the time embedding, (B,) int."""
        x = self.token_embedding(tokens)
        if self.time_embedding is not None:
            x = x + self.time_embedding(t)[:, None]
        x = F.dropout(x, self.config.dropout, self.training)
        x = F.rms_norm(x, (x.shape[-1],), eps=self.config.norm_eps)
        cos, sin = self._tables(tokens.shape[1], positions)
        mask = attention_mask(attention)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        if rows is not None:
            x = x.reshape(-1, x.shape[-1])[rows]
        x = F.rms_norm(x, (x.shape[-1],), eps=self.config.norm_eps)
        return self.head(x)

    def _tables(self, length: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tables in the dtype that the matrices compute in, shaped to broadcast over (B, L, 2, heads, ·)."""
        dtype = self.head.weight.dtype
        if torch.is_autocast_enabled(self.cos.device.type):
            dtype = torch.get_autocast_dtype(self.cos.device.type)
        if positions is None:
            cos, sin = self.cos[None, :length], self.sin[None, :length]
        else:
            cos, sin = self.cos[positions], self.sin[positions]
        return cos[:, :, None, None].to(dtype), sin[:, :, None, None].to(dtype)
