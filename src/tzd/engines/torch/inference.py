"""A network made ready for sampling: its matrices in another precision, and laid out for the processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.config import Architecture
from tzd.engines.torch.cache import Memory
from tzd.engines.torch.packed import Packed, Quantised
from tzd.engines.torch.tiny import Attention, Mlp
from tzd.errors import UserError

Layer = type[Packed] | type[Quantised]
_QUERIES = 512  # of a product with all keys: what is held does not grow with the square of the length


class SamplingAttention(nn.Module):
    """`tiny`'s attention in fewer passes over memory: heads apart from the start, pairs turned as complex numbers.

    The matrix's rows are put in another order for that, within each head, and in the same one for queries and keys:
    their products stay what they were.

    Args:
        attention: what it computes.
        layer: what its matrices become.
        dtype: what they are to return.
    """

    def __init__(self, attention: Attention, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.n_head, self.norm_eps = attention.layer, attention.n_head, attention.norm_eps
        self.qkv = layer(_in_pairs(attention.qkv, attention.n_head), dtype)
        self.out = layer(attention.out, dtype)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, memory: Memory | None = None) -> Tensor:
        """As `tiny.Attention.forward`."""
        batch, length, width = x.shape
        head = width // self.n_head
        q_k_v = self.qkv(x).view(batch, length, 3, self.n_head, head).permute(2, 0, 3, 1, 4)
        qk = q_k_v[:2].to(torch.float32, memory_format=torch.contiguous_format)
        turn = torch.complex(cos.float(), -sin.float())[..., 0, 0, :].unsqueeze(-3)
        torch.view_as_complex(qk.unflatten(-1, (-1, 2))).mul_(turn)
        # after turning: tables that were trained change lengths
        mean = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).square_().div_(head)
        qk.mul_(mean.add_(self.norm_eps).rsqrt_())
        q, k = qk.to(q_k_v.dtype)
        v = q_k_v[2].contiguous()
        if memory is not None:
            k, v = (part.transpose(1, 2) for part in memory.updated(self.layer, k.transpose(1, 2), v.transpose(1, 2)))
        mixed = _attend(q, k, v, mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class SamplingMlp(nn.Module):
    """`tiny`'s MLP, its ReLU within the matrix product.

    Args:
        mlp: what it computes.
        layer: what its matrices become.
        dtype: what they are to return.
    """

    def __init__(self, mlp: Mlp, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        self.up, self.down = layer(mlp.up, dtype), layer(mlp.down, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return self.down(self.up(x, "relu").square_())


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention: (B, heads, L, width) each -> the same. Plain products in bfloat16, as in `tiny.attend`."""
    if mask is not None or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    q = q * q.shape[-1] ** -0.5
    parts = [(part @ k.mT).softmax(dim=-1) @ v for part in q.split(_QUERIES, dim=-2)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def _in_pairs(qkv: nn.Linear, n_head: int) -> nn.Linear:
    """The matrix whose queries and keys have each column of a head's first half beside that of its second."""
    rows, width = qkv.weight.shape
    head = rows // 3 // n_head
    order = torch.arange(rows).view(3, n_head, head)
    pairs = order[:2].unflatten(-1, (2, head // 2)).mT.flatten(-2)
    turned = nn.Linear(width, rows, bias=False, device="meta")
    turned.weight = nn.Parameter(qkv.weight[torch.cat([pairs, order[2:]]).flatten()], requires_grad=False)
    return turned


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare(network: nn.Module, config: Architecture, precision: str) -> torch.dtype:
    """Makes a network ready for sampling on the device where it is; it cannot be trained afterwards.

    Args:
        network: of a model type of ours.
        config: its architecture.
        precision: "32", "bf16" or "int8", of its matrices. Embeddings, norms and the residual stream stay in float32.

    Returns:
        The dtype of what its matrices return.

    Raises:
        UserError: the device has no such precision.
    """
    network.eval()
    device = next(network.parameters()).device
    half = precision == "bf16" or (precision == "int8" and bfloat16_is_native(device))
    dtype = torch.bfloat16 if half else torch.float32
    has_kernels = device.type == "cpu" and torch.backends.mkldnn.is_available()
    if precision == "int8" and not (has_kernels and torch.cpu._is_vnni_supported()):  # elsewhere sums may overflow
        raise UserError(
            "precision=int8 needs a processor that multiplies 8-bit integers (AVX512-VNNI): take bf16 or 32"
        )
    if has_kernels and (dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        _replace(network, Quantised if precision == "int8" else Packed, dtype, config.vocab_size)
    else:
        for module in network.modules():
            if type(module) is nn.Linear:
                module.to(dtype)
    return dtype


def _replace(network: nn.Module, layer: Layer, dtype: torch.dtype, vocab_size: int) -> None:
    for name, child in network.named_children():
        if type(child) is nn.Linear:  # heads are cut to the tokens, and never in 8 bits: they cost little
            head = name in ("head", "lm_head")
            setattr(network, name, Packed(child, dtype, vocab_size) if head else layer(child, dtype))
        elif type(child) is Attention:
            setattr(network, name, SamplingAttention(child, layer, dtype))
        elif type(child) is Mlp:
            setattr(network, name, SamplingMlp(child, layer, dtype))
        else:
            _replace(child, layer, dtype, vocab_size)
