"""The `smdm` denoiser in PyTorch: SMDM's bidirectional encoder (github.com/ML-GSAI/SMDM, lit_gpt/diffmodel.py).

Token embedding, norms with weights, rotary positions in a share of each head, bidirectional attention whose keys and
values may serve several queries, a gated or a plain MLP, one after the attention or beside it. Parameters have SMDM's
own names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.config.smdm import SmdmConfig
from tzd.diffusion.rotary import float32_angles
from tzd.engines.torch.cache import Memory
from tzd.engines.torch.tiny import attend, attention_mask


def full_tables(cos: Tensor, sin: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Tables (..., half of what is rotated) as factors of each column of a head, with their signs: (..., width)."""
    rest = cos.new_zeros(*cos.shape[:-1], width - 2 * cos.shape[-1])
    return torch.cat((cos, cos, rest + 1), dim=-1), torch.cat((-sin, sin, rest), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, half: int) -> Tensor:
    """Rotates the first 2 · half columns of each head by halves: x (..., width), tables from `full_tables`."""
    first, second, rest = x.split((half, half, x.shape[-1] - 2 * half), dim=-1)
    return x * cos + torch.cat((second, first, rest), dim=-1) * sin


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
        self.turned = config.rotary_width // 2
        rows = (config.n_head + 2 * config.groups) * config.head_size
        self.attn = nn.Linear(config.n_embd, rows, bias=config.bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, memory: Memory | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C); tables broadcast to (B, L, groups, queries + 1, width)."""
        batch, length, width = x.shape
        qkv = self.attn(x).view(batch, length, self.groups, self.queries + 2, -1)
        qk = rotate(qkv[..., :-1, :], cos, sin, self.turned)
        q = qk[..., :-1, :].flatten(2, 3).transpose(1, 2)
        k, v = qk[..., -1, :], qkv[..., -1, :]
        if memory is not None:
            k, v = memory.updated(self.layer, k, v)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        if self.queries > 1:
            k, v = (part.repeat_interleave(self.queries, dim=1) for part in (k, v))
        mixed = attend(q, k, v, mask)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class SwiGLU(nn.Module):
    """w3 (silu(w1 x) · w2 x) (arXiv:2002.05202), never with biases."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.w2 = nn.Linear(config.n_embd, config.mlp_width, bias=False)
        self.w3 = nn.Linear(config.mlp_width, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class LLaMAMLP(nn.Module):
    """A SwiGLU by the name that SMDM's files have for it."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.swiglu = SwiGLU(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return self.swiglu(x)


class GptNeoxMLP(nn.Module):
    """Two matrices with a GELU between them."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, config.mlp_width, bias=config.bias)
        self.proj = nn.Linear(config.mlp_width, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return self.proj(F.gelu(self.fc(x)))


class Block(nn.Module):
    """Attention and MLP, each on the normalised residual stream."""

    def __init__(self, config: SmdmConfig, layer: int) -> None:
        super().__init__()
        self.parallel = config.parallel_residual
        self.norm_1 = norm(config)
        self.attn = Attention(config, layer)
        self.norm_2 = None if config.shared_attention_norm else norm(config)
        self.mlp = LLaMAMLP(config) if config.mlp_class_name == "LLaMAMLP" else GptNeoxMLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, memory: Memory | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C); the tables' dtype is that of the matrices."""
        first = self.norm_1(x).to(cos.dtype)  # once, where autocast would do it before each matrix
        mixed = x + self.attn(first, cos, sin, mask, memory)
        if self.norm_2 is not None:
            first = self.norm_2(x if self.parallel else mixed).to(cos.dtype)
        return mixed + self.mlp(first)


class Transformer(nn.Module):
    """What lies between tokens and head."""

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.n_embedding_rows, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = norm(config)


class Smdm(nn.Module):
    """x_t → logits over clean tokens.

    Args:
        config: the architecture.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: SmdmConfig) -> None:
        super().__init__()
        self.config = config
        self.lm_head = nn.Linear(config.n_embd, config.padded_vocab_size, bias=False)
        self.transformer = Transformer(config)
        angles = torch.from_numpy(float32_angles(config.block_size, config.rotary_width, config.rope_base))
        for name, table in (("cos", angles.cos()), ("sin", angles.sin())):
            rounded = table.bfloat16().float() if config.rotary_dtype == "bfloat16" else table
            self.register_buffer(name, rounded, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attention: Tensor | None = None,
        rows: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Logits of the tokens, not of the padding; see `tzd.diffusion.denoiser.Denoiser.forward`."""
        at = slice(tokens.shape[1]) if positions is None else positions
        dtype = self._dtype()
        tables = full_tables(self.cos[at], self.sin[at], self.config.head_size)
        cos, sin = (table.to(dtype)[..., None, None, :] for table in tables)
        mask = attention_mask(attention)
        x = self.transformer.wte(tokens)
        for block in self.transformer.h:
            x = block(x, cos, sin, mask, memory)
        if rows is not None:
            x = x.reshape(-1, x.shape[-1])[rows]
        x = self.transformer.ln_f(x)
        if type(self.lm_head) is not nn.Linear:  # made for sampling, without the padding
            return self.lm_head(x)
        return F.linear(x, self.lm_head.weight[: self.config.vocab_size])

    def _dtype(self) -> torch.dtype:
        """The dtype that the matrices compute in."""
        weight = self.lm_head.weight
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype
