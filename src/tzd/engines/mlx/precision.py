"""A network's matrices in fewer bits, for sampling."""

from __future__ import annotations

import copy
from typing import Any

import mlx.core as mx
from mlx import nn

from tzd.errors import UserError

BITS = {"int8": 8, "int4": 4}
_GROUPS = (64, 32)  # how many weights of a row share a scale and an offset: the first that divides the row


def cast(network: nn.Module, dtype: mx.Dtype) -> nn.Module:
    """A copy whose weights are of another dtype."""
    network = copy.deepcopy(network)
    network.set_dtype(dtype)
    mx.eval(network)
    return network


def quantise(network: nn.Module, bits: int) -> None:
    """Keeps the matrices of a network's linear layers in whole numbers of so many bits, with a scale to each group.

    What is multiplied by them stays float32, and so do embeddings, norms, biases and layers whose width no group
    divides.

    Args:
        network: of this engine's own; it is changed in place, and cannot be trained afterwards.
        bits: 4 or 8.

    Raises:
        UserError: no layer's width can be divided into groups.
    """

    def groups(name: str, layer: nn.Module) -> bool | dict[str, Any]:
        size = _group(layer) if isinstance(layer, nn.Linear) else None
        return False if size is None else {"group_size": size, "bits": bits}

    if not any(isinstance(layer, nn.Linear) and _group(layer) for layer in network.modules()):
        raise UserError(f"precision=int{bits} needs matrices whose rows {_GROUPS[-1]} divides, and this model has none")
    nn.quantize(network, class_predicate=groups)
    mx.eval(network)


def _group(layer: nn.Linear) -> int | None:
    return next((size for size in _GROUPS if layer.weight.shape[1] % size == 0), None)
