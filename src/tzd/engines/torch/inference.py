"""A network made ready for sampling: its matrices in another precision, and laid out for the processor."""

from __future__ import annotations

import torch
from torch import nn

from tzd.config import Architecture
from tzd.engines.torch.packed import Packed, Quantised
from tzd.engines.torch.tiny import Tiny
from tzd.engines.torch.tiny_sampling import Layer, SamplingTiny
from tzd.errors import UserError


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare(network: nn.Module, config: Architecture, precision: str) -> tuple[nn.Module, torch.dtype]:
    """Makes a network ready for sampling on the device where it is; it cannot be trained afterwards, nor used itself.

    Args:
        network: of a model type of ours.
        config: its architecture.
        precision: "32", "bf16" or "int8", of its matrices. Embeddings, norms and the residual stream stay in float32.

    Returns:
        What computes its logits, and the dtype of what its matrices return.

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
        layer: Layer = Quantised if precision == "int8" else Packed
        if type(network) is Tiny:
            return SamplingTiny(network, layer, dtype).eval(), dtype
        _replace(network, layer, dtype, config.vocab_size)
    else:
        for module in network.modules():
            if type(module) is nn.Linear:
                module.to(dtype)
    return network, dtype


def _replace(network: nn.Module, layer: Layer, dtype: torch.dtype, vocab_size: int) -> None:
    for name, child in network.named_children():
        if type(child) is nn.Linear:  # heads are cut to the tokens, and never in 8 bits: they cost little
            head = name in ("head", "lm_head")
            setattr(network, name, Packed(child, dtype, vocab_size) if head else layer(child, dtype))
        else:
            _replace(child, layer, dtype, vocab_size)
