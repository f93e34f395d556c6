"""The `tiny` denoiser in MLX: Tiny Diffusion's transformer (github.com/nathan-barry/tiny-diffusion, model.py).

Token embedding, root-mean-square norms without parameters, rotary positions, normalised queries and keys,
bidirectional attention, squared ReLU, no biases. Queries, keys and values come from one matrix.

Matrices may be of lower precision than float32; the residual stream, norms and softmax never are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import mlx.core as mx
from mlx import nn

from tzd.config import TinyConfig
from tzd.diffusion.rotary import rotary_tables
from tzd.engines.mlx.cache import Memory
from tzd.engines.mlx.exponential import exp2


def rotate(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotates the halves of each head: x (..., width), tables (..., width / 2)."""
    first, second = mx.split(x, 2, axis=-1)
    return mx.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)


def attention_mask(attention: mx.array | None) -> mx.array | None:
    """(B, L) or (B, L, L) bool as a mask that broadcasts over heads."""
    if attention is None:
        return None
    return attention[:, None, None, :] if attention.ndim == 2 else attention[:, None]


def attend(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None) -> mx.array:
    """Attention of normalised queries and keys: (B, heads, L, width) each -> the same."""
    scale = q.shape[-1] ** -0.5
    if mx.default_device() == mx.Device(mx.gpu):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    # Logits of normalised queries and keys are at most √width, so that no maximum needs to be subtracted first.
    weights = exp2(((q * (scale / math.log(2))) @ k.swapaxes(-1, -2)).astype(mx.float32))
    if mask is not None:
        weights = mx.where(mask, weights, 0.0)
    total = mx.maximum(weights.sum(axis=-1, keepdims=True), 1e-30)  # who attends to nobody gets zeros, as in PyTorch
    return (weights.astype(v.dtype) @ v) / total.astype(v.dtype)


def picked(x: mx.array, rows: mx.array | None) -> mx.array:
    """(B, L, C) at the flattened positions `rows`: (N, C); x itself if None."""
    return x if rows is None else x.reshape(-1, x.shape[-1])[rows]


def dropout(x: mx.array, rate: float, key: mx.array | None) -> mx.array:
    """Zeroes a share of the entries and scales the others to keep the mean; does nothing without a key."""
    if key is None or not rate:
        return x
    return mx.where(mx.random.bernoulli(1 - rate, x.shape, key=key), x / (1 - rate), 0.0)


def matrix(layer: nn.Module) -> mx.array | None:
    """By which a linear layer multiplies; None of a layer that does anything else."""
    return layer.weight if type(layer) is nn.Linear and "bias" not in layer else None


