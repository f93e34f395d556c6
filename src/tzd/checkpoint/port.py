"""How Tiny Diffusion and its MLX port name and lay out weights, and how ours become theirs and back.

Tiny Diffusion (github.com/nathan-barry/tiny-diffusion) saves a PyTorch state dict, `.pt`; the port
(github.com/xrb12250/tiny-diffusion-mlx) the same names as a `.npz`, with the tables of rotary positions, which MLX
trained. Theirs have separate queries, keys and values, an embedding of the time, and [MASK] at 0, which is NUL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tzd.checkpoint.read import mismatch
from tzd.config import TinyConfig
from tzd.diffusion.rotary import rotary_tables

Weights = Mapping[str, np.ndarray]

NORM_EPS = 1e-5  # the port's; the original's is float32's machine epsilon
TIME_STEPS = 128  # rows of the time embedding, unless they chose another number

_TABLES = ("cos", "sin")
_ENDS = {
    "token_embedding.weight": ("token_emb.weight",),
    "time_embedding.weight": ("time_emb.weight",),
    "head.weight": ("output_head.weight",),
}
_BLOCK = {
    "attention.qkv.weight": ("attn.c_q.weight", "attn.c_k.weight", "attn.c_v.weight"),
    "attention.out.weight": ("attn.c_proj.weight",),
    "mlp.up.weight": ("mlp.c_fc.weight",),
    "mlp.down.weight": ("mlp.c_proj.weight",),
}


def names(n_layer: int) -> dict[str, tuple[str, ...]]:
    """Our names -> theirs, of which one matrix of ours is stacked. The tables are apart."""
    blocks = {
        f"blocks.{i}.{ours}": tuple(f"blocks.{i}.{name}" for name in theirs)
        for i in range(n_layer)
        for ours, theirs in _BLOCK.items()
    }
    return _ENDS | blocks


def shapes(config: TinyConfig, *, tables: bool) -> dict[str, tuple[int, ...]]:
    """Their names -> shapes, for a model that is conditioned on time.

    Args:
        config: the architecture, as it is stored.
        tables: whether the rotary tables are there (`.npz`) or not (`.pt`).
    """
    width, mlp = config.n_embd, config.mlp_width
    in_block = {"mlp.c_fc.weight": (mlp, width), "mlp.c_proj.weight": (width, mlp)}
    special = {
        "token_emb.weight": (config.n_embedding_rows, width),
        "time_emb.weight": (config.time_steps, width),
        "output_head.weight": (config.vocab_size, width),
        **{f"blocks.{i}.{name}": shape for i in range(config.n_layer) for name, shape in in_block.items()},
    }
    every = [name for theirs in names(config.n_layer).values() for name in theirs]
    table = (1, 2 * config.block_size, 1, width // config.n_head // 2)
    return {name: special.get(name, (width, width)) for name in every} | {name: table for name in _TABLES if tables}


def sizes(found: Mapping[str, tuple[int, ...]], *, tables: bool) -> dict[str, int]:
    """What the shapes of their weights say about the architecture.

    Args:
        found: their names -> shapes.
        tables: whether the rotary tables must be there; without them, nothing says how many heads there are, and how
            long the window is.

    Returns:
        Values of `TinyConfig`.

    Raises:
        ValueError: it is another architecture; the message says what is missing, unexpected or of another shape.
    """
    n_layer = max(1, len({match[1] for name in found if (match := re.match(r"blocks\.(\d+)\.", name))}))
    expected = shapes(TinyConfig(vocab_size=2, n_layer=n_layer, n_head=1, n_embd=2), tables=tables)  # names alone
    complaint = mismatch(found, {name: found.get(name, shape) for name, shape in expected.items()})
    odd = [name for name, shape in expected.items() if name in found and len(found[name]) != len(shape)]
    odd += [name for name, shape in found.items() if 0 in shape]
    if complaint or odd:
        raise ValueError(complaint or f"{odd[0]} cannot be of the shape {found[odd[0]]}")
    vocab_size, width = found["output_head.weight"]
    result = {
        "vocab_size": vocab_size,
        "n_layer": n_layer,
        "n_embd": width,
        "time_steps": found["time_emb.weight"][0],
        "intermediate_size": found["blocks.0.mlp.c_fc.weight"][0],
    }
    if tables:
        _, rows, _, pairs = found["cos"]
        if width % (2 * pairs) or rows % 2:
            raise ValueError(f"cos {found['cos']} does not fit a width of {width}, or has an odd number of rows")
        result |= {"n_head": width // (2 * pairs), "block_size": rows // 2}
    return result


def from_port(arrays: Weights, config: TinyConfig) -> tuple[TinyConfig, dict[str, np.ndarray]]:
    """Our weights from theirs.

    Args:
        arrays: their names -> float32 arrays of the shapes that belong to the architecture.
        config: the architecture.

    Returns:
        The architecture, and canonical name -> array. The tables are kept, as `rotary_tables`, unless they are to the
        bit what we compute.
    """
    weights = {
        ours: np.concatenate([arrays[name] for name in theirs]) for ours, theirs in names(config.n_layer).items()
    }
    kept = {}
    if "cos" in arrays:
        tables = {f"rotary.{name}": arrays[name][0, :, 0] for name in _TABLES}
        computed = _computed(config)
        if any(tables[name].tobytes() != computed[name].tobytes() for name in tables):
            kept = tables
    return replace(config, rotary_tables=bool(kept)), weights | kept


def as_stored(weights: Weights, config: TinyConfig, *, ascii_text: bool) -> tuple[TinyConfig, dict[str, np.ndarray]]:
    """The same function in the form that they have: with a time embedding and tables, and [MASK] at 0 if it can be.

    A model that is not conditioned on time gets a time embedding of zeros. Where tokens are codes of ASCII and [MASK]
    lies beyond them, [MASK] takes the place of NUL, which is in no text.

    Args:
        weights: canonical name -> array.
        config: the architecture.
        ascii_text: whether tokens are codes of ASCII.

    Returns:
        The architecture, and canonical name -> array.
    """
    stored = dict(weights) if config.rotary_tables else {**weights, **_computed(config)}
    if config.time_steps == 0:
        config = replace(config, time_steps=TIME_STEPS)
        stored["time_embedding.weight"] = np.zeros((TIME_STEPS, config.n_embd), np.float32)
    if ascii_text and config.mask_id == config.vocab_size:
        config = replace(config, mask_id=0)
        rows = weights.get("token_embedding.weight", np.zeros((0, 0)))
        stored["token_embedding.weight"] = np.concatenate([rows[-1:], rows[1:-1]])
    return config, stored


def to_port(stored: Weights, config: TinyConfig) -> dict[str, np.ndarray]:
    """Their weights from ours.

    Args:
        stored: what `as_stored` returns.
        config: the architecture that it returns.

    Returns:
        Their names -> float32 arrays.

    Raises:
        ValueError: the weights are not those of the architecture.
    """
    theirs = shapes(config, tables=True)
    stacks = names(config.n_layer)
    expected = {ours: (sum(theirs[part][0] for part in parts), theirs[parts[0]][1]) for ours, parts in stacks.items()}
    expected |= {name: table.shape for name, table in _computed(config).items()}
    if complaint := mismatch({name: value.shape for name, value in stored.items()}, expected):
        raise ValueError(complaint)
    arrays = {
        part: np.ascontiguousarray(piece, np.float32)
        for ours, parts in stacks.items()
        for part, piece in zip(parts, np.split(stored[ours], len(parts)), strict=True)
    }
    return arrays | {name: np.float32(stored[f"rotary.{name}"]).reshape(theirs[name]) for name in _TABLES}


def _computed(config: TinyConfig) -> dict[str, np.ndarray]:
    """The tables by our names, of as many rows as they store."""
    cos, sin = rotary_tables(2 * config.block_size, config.n_embd // config.n_head, config.rope_base)
    return {"rotary.cos": cos, "rotary.sin": sin}


def how_the_port_reads(config: TinyConfig, context_len: int) -> str:
    """One line: with which settings the port takes a file, or why it cannot.

    Args:
        config: the architecture, as it is stored.
        context_len: length of the prefix that training never masked.
    """
    who = "Tiny Diffusion's MLX port"
    if config.n_embedding_rows != config.vocab_size:
        rows = f"{config.n_embedding_rows} embeddings for a head of {config.vocab_size}"
        return f"{who} cannot read it, tzd can: it has {rows}, as [MASK] is no token of its tokenizer"
    if config.mlp_width != 4 * config.n_embd:
        return f"{who} cannot read it, tzd can: its MLP is {config.mlp_width} wide, not 4 · {config.n_embd}"
    settings = {
        "sequence_len": config.block_size,
        "vocab_size": config.vocab_size,
        "mask_token_id": config.mask_id,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "diffusion_steps": config.time_steps,
        "context_len": context_len,
    }
    listed = ", ".join(f"{name}={value}" for name, value in settings.items())
    rounding = "" if config.norm_eps == NORM_EPS else f", but computes with an epsilon of {NORM_EPS:g}"
    return f"{who} reads it with DiffusionConfig({listed}){rounding}"
