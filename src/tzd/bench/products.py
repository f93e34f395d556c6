"""The matrix products of a forward pass: what they are, and how many operations they take.

An operation is a multiplication or an addition; nothing but products is counted. A backward pass takes two products for
each one of the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tzd.config import Architecture

MASKED = 0.5  # share of the tokens that a loss, or a sampler's pass, needs logits of: masked ones, half on average


@dataclass(frozen=True)
class Product:
    """`count` times `batch` products of an (m, k) with a (k, n) matrix.

    Attributes:
        weight: whether the second matrix is one of the model's, the same for all rows.
    """

    count: int
    batch: int
    m: int
    k: int
    n: int
    weight: bool = True

    @property
    def flop(self) -> float:
        """Operations of all of them."""
        return 2.0 * self.count * self.batch * self.m * self.k * self.n


def products(model: Architecture, batch: int, length: int, head_share: float = 1.0) -> list[Product]:
    """The products of a forward pass of B × L tokens.

    Args:
        model: `tiny`, or `smdm` with as many keys as queries.
        batch: rows, B.
        length: tokens of a row, L.
        head_share: share of the tokens at which the head runs.
    """
    m: Any = model
    tokens, width, heads = batch * length, m.n_embd, m.n_head
    gated = m.model_type == "smdm"
    return [
        Product(m.n_layer, 1, tokens, width, 3 * width),  # queries, keys and values
        Product(m.n_layer, batch * heads, length, width // heads, length, weight=False),  # scores
        Product(m.n_layer, batch * heads, length, length, width // heads, weight=False),  # their mean of values
        Product(m.n_layer, 1, tokens, width, width),
        Product(m.n_layer * (2 if gated else 1), 1, tokens, width, m.mlp_width),
        Product(m.n_layer, 1, tokens, m.mlp_width, width),
        Product(1, 1, round(tokens * head_share), width, m.vocab_size),  # the head
    ]


def training_flop_per_token(model: Architecture, length: int) -> float:
    """Operations of a forward and a backward pass for each token, the head at masked tokens only.

    6 per weight of the matrices, and 12 · n_layer · n_embd · L of the attention (PaLM, arXiv:2204.02311, appendix B).
    """
    batch = 2  # so that half of the tokens are a whole number
    return 3 * sum(p.flop for p in products(model, batch, length, MASKED)) / (batch * length)


def parameters(model: Architecture) -> int:
    """Weights of the matrices, the embedding among them; norms hold next to none."""
    m: Any = model
    weights = sum(p.count * p.k * p.n for p in products(model, 1, 1) if p.weight)
    return int(weights + m.n_embedding_rows * m.n_embd)