class Attention(nn.Module):
    """Bidirectional attention with rotary positions and normalised queries and keys."""

    def __init__(self, config: TinyConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        self.norm_eps = config.norm_eps
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)
        if config.value_residual and layer:
            self.value_mix = mx.full((2,), 0.5)

    def __call__(
        self,
        x: mx.array,
        cos: mx.array,
        sin: mx.array,
        mask: mx.array | None,
        memory: Memory | None = None,
        rows: mx.array | None = None,
        first: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        """(B, L, C) -> the same, or (N, C) at `rows`, and the first layer's values (B, L, heads, width).

        The tables broadcast to (B, L, 2, heads, width / 2); `first` is None in the first layer.
        """
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.n_head, width // self.n_head)
        qk = mx.fast.rms_norm(rotate(qkv[:, :, :2], cos, sin), None, self.norm_eps)
        k, v = qk[:, :, 1], qkv[:, :, 2]
        first = v if first is None else first
        if "value_mix" in self:  # arXiv:2410.17897
            own, other = self.value_mix.astype(v.dtype)
            v = own * v + other * first
        if memory is not None:
            k, v = memory.updated(self.layer, k, v)
        q, k, v = (part.transpose(0, 2, 1, 3) for part in (qk[:, :, 0], k, v))
        mixed = attend(q, k, v, mask)
        return self.out(picked(mixed.transpose(0, 2, 1, 3).reshape(batch, length, width), rows)), first


class Mlp(nn.Module):
    """Two matrices with a squared ReLU between them (Primer, arXiv:2109.08668)."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, config.n_embd, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, C) -> (B, L, C)."""
        return self.down(mx.square(nn.relu(self.up(x))))


class Block(nn.Module):
    """Attention and MLP, each on the normalised residual stream."""

    def __init__(self, config: TinyConfig, layer: int) -> None:
        super().__init__()
        self.norm_eps = config.norm_eps
        self.dropout = config.dropout
        self.attention = Attention(config, layer)
        self.mlp = Mlp(config)

    def __call__(
        self,
        x: mx.array,
        cos: mx.array,
        sin: mx.array,
        mask: mx.array | None,
        key: mx.array | None,
        memory: Memory | None = None,
        rows: mx.array | None = None,
        first: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        """(B, L, C) float32 -> the same, or (N, C) at `rows`, and the first layer's values.

        The tables' dtype is that of the matrices.
        """
        keys = (None, None) if key is None else mx.random.split(key)
        normed = mx.fast.rms_norm(x, None, self.norm_eps).astype(cos.dtype)
        mixed, first = self.attention(normed, cos, sin, mask, memory, rows, first)
        x = picked(x, rows) + dropout(mixed, self.dropout, keys[0])
        mixed = self.mlp(mx.fast.rms_norm(x, None, self.norm_eps).astype(cos.dtype))
        return x + dropout(mixed, self.dropout, keys[1]), first


class Rotary(nn.Module):
    """The tables of rotary positions: no parameters (the underscore keeps them out), and never trained.

    Args:
        config: the architecture. With its `rotary_tables` there are 2 · block_size rows, as in the files of Tiny
            Diffusion's MLX port, of which the first block_size are used.
    """

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        length = config.block_size * (2 if config.rotary_tables else 1)
        cos, sin = rotary_tables(length, config.n_embd // config.n_head, config.rope_base)
        self._cos, self._sin = mx.array(cos), mx.array(sin)

    def __call__(self, length: int, positions: mx.array | None, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        """Cosines and sines of the positions, 0 to length-1 if None, shaped to broadcast over (B, L, 2, heads, ·)."""
        at = slice(length) if positions is None else positions
        cos, sin = (table[at].astype(dtype)[..., None, None, :] for table in (self._cos, self._sin))
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
        self.blocks = [Block(config, layer) for layer in range(config.n_layer)]
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.rotary = Rotary(config)

    def __call__(
        self,
        tokens: mx.array,
        t: mx.array | None = None,
        positions: mx.array | None = None,
        attention: mx.array | None = None,
        rows: mx.array | None = None,
        key: mx.array | None = None,
        memory: Memory | None = None,
    ) -> mx.array:
        """Logits; see `tzd.diffusion.denoiser.Denoiser.forward`.

        Args:
            tokens: (B, L) int, x_t.
            t: (B,) int, rows of the time embedding.
            positions: (B, L) int, rotary positions; 0 to L-1 if None.
            attention: (B, L) or (B, L, L) bool, who may be attended to.
            rows: (N,) int, flattened positions at which the head runs, and what precedes it after the last attention;
                all if None.
            key: of the dropout; without it there is none.
            memory: keys and values of earlier passes. The tokens attend to all of its positions, and `attention` is
                (B, L, positions).

        Returns:
            (B, L, V), or (N, V) if `rows` is given, in the matrices' dtype.
        """
        return self.head(self.hidden(tokens, t, positions, attention, rows, key, memory))

    def hidden(
        self,
        tokens: mx.array,
        t: mx.array | None = None,
        positions: mx.array | None = None,
        attention: mx.array | None = None,
        rows: mx.array | None = None,
        key: mx.array | None = None,
        memory: Memory | None = None,
    ) -> mx.array:
        """What the head is given, (B, L, C) or (N, C); arguments as those of a call."""
        keys = [None] * (self.config.n_layer + 1) if key is None else mx.random.split(key, self.config.n_layer + 1)
        eps, dtype = self.config.norm_eps, self.token_embedding.weight.dtype  # matrices may be kept in whole numbers
        x = self.token_embedding(tokens).astype(mx.float32)
        if self.time_embedding is not None:
            x = x + self.time_embedding(t)[:, None]
        x = mx.fast.rms_norm(dropout(x, self.config.dropout, keys[0]), None, eps)
        cos, sin = self.rotary(tokens.shape[1], positions, dtype)
        mask = attention_mask(attention)
        last, first = self.config.n_layer - 1, None
        for i, block in enumerate(self.blocks):
            x, first = block(x, cos, sin, mask, keys[i + 1], memory, rows if i == last else None, first)
        return mx.fast.rms_norm(x, None, eps).astype(dtype)

    def head_weight(self) -> mx.array | None:
        """(V, C), by which the head multiplies; None where something else was put in its place."""
        return matrix(self.head)

    def tables(self) -> dict[str, mx.array]:
        """What a checkpoint holds beside the parameters: the rotary tables, where they came with the weights."""
        return {"rotary.cos": self.rotary._cos, "rotary.sin": self.rotary._sin} if self.config.rotary_tables else {}

    def set_tables(self, tables: Mapping[str, mx.array]) -> None:
        """Replaces what `tables` gives."""
        if tables:
            self.rotary._cos, self.rotary._sin = tables["rotary.cos"], tables["rotary.sin"]
