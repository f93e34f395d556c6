"""A masked diffusion language model as a tutorial would train it: eager, float32, a loss read at every step.

The same models as `tiny` and `smdm`, written anew and straightforwardly: separate queries, keys and values, AdamW as it
comes, the 1/t loss (LLaDA, arXiv:2502.09992, algorithm 1), logits of every token.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.bench.machine import torch_device
from tzd.bench.sizes import Cell
from tzd.bench.turns import serve


def norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Root-mean-square norm."""
    return F.rms_norm(x, (x.size(-1),), weight, eps=1e-5)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the halves of each head."""
    half = x.size(-1) // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


class Attention(nn.Module):
    """Bidirectional attention with rotary positions; `tiny` normalises queries and keys."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.heads, self.normed = m.n_head, m.model_type == "tiny"
        self.q = nn.Linear(m.n_embd, m.n_embd, bias=False)
        self.k = nn.Linear(m.n_embd, m.n_embd, bias=False)
        self.v = nn.Linear(m.n_embd, m.n_embd, bias=False)
        self.out = nn.Linear(m.n_embd, m.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        B, L, C = x.shape
        q, k, v = (f(x).view(B, L, self.heads, C // self.heads) for f in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.normed:
            q, k = norm(q), norm(k)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.out(y.transpose(1, 2).reshape(B, L, C))


class Block(nn.Module):
    """Attention and an MLP: squared ReLU (`tiny`) or SwiGLU (`smdm`)."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.attention = Attention(m)
        gated = m.model_type == "smdm"
        self.norm_1 = nn.RMSNorm(m.n_embd, eps=1e-5, elementwise_affine=gated)
        self.norm_2 = nn.RMSNorm(m.n_embd, eps=1e-5, elementwise_affine=gated)
        self.gate = nn.Linear(m.n_embd, m.mlp_width, bias=False) if gated else None
        self.up = nn.Linear(m.n_embd, m.mlp_width, bias=False)
        self.down = nn.Linear(m.mlp_width, m.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        x = x + self.attention(self.norm_1(x), cos, sin)
        y = self.norm_2(x)
        return x + self.down(F.relu(self.up(y)).square() if self.gate is None else F.silu(self.gate(y)) * self.up(y))


class Plain(nn.Module):
    """Tokens (B, L) to logits (B, L, V).

    Args:
        model: the architecture.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tiny = model.model_type == "tiny"
        self.embedding = nn.Embedding(model.n_embedding_rows, model.n_embd)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.n_layer))
        self.norm = nn.RMSNorm(model.n_embd, eps=1e-5, elementwise_affine=not self.tiny)
        self.head = nn.Linear(model.n_embd, model.vocab_size, bias=False)
        width = model.n_embd // model.n_head
        angle = torch.outer(torch.arange(model.block_size), 10000.0 ** (-torch.arange(0, width, 2) / width))
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None] * (1 if self.tiny else -1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        x = self.embedding(tokens)
        if self.tiny:
            x = norm(x)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def main(cell: Cell, steps: int, rounds: int) -> None:
    """Takes turns, of so many optimizer steps each."""
    device = torch_device()
    B, L, V = cell.batch, cell.length, cell.vocab
    text = torch.randint(V, (200_000,))
    model = Plain(cell.model).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []

    def step() -> None:
        starts = torch.randint(len(text) - L, (B,))
        x_0 = torch.stack([text[i : i + L] for i in starts]).to(device)
        t = torch.rand(B, 1, device=device).clamp_min(1e-3)
        masked = torch.rand(B, L, device=device) < t
        logits = model(torch.where(masked, V, x_0))
        ce = F.cross_entropy(logits.view(-1, V), x_0.view(-1), reduction="none").view(B, L)
        loss = (ce * masked / t).sum() / (B * L)
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
    main(Cell.parse(sys.argv[1]), *map(int, sys.argv[2:]))
