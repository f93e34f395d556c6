"""What a network costs, from its weights' shapes: parameters, operations, bytes. docs/scaling.md has the formulas.

Operations are those of matrix products, a multiplication and an addition each; everything else is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tzd.config import Architecture

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Parameters:
    """How many parameters there are, and what they do.

    Attributes:
        embedding: in tables of which a token reads one row.
        head: in the matrix that gives logits.
        matrices: in the other matrices.
        active: those of the matrices that one token is multiplied with; fewer in a mixture of experts.
        vectors: in norms and biases.
    """

    embedding: int
    head: int
    matrices: int
    active: int
    vectors: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.head + self.matrices + self.vectors

    @property
    def non_embedding(self) -> int:
        """All but embedding and head, as scaling laws count."""
        return self.matrices + self.vectors


@dataclass(frozen=True)
class Blocks:
    """What the blocks of a model type look like, for counting.

    Attributes:
        queries: width of all queries, n_head · head_size.
        keys: width of all keys, and of all values.
        width: of the residual stream.
        mlp: numbers per token that an MLP keeps for the backward pass.
        normed: whether norms have weights, and so keep what they normalised.
        qk_norm: whether queries and keys are normalised.
        mixed_values: whether values are mixed with those of the first layer.
    """

    n_layer: int
    width: int
    queries: int
    keys: int
    mlp: int
    normed: bool
    qk_norm: bool
    mixed_values: bool

    @classmethod
    def of(cls, model: Architecture) -> Blocks:
        """The blocks of an architecture of any model type."""

        def get(name: str, default: int) -> int:
            return getattr(model, name, None) or default

        width, heads = get("n_embd", 0), get("n_head", 1)
        head_size = get("head_size", width // heads)
        kind = getattr(model, "mlp_class_name", "squared ReLU")
        kept = 4 if kind in ("LLaMAMLP", "GemmaMLP", "LLaMAMoE") else 2
        inner = get("intermediate_size", 4 * width)
        if kind == "LLaMAMoE":
            inner = get("moe_intermediate_size", inner) * get("n_expert_per_token", 1)
        tiny = model.model_type == "tiny"
        return cls(
            n_layer=get("n_layer", 0),
            width=width,
            queries=heads * head_size,
            keys=get("n_query_groups", heads) * head_size,
            mlp=kept * inner,
            normed=getattr(model, "norm_class_name", "") == "RMSNorm",
            qk_norm=tiny or bool(getattr(model, "norm_qk", False)),
            mixed_values=bool(getattr(model, "value_residual", False)),
        )


def count_parameters(shapes: Shapes, model: Architecture) -> Parameters:
    """Sorts weights by what they do.

    Args:
        shapes: name -> shape of every parameter.
        model: whose they are.
    """
    counts = {"embedding": 0, "head": 0, "matrices": 0, "vectors": 0}
    active = 0.0
    experts = getattr(model, "n_expert", 0)
    share = getattr(model, "n_expert_per_token", 0) / experts if experts else 1.0
    for name, shape in shapes.items():
        size = math.prod(shape)
        part = _part(name, shape)
        counts[part] += size
        if part == "matrices":
            active += size * (share if ".experts." in name else 1.0)
    return Parameters(**counts, active=round(active))


def _part(name: str, shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return "vectors"
    if re.search(r"embedding|\bwte\b", name):
        return "embedding"
    return "head" if name.startswith(("head", "lm_head")) else "matrices"


def training_flop(parameters: Parameters, model: Architecture, length: int, head_share: float) -> float:
    """Operations of a forward and a backward pass per token.

    6 per parameter and token, and 12 · n_layer · n_head · head_size · L for the attention (PaLM, arXiv:2204.02311,
    appendix B), which here sees both sides. The head runs at a share of the tokens only.

    Args:
        parameters: of the model.
        model: its architecture.
        length: of the sequences, L.
        head_share: share of the tokens at which the head runs.
    """
    blocks = Blocks.of(model)
    products = parameters.active + parameters.head * head_share
    return 6.0 * products + 12.0 * blocks.n_layer * blocks.queries * length


def muon_flop(shapes: Shapes, steps: int = 5) -> float:
    """Operations of Muon's Newton-Schulz iterations in one step of the optimizer.

    Each takes an m × n matrix X, m ≤ n, to aX + (bA + cAA)X with A = XXᵀ: 4 m² n + 2 m³ operations.
    """
    total = 0.0
    for name, shape in shapes.items():
        if _part(name, shape) == "matrices" and len(shape) == 2:
            m, n = sorted(shape)
            total += steps * (4.0 * m * m * n + 2.0 * m**3)
    return total


def activation_bytes(model: Architecture, tokens: int, width: int, residual: int) -> float:
    """What a forward pass keeps for the backward pass, from the embedding to the head.

    Korthikanti et al. (arXiv:2205.05198), equation 1, without dropout and with attention that keeps no scores, for the
    blocks here: a rotation makes queries and keys anew, and the residual stream has a precision of its own.

    Args:
        model: the architecture.
        tokens: of one forward pass, B · L.
        width: bytes of a number that matrix products take.
        residual: bytes of a number of the residual stream.
    """
    b = Blocks.of(model)
    qk = b.queries + b.keys
    stream = 2 * b.width * residual * (2 if b.normed else 1)  # what both norms read, and what they normalised
    attention = b.width + (qk + b.keys) + qk * (2 if b.qk_norm else 1) + b.queries + b.mixed_values * b.keys
    repeated = 2 * b.queries if b.keys < b.queries else 0  # keys and values, once per query
    layer = stream + width * (attention + repeated + b.width + b.mlp)
    ends = b.width * (2 * residual * (2 if b.normed else 1) + width)
    return float(tokens * (b.n_layer * layer + ends))


def score_bytes(model: Architecture, tokens: int, length: int) -> float:
    """What attention that is written out in matrix products keeps beside: float32 logits and weights of all pairs.

    Args:
        model: the architecture.
        tokens: of one forward pass, B · L.
        length: of its sequences, L.
    """
    m: Any = model
    return 2.0 * 4 * m.n_layer * m.n_head * tokens * length


def largest_block(shapes: Shapes) -> int:
    """Parameters of the largest block, which sharding gathers for as long as it computes."""
    blocks: dict[str, int] = {}
    for name, shape in shapes.items():
        if found := re.search(r"^.*?\b(?:h|blocks)\.\d+\.", name):
            blocks[found[0]] = blocks.get(found[0], 0) + math.prod(shape)
    return max(blocks.values(), default=0)
