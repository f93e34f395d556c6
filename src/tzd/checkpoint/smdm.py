"""SMDM's weights as they were released: a `.safetensors` file with its parameters' own names, which are ours too.

Such a file holds arrays and nothing else. The shapes say most of the architecture; the rest is said by a JSON beside
it, `NAME.json` or `config.json`, with the fields of SMDM's lit_gpt/config.py, or is that of the published sizes. A
`tokenizer.json` beside it makes text of the tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tzd.checkpoint.layout import CONFIG, FORMAT, FORMAT_VERSION, sha256
from tzd.checkpoint.read import Checkpoint, as_float32, mismatch, read_object
from tzd.config import ObjectiveSettings
from tzd.config.smdm import SIZES, SmdmConfig
from tzd.corpus import describe_file
from tzd.errors import CheckpointError, ConfigError, TzdError, first_line, nearest
from tzd.mapping import coerce, to_mapping
from tzd.printable import printable

SAFETENSORS = ".safetensors"

_BLOCK_SIZE = 2048  # of the published sizes
_SETTINGS: dict[str, tuple[str, type]] = {  # theirs -> ours
    "block_size": ("block_size", int),
    "vocab_size": ("vocab_size", int),
    "padded_vocab_size": ("padded_vocab_size", int),
    "n_layer": ("n_layer", int),
    "n_head": ("n_head", int),
    "n_embd": ("n_embd", int),
    "n_query_groups": ("n_query_groups", int),
    "intermediate_size": ("intermediate_size", int),
    "rotary_percentage": ("rotary_percentage", float),
    "parallel_residual": ("parallel_residual", bool),
    "shared_attention_norm": ("shared_attention_norm", bool),
    "bias": ("bias", bool),
    "_norm_class": ("norm_class_name", str),
    "_mlp_class": ("mlp_class_name", str),
    "norm_eps": ("norm_eps", float),
    "mask_token_id": ("mask_id", int),
    "rotary_dtype": ("rotary_dtype", str),  # no field of theirs: their tables are bfloat16 always
}
_IGNORED = ("org", "name", "source", "padding_multiple", "condense_ratio")
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_smdm(path: Path, given: Mapping[str, int]) -> Checkpoint:
    """Reads a `.safetensors`.

    Args:
        path: the file.
        given: what the user says about it: n_head, block_size, context_len; it must be so.

    Raises:
        CheckpointError: it is damaged, of another architecture, of another one than is said, or too little is said.
    """
    try:
        weights = _read_arrays(path)
    except TzdError:
        raise
    except Exception as error:  # whatever a damaged file makes the library raise
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be read: {printable(reason)}; get the file again") from error
    said = _beside(path)
    context_len = given.get("context_len", 0)
    for name, value in given.items():
        if said.setdefault(name, (f"you gave {name}", value))[1] != value:
            raise CheckpointError(f"you gave {name}={value} for {path}, but {said[name][0]}={said[name][1]}")
    said.pop("context_len", None)
    config = _architecture(path, weights, said)
    if complaint := mismatch({name: array.shape for name, array in weights.items()}, shapes(config)):
        raise CheckpointError(f"{path} does not fit together: {printable(complaint)}")
    if not 0 <= context_len < config.block_size:
        raise CheckpointError(f"{path} has a window of {config.block_size}: context_len={context_len} cannot be")
    tokenizer = describe_file(path.parent)
    if tokenizer.get("vocab_size", 0) > config.vocab_size:
        raise CheckpointError(
            f"{path} has {config.vocab_size} tokens, and the tokenizer.json beside it {tokenizer['vocab_size']}:"
            " it is another model's"
        )
    objective = ObjectiveSettings(name="nelbo_t", time_sampling="independent", context_len=context_len)
    sections = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {"model_type": config.model_type, **to_mapping(config)},
        "tokenizer": tokenizer,
        "diffusion": to_mapping(objective),
        "provenance": {"source": path.name, "source_sha256": sha256(path)},
    }
    return Checkpoint(path.parent, sections, weights, file=path)


def shapes(config: SmdmConfig) -> dict[str, tuple[int, ...]]:
    """The parameters of an architecture: name -> shape."""
    width, mlp = config.n_embd, config.mlp_width
    attention = (config.n_head + 2 * config.groups) * config.head_size
    block: dict[str, tuple[int, ...]] = {"attn.attn.weight": (attention, width), "attn.proj.weight": (width, width)}
    norms = ["transformer.ln_f"]
    if config.bias:
        block |= {"attn.attn.bias": (attention,), "attn.proj.bias": (width,)}
    if config.mlp_class_name == "LLaMAMLP":
        block |= {"mlp.swiglu.w1.weight": (mlp, width), "mlp.swiglu.w2.weight": (mlp, width)}
        block |= {"mlp.swiglu.w3.weight": (width, mlp)}
    else:
        block |= {"mlp.fc.weight": (mlp, width), "mlp.proj.weight": (width, mlp)}
        block |= {"mlp.fc.bias": (mlp,), "mlp.proj.bias": (width,)} if config.bias else {}
    result: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (config.padded_vocab_size, width),
        "transformer.wte.weight": (config.n_embedding_rows, width),
    }
    for i in range(config.n_layer):
        result |= {f"transformer.h.{i}.{name}": shape for name, shape in block.items()}
        norms += [f"transformer.h.{i}.norm_{n}" for n in ((1,) if config.shared_attention_norm else (1, 2))]
    parts = ("weight", "bias") if config.norm_class_name == "LayerNorm" else ("weight",)
    return result | {f"{name}.{part}": (width,) for name in norms for part in parts}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors import deserialize  # unlike `load_file`, it has bfloat16, which NumPy has not

    arrays = {}
    for name, entry in deserialize(path.read_bytes()):
        if entry["dtype"] not in _DTYPES:
            kind = entry["dtype"]
            raise CheckpointError(f"{path} holds {printable(name)} as {kind}; weights are floating-point numbers")
        array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = as_float32(array)
    return arrays


def _beside(path: Path) -> dict[str, tuple[str, Any]]:
    """What the JSON beside a file says: name of ours -> (who says so, value)."""
    for file in (path.with_suffix(".json"), path.parent / CONFIG):
        if file.is_file():
            break
    else:
        return {}
    said = {}
    for key, value in read_object(file).items():
        if key in _SETTINGS and value is not None:
            ours, kind = _SETTINGS[key]
            said[ours] = (f"{file} says {key}", coerce(kind, value, f"{file}: {key}"))
        elif key == "condense_ratio" and value != 1:
            raise CheckpointError(f"{file} says condense_ratio={value}, and only models with 1 can be read")
        elif key not in _SETTINGS and key not in _IGNORED:
            raise CheckpointError(f"{file} says {key}, which no smdm model has{nearest(key, _SETTINGS)}")
    if said.get("norm_class_name", ("", ""))[1] == "FusedRMSNorm":  # the same in one kernel
        said["norm_class_name"] = (said["norm_class_name"][0], "RMSNorm")
    return said


def _architecture(path: Path, weights: Mapping[str, np.ndarray], said: dict[str, tuple[str, Any]]) -> SmdmConfig:
    """The architecture of everything that was found and said."""
    found = _sizes(path, weights)
    n_head = said.get("n_head", ("", found.pop("n_head", None)))[1]
    if n_head is None:
        raise CheckpointError(
            f"{path} is of no published size and does not say how many attention heads it has:"
            f' "n_head" in {path.parent / CONFIG} does'
        )
    rows = found.pop("attention_rows")  # (1 + 2 · groups / heads) · width
    groups, rest = divmod((rows - found["n_embd"]) * n_head, 2 * found["n_embd"])
    if rest or groups < 1:
        raise CheckpointError(f"{path} has {rows} rows of queries, keys and values, which n_head={n_head} cannot have")
    found["n_query_groups"] = groups
    for name, value in found.items():
        who, other = said.get(name, ("", value))
        if other != value:
            raise CheckpointError(f"{path} has {name}={value}, but {who}={other}: one of them is another model's")
    values = {"block_size": _BLOCK_SIZE, "n_head": n_head} | {name: value for name, (_, value) in said.items()} | found
    padded = values.pop("padded_vocab_size")
    values.setdefault("vocab_size", padded)
    if values["vocab_size"] > padded:
        who, tokens = said["vocab_size"]
        raise CheckpointError(f"{path} has vocab_size={padded}, but {who}={tokens}: one of them is another model's")
    if values["vocab_size"] != padded:
        values["padding_multiple"] = padded
    try:
        return SmdmConfig(**values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _sizes(path: Path, weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What names and shapes say about the architecture, by our names; and the rows of the attention's matrix."""
    block = "transformer.h.0."
    gated = f"{block}mlp.swiglu.w1.weight"
    matrices = ("lm_head.weight", "transformer.wte.weight", f"{block}attn.attn.weight")
    up = gated if gated in weights else f"{block}mlp.fc.weight"
    for name in (*matrices, up):
        if name not in weights or weights[name].ndim != 2 or 0 in weights[name].shape:
            raise CheckpointError(f"{path} holds no weights of SMDM: there is no matrix {name}")
    padded, width = weights["lm_head.weight"].shape
    found: dict[str, Any] = {
        "padded_vocab_size": padded,
        "n_layer": len({match[1] for name in weights if (match := re.match(r"transformer\.h\.(\d+)\.", name))}),
        "n_embd": width,
        "intermediate_size": weights[up].shape[0],
        "mlp_class_name": "LLaMAMLP" if up == gated else "GptNeoxMLP",
        "norm_class_name": "LayerNorm" if "transformer.ln_f.bias" in weights else "RMSNorm",
        "bias": f"{block}attn.attn.bias" in weights,
        "shared_attention_norm": f"{block}norm_2.weight" not in weights,
        "attention_rows": weights[f"{block}attn.attn.weight"].shape[0],
    }
    size = (found["n_layer"], width, found["intermediate_size"])
    heads = {s.n_head for s in SIZES.values() if (s.n_layer, s.n_embd, s.intermediate_size) == size}
    return found | ({"n_head": heads.pop()} if heads else {})
