"""The `tiny` denoiser as it samples on a processor: `tiny.Tiny`'s logits in fewer and cheaper calls.

Beside its matrix products a pass over one text is a few hundred small calls, which take as long as the products of a
small network. So heads are apart from the start, pairs are turned as complex numbers, a norm takes three calls, the
softmax looks for no maximum, and what follows the last attention runs at the wanted rows alone. Nothing here can be
trained.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.engines.torch.cache import Memory
from tzd.engines.torch.packed import Packed, Quantised
from tzd.engines.torch.tiny import Attention, Block, Tiny, attention_mask, mixed_values

Layer = type[Packed] | type[Quantised]
_QUERIES = 512  # of a product with all keys: what is held does not grow with the square of the length
_ROWS = 32  # oneDNN makes a kernel for every new number of rows, which takes longer than computing a few rows more


class RootMeanSquare(nn.Module):
    """What the rows of `x` are multiplied with by a root-mean-square norm, times a constant.

    Args:
        width: of a row.
        eps: what is added to the mean square.
        square: of the constant.
    """

    eps: Tensor

    def __init__(self, width: int, eps: float, square: float = 1.0) -> None:
        super().__init__()
        self.share = 1 / (width * square)
        self.register_buffer("eps", torch.tensor(eps / square))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., 1)."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.addcmul(self.eps, length, length, value=self.share).rsqrt_()


class SamplingAttention(nn.Module):
    """`tiny`'s attention up to its last matrix.

    The first matrix's rows are put in another order, within each head, and in the same one for queries and keys: the
    two numbers of a pair become neighbours, and the products of queries with keys stay what they were.

    Args:
        attention: what it computes.
        layer: what its matrix becomes.
        dtype: what that is to return.
    """

    def __init__(self, attention: Attention, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.n_head = attention.layer, attention.n_head
        self.qkv = layer(_in_pairs(attention.qkv, attention.n_head), dtype)
        self.value_mix = attention.value_mix
        head = attention.qkv.in_features // attention.n_head
        # half of the scores' factor for queries, half for keys; in bits, as powers of 2 are cheaper than those of e
        self.norm = RootMeanSquare(head, attention.norm_eps, square=head**-0.5 / math.log(2))

    def forward(
        self, h: Tensor, turn: Tensor, mask: Tensor | None, memory: Memory | None, first: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Attention over normalised tokens (B, L, C) -> (B, L, C), and the first layer's values (B, heads, L, width).

        `turn` broadcasts over (B, heads, L, width / 2); `first` is None in the first layer.
        """
        batch, length, width = h.shape
        q_k_v = self.qkv(h).view(batch, length, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
        qk = q_k_v[:2].to(torch.float32, memory_format=torch.contiguous_format)
        torch.view_as_complex(qk.unflatten(-1, (-1, 2))).mul_(turn)
        q, k = qk.mul_(self.norm(qk)).to(q_k_v.dtype)  # after turning: tables that were trained change lengths
        v = q_k_v[2]
        first = v if first is None else first
        v = mixed_values(v, first, self.value_mix)
        if memory is not None:
            k, v = (part.transpose(1, 2) for part in memory.updated(self.layer, k.transpose(1, 2), v.transpose(1, 2)))
        return _attend(q, k, v, mask).view(batch, length, width), first


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention whose scores are in bits: (B, heads, L, width) each -> (B, L, heads, width).

    In bfloat16 plain products and powers of 2 take a quarter of the time of PyTorch's own kernel (docs/log.md). Queries
    and keys are normalised: scores lie within ±√width / ln 2, and no power overflows.
    """
    if mask is not None or q.dtype != torch.bfloat16:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=math.log(2))
        return mixed.transpose(1, 2).contiguous()
    mixed = q.new_empty(len(q), q.shape[2], q.shape[1], q.shape[3])
    for some, part in zip(mixed.transpose(1, 2).split(_QUERIES, dim=2), q.split(_QUERIES, dim=2), strict=True):
        weights = (part @ k.mT).exp2_()
        torch.div(weights @ v, weights.sum(dim=-1, keepdim=True), out=some)
    return mixed


def _in_pairs(qkv: nn.Linear, n_head: int) -> nn.Linear:
    """The matrix whose queries and keys have each column of a head's first half beside that of its second."""
    rows, width = qkv.weight.shape
    head = rows // 3 // n_head
    order = torch.arange(rows).view(3, n_head, head)
    pairs = order[:2].unflatten(-1, (2, head // 2)).mT.flatten(-2)
    turned = nn.Linear(width, rows, bias=False, device="meta")
    turned.weight = nn.Parameter(qkv.weight[torch.cat([pairs, order[2:]]).flatten()], requires_grad=False)
    return turned


class SamplingBlock(nn.Module):
    """`tiny`'s block; the residual stream stays in float32 and where it is.

    Args:
        block: what it computes.
        layer: what its matrices become.
        dtype: what they are to return.
    """

    def __init__(self, block: Block, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = RootMeanSquare(block.attention.qkv.in_features, block.norm_eps)
        self.attention = SamplingAttention(block.attention, layer, dtype)
        self.out, self.up, self.down = (
            layer(part, dtype) for part in (block.attention.out, block.mlp.up, block.mlp.down)
        )

    def forward(
        self,
        x: Tensor,
        turn: Tensor,
        mask: Tensor | None,
        memory: Memory | None,
        first: Tensor | None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, L, C) -> (B, L, C), or (N, C) of the N `rows`, and the first layer's values; what is in `x` is lost."""
        mixed, first = self.attention(x * self.norm(x), turn, mask, memory, first)
        if rows is not None:
            mixed, x = (part.flatten(0, 1)[rows] for part in (mixed, x))
        x.add_(self.out(mixed))
        return x.add_(self.down(self.up(x * self.norm(x), "relu").square_())), first


class SamplingTiny(nn.Module):
    """`tiny.Tiny`, made ready for sampling on a processor.

    Args:
        network: what it computes; it loses its blocks.
        layer: what its matrices become; its head is never in 8 bits, and cut to the tokens.
        dtype: what they are to return.
    """

    turn: Tensor

    def __init__(self, network: Tiny, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        config = network.config
        self.token_embedding, self.time_embedding = network.token_embedding, network.time_embedding
        self.norm = RootMeanSquare(config.n_embd, config.norm_eps)
        self.blocks = nn.ModuleList()
        while network.blocks:  # which lets go of its own one by one: memory never holds all of both
            block: Any = network.blocks.pop(0)
            self.blocks.append(SamplingBlock(block, layer, dtype))
        self.head = Packed(network.head, dtype, config.vocab_size)
        self.register_buffer("turn", torch.complex(network.rotary.cos.float(), -network.rotary.sin.float()))

    def forward(
        self,
        tokens: Tensor,
        t: Tensor | None = None,
        positions: Tensor | None = None,
        attention: Tensor | None = None,
        rows: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """As `tiny.Tiny.forward`."""
        x = self.token_embedding(tokens)
        if self.time_embedding is not None:
            x = x + self.time_embedding(t)[:, None]
        x = x * self.norm(x)
        turn = self.turn[: tokens.shape[1]] if positions is None else self.turn[positions].unsqueeze(1)
        mask, wanted = attention_mask(attention), None if rows is None else F.pad(rows, (0, -len(rows) % _ROWS))
        *most, last = self.blocks
        first = None
        for block in most:
            x, first = block(x, turn, mask, memory, first)
        x, _ = last(x, turn, mask, memory, first, wanted)
        logits = self.head(x * self.norm(x))
        return logits if rows is None else logits[: len(rows)]
