"""The `smdm` denoiser in MLX: SMDM's bidirectional encoder (github.com/ML-GSAI/SMDM, lit_gpt/diffmodel.py).

Token embedding, norms with weights, rotary positions in a share of each head, bidirectional attention whose keys and
values may serve several queries, a gated or a plain MLP, one after the attention or beside it. Parameters have SMDM's
own names.

Matrices may be of lower precision than float32; the residual stream, norms and softmax never are.
"""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
from mlx import nn

from tzd.config.smdm import SmdmConfig
from tzd.diffusion.rotary import float32_angles
from tzd.engines.mlx.cache import Memory
from tzd.engines.mlx.exponential import exp2
from tzd.engines.mlx.tiny import attention_mask, matrix, picked


def rotate(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotates the first columns of each head by halves: x (..., width), tables (..., half of what is rotated)."""
    half = cos.shape[-1]
    first, second, rest = mx.split(x, [half, 2 * half], axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return mx.concatenate([*turned, rest] if rest.shape[-1] else turned, axis=-1)


def attend(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None) -> mx.array:
    """Attention: (B, heads, L, width) each -> the same; there may be fewer keys and values, in groups."""
    scale = q.shape[-1] ** -0.5
    if mx.default_device() == mx.Device(mx.gpu):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    queries = q.shape[1] // k.shape[1]
    if queries > 1:
        k, v = (mx.repeat(part, queries, axis=1) for part in (k, v))
    # Unlike those of normalised queries and keys, these logits have no bound: their maximum is subtracted first.
    logits = ((q * (scale / math.log(2))) @ k.swapaxes(-1, -2)).astype(mx.float32)
    if mask is not None:
        logits = mx.where(mask, logits, -1e30)
    weights = exp2(logits - mx.stop_gradient(logits.max(axis=-1, keepdims=True)))
    if mask is not None:
        weights = mx.where(mask, weights, 0.0)
    total = mx.maximum(weights.sum(axis=-1, keepdims=True), 1e-30)  # who attends to nobody gets zeros, as in PyTorch
    return (weights.astype(v.dtype) @ v) / total.astype(v.dtype)


def silu(x: mx.array) -> mx.array:
    """The gate x / (1 + e^(−x)), on a CPU by a power of 2 too; below −40 it is as good as 0."""
    if mx.default_device() == mx.Device(mx.gpu):
        return nn.silu(x)
    wide = x.astype(mx.float32)
    return (wide / (1 + exp2(mx.maximum(wide, -40.0) * (-1 / math.log(2))))).astype(x.dtype)


def norm(config: SmdmConfig) -> nn.Module:
    """A norm of the residual stream."""
    kind = nn.LayerNorm if config.norm_class_name == "LayerNorm" else nn.RMSNorm
    return kind(config.n_embd, eps=config.norm_eps)


class Attention(nn.Module):
    """Bidirectional attention. The matrix's rows are, group by group, its queries, its key and its value."""

    def __init__(self, config: SmdmConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.groups = config.groups
        self.queries = config.n_head // config.groups
        rows = (config.n_head + 2 * config.groups) * config.head_size
        self.attn = nn.Linear(config.n_embd, rows, bias=config.bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def __call__(
        self,
        x: mx.array,
        cos: mx.array,
        sin: mx.array,
        mask: mx.array | None,
        memory: Memory | None = None,
        rows: mx.array | None = None,
    ) -> mx.array:
        """(B, L, C) -> the same, or (N, C) at `rows`.

        Tables broadcast to (B, L, groups, queries + 1, half of what is rotated).
        """
        batch, length, width = x.shape
        qkv = self.attn(x).reshape(batch, length, self.groups, self.queries + 2, -1)
        qk = rotate(qkv[..., :-1, :], cos, sin)
        q = qk[..., :-1, :].flatten(2, 3).transpose(0, 2, 1, 3)
        k, v = qk[..., -1, :], qkv[..., -1, :]
        if memory is not None:
            k, v = memory.updated(self.layer, k, v)
        k, v = (part.transpose(0, 2, 1, 3) for part in (k, v))
        mixed = attend(q, k, v, mask)
        return self.proj(picked(mixed.transpose(0, 2, 1, 3).reshape(batch, length, width), rows))


class SwiGLU(nn.Module):
    """w3 (silu(w1 x) · w2 x) (arXiv:2002.05202), never with biases."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.w2 = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.w3 = nn.Linear(config.mlp_width, config.n_embd, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) -> (B, L, C)."""
        return self.w3(silu(self.w1(x)) * self.w2(x))


class LLaMAMLP(nn.Module):
    """A SwiGLU by the name that SMDM's files have for it."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.swiglu = SwiGLU(config)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) -> (B, L, C)."""
        return self.swiglu(x)


class GptNeoxMLP(nn.Module):
    """Two matrices with a GELU between them."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, config.mlp_width, bias=config.bias)
        self.proj = nn.Linear(config.mlp_width, config.n_embd, bias=config.bias)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) -> (B, L, C)."""
        return self.proj(nn.gelu(self.fc(x)))


class Block(nn.Module):
    """Attention and MLP, each on the normalised residual stream."""

    def __init__(self, config: SmdmConfig, layer: int) -> None:
        super().__init__()
        self.parallel = config.parallel_residual
        self.norm_1 = norm(config)
        self.attn = Attention(config, layer)
        self.norm_2 = None if config.shared_attention_norm else norm(config)
        self.mlp = LLaMAMLP(config) if config.mlp_class_name == "LLaMAMLP" else GptNeoxMLP(config)

    def __call__(
        self,
        x: mx.array,
        cos: mx.array,
        sin: mx.array,
        mask: mx.array | None,
        memory: Memory | None = None,
        rows: mx.array | None = None,
    ) -> mx.array:
        """(B, L, C) float32 -> the same, or (N, C) at `rows`; the tables' dtype is that of the matrices."""
        normed = self.norm_1(x).astype(cos.dtype)
        before = picked(x, rows)
        mixed = before + self.attn(normed, cos, sin, mask, memory, rows)
        if self.norm_2 is not None:
            normed = self.norm_2(before if self.parallel else mixed).astype(cos.dtype)
        else:
            normed = picked(normed, rows)
        return mixed + self.mlp(normed)


class Transformer(nn.Module):
    """What lies between tokens and head."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.n_embedding_rows, config.n_embd)
        self.h = [Block(config, layer) for layer in range(config.n_layer)]
        self.ln_f = norm(config)


class Smdm(nn.Module):
    """x_t → logits over clean tokens.

    Args:
        config: the architecture.
    """

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.config = config
        self.lm_head = nn.Linear(config.n_embd, config.padded_vocab_size, bias=False)
        self.transformer = Transformer(config)
        angles = float32_angles(config.block_size, config.rotary_width, config.rope_base)
        precision = mx.bfloat16 if config.rotary_dtype == "bfloat16" else mx.float32
        tables = (mx.array(table).astype(precision).astype(mx.float32) for table in (np.cos(angles), np.sin(angles)))
        self._cos, self._sin = tables  # no parameters: the underscore keeps them out

    def __call__(
        self,
        tokens: mx.array,
        positions: mx.array | None = None,
        attention: mx.array | None = None,
        rows: mx.array | None = None,
        key: mx.array | None = None,
        memory: Memory | None = None,
    ) -> mx.array:
        """Logits of the tokens, not of the padding; see `tzd.diffusion.denoiser.Denoiser.forward`.

        Args:
            tokens: (B, L) int, x_t.
            positions: (B, L) int, rotary positions; 0 to L-1 if None.
            attention: (B, L) or (B, L, L) bool, who may be attended to.
            rows: (N,) int, flattened positions at which the head runs, and what precedes it after the last attention;
                all if None.
            key: of random numbers, of which none are drawn: that it is taken says that training may be compiled.
            memory: keys and values of earlier passes. The tokens attend to all of its positions, and `attention` is
                (B, L, positions).

        Returns:
            (B, L, V), or (N, V) if `rows` is given, in the matrices' dtype.
        """
        hidden = self.hidden(tokens, positions, attention, rows, key, memory)
        return self.lm_head(hidden)[..., : self.config.vocab_size]

    def hidden(
        self,
        tokens: mx.array,
        positions: mx.array | None = None,
        attention: mx.array | None = None,
        rows: mx.array | None = None,
        key: mx.array | None = None,
        memory: Memory | None = None,
    ) -> mx.array:
        """What the head is given, (B, L, C) or (N, C); arguments as those of a call."""
        dtype = self.transformer.wte.weight.dtype  # matrices may be kept in whole numbers
        at = slice(tokens.shape[1]) if positions is None else positions
        cos, sin = (table[at].astype(dtype)[..., None, None, :] for table in (self._cos, self._sin))
        mask = attention_mask(attention)
        x = self.transformer.wte(tokens).astype(mx.float32)
        last = self.config.n_layer - 1
        for i, block in enumerate(self.transformer.h):
            x = block(x, cos, sin, mask, memory, rows if i == last else None)
        return self.transformer.ln_f(x).astype(dtype)

    def head_weight(self) -> mx.array | None:
        """(V, C), by which the head multiplies, without the padding; None where something else was put in its place."""
        weight = matrix(self.lm_head)
        return weight if weight is None else weight[: self.config.vocab_size]
