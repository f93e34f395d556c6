"""A masked diffusion language model as a tutorial would train it: eager, float32, a loss read at every step.

The same model as `tiny`, written anew and straightforwardly: separate queries, keys and values, AdamW as it comes, the
1/t loss (LLaDA, arXiv:2502.09992, algorithm 1).
"""

from __future__ import annotations

import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sizes import BATCH, HEADS, LAYERS, LENGTH, VOCABULARY, WIDTH
from benchmarks.turns import serve


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),), eps=1e-5)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.size(-1) // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


class Attention(nn.Module):
    """Bidirectional attention with rotary positions and normalised queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, L, C = x.shape
        q, k, v = (f(x).view(B, L, HEADS, C // HEADS) for f in (self.q, self.k, self.v))
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.out(y.transpose(1, 2).reshape(B, L, C))


class Block(nn.Module):
    """Attention and a squared-ReLU MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(norm(x), cos, sin)
        return x + self.down(F.relu(self.up(norm(x))).square())


class Plain(nn.Module):
    """Tokens (B, L) to logits (B, L, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY + 1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        width = WIDTH // HEADS
        angle = torch.outer(torch.arange(LENGTH), 10000.0 ** (-torch.arange(0, width, 2) / width))
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(norm(x))


def main(steps: int, rounds: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    text = torch.randint(VOCABULARY, (200_000,))
    model = Plain().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []

    def step() -> None:
        starts = torch.randint(len(text) - LENGTH, (BATCH,))
        x_0 = torch.stack([text[i : i + LENGTH] for i in starts]).to(device)
        t = torch.rand(BATCH, 1, device=device).clamp_min(1e-3)
        masked = torch.rand(BATCH, LENGTH, device=device) < t
        logits = model(torch.where(masked, VOCABULARY, x_0))
        ce = F.cross_entropy(logits.view(-1, VOCABULARY), x_0.view(-1), reduction="none").view(BATCH, LENGTH)
        loss = (ce * masked / t).sum() / (BATCH * LENGTH)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return {"seconds": time.perf_counter() - start}

    serve(turn, rounds, first_step=turn()["seconds"] / steps)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
