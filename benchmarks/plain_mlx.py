"""A masked diffusion language model as a tutorial would train it on MLX: eager, a loss read at every step.

The same model as `tiny`, written anew and straightforwardly: separate queries, keys and values, MLX's own attention and
norm, AdamW as it comes, the mean over all masked tokens of the batch as the loss.
"""

from __future__ import annotations

import sys
import time

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers

from benchmarks.sizes import BATCH, HEADS, LAYERS, LENGTH, VOCABULARY, WIDTH
from benchmarks.turns import serve


def norm(x: mx.array) -> mx.array:
    return mx.fast.rms_norm(x, None, 1e-5)


def rotate(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return mx.concatenate([a * cos + b * sin, b * cos - a * sin], axis=-1)


class Attention(nn.Module):
    """Bidirectional attention with rotary positions and normalised queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        B, L, C = x.shape
        q, k, v = (f(x).reshape(B, L, HEADS, C // HEADS) for f in (self.q, self.k, self.v))
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=(C // HEADS) ** -0.5)
        return self.out(y.transpose(0, 2, 1, 3).reshape(B, L, C))


class Block(nn.Module):
    """Attention and a squared-ReLU MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        x = x + self.attention(norm(x), cos, sin)
        return x + self.down(nn.relu(self.up(norm(x))).square())


class Plain(nn.Module):
    """Tokens (B, L) to logits (B, L, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY + 1, WIDTH)
        self.blocks = [Block() for _ in range(LAYERS)]
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        width = WIDTH // HEADS
        angle = mx.outer(mx.arange(LENGTH), 10000.0 ** (-mx.arange(0, width, 2) / width))
        self._cos, self._sin = mx.cos(angle)[:, None], mx.sin(angle)[:, None]  # the underscore keeps them fixed

    def __call__(self, tokens: mx.array) -> mx.array:
        x = norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, self._cos, self._sin)
        return self.head(norm(x))


def main(steps: int, rounds: int) -> None:
    text = np.random.randint(VOCABULARY, size=200_000)
    model = Plain()
    optimizer = optimizers.AdamW(learning_rate=1e-3)
    losses = []

    def loss_of(x_0: mx.array, masked: mx.array) -> mx.array:
        logits = model(mx.where(masked, VOCABULARY, x_0))
        return (nn.losses.cross_entropy(logits, x_0) * masked).sum() / masked.sum()

    loss_and_gradients = nn.value_and_grad(model, loss_of)

    def step() -> None:
        starts = np.random.randint(len(text) - LENGTH, size=BATCH)
        x_0 = mx.array(np.stack([text[i : i + LENGTH] for i in starts]))
        masked = mx.random.uniform(shape=(BATCH, LENGTH)) < mx.random.uniform(shape=(BATCH, 1))
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
    main(int(sys.argv[1]), int(sys.argv[2]))
