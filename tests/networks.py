"""Small networks of the `tiny` architecture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tzd.config import TinyConfig
from tzd.engines.torch.denoiser import TorchDenoiser, set_weights
from tzd.engines.torch.tiny import Tiny
from tzd.training.initial import initial_weights

CONFIG = TinyConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=12)
TIMED = replace(CONFIG, time_steps=8)


def initial(config: TinyConfig = CONFIG) -> Tiny:
    """A network as training finds it."""
    network = Tiny(config)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    set_weights(network, initial_weights(shapes, seed=1))
    return network


def stirred(config: TinyConfig = CONFIG) -> Tiny:
    """A network none of whose matrices is zero."""
    network, generator = initial(config), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return network


def canvas(rows: int = 3, width: int = 12, seed: int = 0) -> np.ndarray:
    """Tokens of which about a third is [MASK]."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CONFIG.vocab_size, (rows, width))
    return np.where(rng.random((rows, width)) < 0.3, CONFIG.mask_id, tokens)


def logits_of(network: nn.Module, tokens: np.ndarray, config: TinyConfig = CONFIG, **inputs: np.ndarray) -> np.ndarray:
    return TorchDenoiser(network, config).forward(tokens, **inputs)[0].numpy()
