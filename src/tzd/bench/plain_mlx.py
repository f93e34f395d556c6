"""A masked diffusion language model as a tutorial would train it on MLX: eager, a loss read at every step.

The same models as `tiny` and `smdm`, written anew and straightforwardly: separate queries, keys and values, MLX's own
attention and norm, AdamW as it comes, the mean over all masked tokens of the batch as the loss.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers

from tzd.bench.sizes import Cell
from tzd.bench.turns import serve


def rotate(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotates the halves of each head."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return mx.concatenate([a * cos + b * sin, b * cos - a * sin], axis=-1)


class Norm(nn.Module):
    """Root-mean-square norm, with weights for `smdm`."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        if m.model_type == "smdm":
            self.weight = mx.ones(m.n_embd)

    def __call__(self, x: mx.array) -> mx.array:
        """The same shape."""
        return mx.fast.rms_norm(x, self.weight if "weight" in self else None, 1e-5)


class Attention(nn.Module):
    """Bidirectional attention with rotary positions; `tiny` normalises queries and keys."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.heads, self.normed = m.n_head, m.model_type == "tiny"
        self.q = nn.Linear(m.n_embd, m.n_embd, bias=False)
        self.k = nn.Linear(m.n_embd, m.n_embd, bias=False)
        self.v = nn.Linear(m.n_embd, m.n_embd, bias=False)
        self.out = nn.Linear(m.n_embd, m.n_embd, bias=False)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        """(B, L, C) -> (B, L, C)."""
        B, L, C = x.shape
        q, k, v = (f(x).reshape(B, L, self.heads, C // self.heads) for f in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.normed:
            q, k = (mx.fast.rms_norm(x, None, 1e-5) for x in (q, k))
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=(C // self.heads) ** -0.5)
        return self.out(y.transpose(0, 2, 1, 3).reshape(B, L, C))


class Block(nn.Module):
    """Attention and an MLP: squared ReLU (`tiny`) or SwiGLU (`smdm`)."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.attention = Attention(m)
        self.norm_1, self.norm_2 = Norm(m), Norm(m)
        self.gated = m.model_type == "smdm"
        if self.gated:
            self.gate = nn.Linear(m.n_embd, m.mlp_width, bias=False)
        self.up = nn.Linear(m.n_embd, m.mlp_width, bias=False)
        self.down = nn.Linear(m.mlp_width, m.n_embd, bias=False)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        """(B, L, C) -> (B, L, C)."""
        x = x + self.attention(self.norm_1(x), cos, sin)
        y = self.norm_2(x)
        return x + self.down(nn.silu(self.gate(y)) * self.up(y) if self.gated else nn.relu(self.up(y)).square())


class Plain(nn.Module):
    """Tokens (B, L) to logits (B, L, V).

    Args:
        model: the architecture.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tiny = model.model_type == "tiny"
        self.embedding = nn.Embedding(model.n_embedding_rows, model.n_embd)
        self.blocks = [Block(model) for _ in range(model.n_layer)]
        self.norm = Norm(model)
        self.head = nn.Linear(model.n_embd, model.vocab_size, bias=False)
        width = model.n_embd // model.n_head
        angle = mx.outer(mx.arange(model.block_size), 10000.0 ** (-mx.arange(0, width, 2) / width))
        sign = 1 if self.tiny else -1
        self._cos, self._sin = mx.cos(angle)[:, None], sign * mx.sin(angle)[:, None]  # the underscore keeps them fixed

    def __call__(self, tokens: mx.array) -> mx.array:
        """See the class."""
        x = self.embedding(tokens)
        if self.tiny:
            x = mx.fast.rms_norm(x, None, 1e-5)
        for block in self.blocks:
            x = block(x, self._cos, self._sin)
        return self.head(self.norm(x))


def main(cell: Cell, steps: int, rounds: int) -> None:
    """Takes turns, of so many optimizer steps each."""
    B, L, V = cell.batch, cell.length, cell.vocab
    text = np.random.randint(V, size=200_000)
    model = Plain(cell.model)
    optimizer = optimizers.AdamW(learning_rate=1e-3)
    losses = []

    def loss_of(x_0: mx.array, masked: mx.array) -> mx.array:
        logits = model(mx.where(masked, V, x_0))
        return (nn.losses.cross_entropy(logits, x_0) * masked).sum() / masked.sum()

    loss_and_gradients = nn.value_and_grad(model, loss_of)

    def step() -> None:
        starts = np.random.randint(len(text) - L, size=B)
        x_0 = mx.array(np.stack([text[i : i + L] for i in starts]))
        masked = mx.random.uniform(shape=(B, L)) < mx.random.uniform(shape=(B, 1))
        loss, gradients = loss_and_gradients(x_0, masked)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return {"seconds": time.perf_counter() - start}

    serve(turn, rounds, first_step=turn()["seconds"] / steps)


if __name__ == "__main__":
    main(Cell.parse(sys.argv[1]), *map(int, sys.argv[2:]))
