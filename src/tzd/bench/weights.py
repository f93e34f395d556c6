"""The same weights for all contenders: under our names in a checkpoint, and under those of a plain model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tzd.checkpoint import write_checkpoint
from tzd.config import Architecture
from tzd.mapping import to_mapping


def weights(model: Architecture) -> dict[str, np.ndarray]:
    """Canonical names -> float32, the same at every call; none of them is without effect."""
    m: Any = model
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(shape, np.float32) * m.n_embd**-0.5 + (1 if len(shape) == 1 else 0)
        for name, shape in _shapes(m).items()
    }


def _shapes(m: Any) -> dict[str, tuple[int, ...]]:
    width, inner = m.n_embd, m.mlp_width
    tiny = m.model_type == "tiny"
    ends = ("token_embedding", "head") if tiny else ("transformer.wte", "lm_head")
    shapes: dict[str, tuple[int, ...]] = {
        f"{ends[0]}.weight": (m.n_embedding_rows, width),
        f"{ends[1]}.weight": (m.vocab_size, width),
    }
    for i in range(m.n_layer):
        if tiny:
            block: dict[str, tuple[int, ...]] = {"attention.qkv": (3 * width, width), "attention.out": (width, width)}
            block |= {"mlp.up": (inner, width), "mlp.down": (width, inner)}
        else:
            block = {"norm_1": (width,), "attn.attn": (3 * width, width), "attn.proj": (width, width)}
            block |= {"norm_2": (width,), "mlp.swiglu.w1": (inner, width), "mlp.swiglu.w2": (inner, width)}
            block |= {"mlp.swiglu.w3": (width, inner)}
        stem = f"blocks.{i}" if tiny else f"transformer.h.{i}"
        shapes |= {f"{stem}.{name}.weight": shape for name, shape in block.items()}
    return shapes if tiny else {**shapes, "transformer.ln_f.weight": (width,)}


_PLAIN = {  # parts of our names, and of those of `plain_torch.Plain` and `plain_mlx.Plain`
    "token_embedding": "embedding",
    "mlp.up": "up",
    "mlp.down": "down",
    "transformer.wte": "embedding",
    "transformer.ln_f": "norm",
    "transformer.h": "blocks",
    "lm_head": "head",
    "attn.attn": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.swiglu.w1": "gate",
    "mlp.swiglu.w2": "up",
    "mlp.swiglu.w3": "down",
}


def plainly_named(model: Architecture, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same for a model that keeps queries, keys and values apart."""
    m: Any = model
    named = {}
    for name, value in weights.items():
        plain = name
        for ours, theirs in _PLAIN.items():
            plain = plain.replace(ours, theirs)
        if "qkv" not in plain:
            named[plain] = value
            continue
        # tiny keeps all queries, all keys, all values; smdm a head's query, key and value, head by head
        axes = (1, 0, 2, 3) if m.model_type == "smdm" else (0, 1, 2, 3)
        outer = (m.n_head, 3) if m.model_type == "smdm" else (3, m.n_head)
        parts = value.reshape(*outer, -1, m.n_embd).transpose(axes).reshape(3, m.n_embd, m.n_embd)
        named |= {plain.replace("qkv", part): rows for part, rows in zip("qkv", parts, strict=True)}
    return named


def write_model(folder: Path, model: Architecture, tokenizer: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """A checkpoint of these weights.

    Args:
        folder: to be made.
        model: the architecture.
        tokenizer: its description; without one the model writes tokens and no text.
    """
    sections = {
        "model": {"model_type": model.model_type, **to_mapping(model)},
        "tokenizer": dict(tokenizer),
        "diffusion": {},
        "provenance": {},
    }
    return write_checkpoint(folder, config=sections, weights=weights(model))
