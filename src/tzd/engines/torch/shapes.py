"""The parameters of a network that is not built: on torch's meta device, where nothing takes memory."""

from __future__ import annotations

import torch

from tzd.config import Architecture
from tzd.engines.torch.denoiser import build


def parameter_shapes(config: Architecture) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the architecture; one that is shared is there once."""
    with torch.device("meta"):
        network = build(config)
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
