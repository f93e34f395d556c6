"""Small networks of the `tiny` architecture, on every engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tzd.checkpoint import write_checkpoint
from tzd.config import TinyConfig
from tzd.diffusion.denoiser import Denoiser
from tzd.engines import engine_module
from tzd.engines.torch.denoiser import TorchDenoiser, set_weights
from tzd.engines.torch.tiny import Tiny
from tzd.mapping import to_mapping
from tzd.training.initial import initial_weights

CONFIG = TinyConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=12)
TIMED = replace(CONFIG, time_steps=8)
RESIDUAL = replace(CONFIG, value_residual=True)


def initial(config: TinyConfig = CONFIG) -> Tiny:
    """A network as training finds it."""
    network = Tiny(config)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    set_weights(network, {**weights_of(network), **initial_weights(shapes, seed=1)})
    return network


def stirred(config: TinyConfig = CONFIG) -> Tiny:
    """A network none of whose weights is as it was; tables, where they are weights, are no cosines any more."""
    network, generator = initial(config), torch.Generator().manual_seed(2)
    for value in network.state_dict().values():
        value.add_(torch.randn(value.shape, generator=generator), alpha=0.3)
    return network


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def on(engine: str, config: TinyConfig = CONFIG, context_len: int = 0) -> Denoiser:
    """The stirred network behind an engine's denoiser."""
    weights = weights_of(stirred(config))
    load_denoiser = engine_module(engine, "denoiser").load_denoiser
    return load_denoiser(config, weights, context_len=context_len, where=Path("here"))


def canvas(rows: int = 3, width: int = 12, seed: int = 0) -> np.ndarray:
    """Tokens of which about a third is [MASK]."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CONFIG.vocab_size, (rows, width))
    return np.where(rng.random((rows, width)) < 0.3, CONFIG.mask_id, tokens)


def logits_of(network: nn.Module, tokens: np.ndarray, config: TinyConfig = CONFIG, **inputs: np.ndarray) -> np.ndarray:
    return TorchDenoiser(network, config).forward(tokens, **inputs)[0].numpy()


def checkpoint(folder: Path, config: TinyConfig) -> Path:
    """The stirred network as a checkpoint whose tokens are ASCII codes."""
    sections = {
        "model": {"model_type": config.model_type, **to_mapping(config)},
        "tokenizer": {"kind": "ascii", "vocab_size": 128},
        "diffusion": {},
        "provenance": {},
    }
    return write_checkpoint(folder, config=sections, weights=weights_of(stirred(config)))
