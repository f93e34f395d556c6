"""Single files: weights as Tiny Diffusion's MLX port (`.npz`) and its PyTorch original (`.pt`) write them.

Such a file holds arrays and nothing else. What they mean is said by a JSON beside it, `NAME.json` or `config.json`:
ours (written with every `.npz`, see `write_npz`) or one with the settings by the port's names.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tzd.checkpoint import npz, port
from tzd.checkpoint.durable import clear_litter, one_line_errors, replace_file
from tzd.checkpoint.layout import CONFIG, FORMAT, FORMAT_VERSION, sha256, signed, to_json
from tzd.checkpoint.npz import NPZ
from tzd.checkpoint.read import Checkpoint, check_version, mismatch, read_object
from tzd.config import Architecture, ObjectiveSettings, TinyConfig, model_config
from tzd.corpus import Tokenizer, load_tokenizer
from tzd.errors import CheckpointError, ConfigError, UserError
from tzd.mapping import coerce, from_mapping, to_mapping
from tzd.printable import printable

_CONTEXT_LEN, _BLOCK_SIZE = 64, 256  # theirs, unless something says otherwise
_SETTINGS = {  # theirs -> ours
    "sequence_len": "block_size",
    "vocab_size": "vocab_size",
    "mask_token_id": "mask_id",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "diffusion_steps": "time_steps",
    "context_len": "context_len",
    "rms_norm_eps": "norm_eps",
}


@dataclass(frozen=True)
class _Said:
    """What is said about a file beside its arrays.

    Attributes:
        settings: name in `TinyConfig`, or context_len -> (who says so, value).
        config: the `config.json` of ours that was found; empty if it is another's.
    """

    settings: dict[str, tuple[str, Any]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


# --- reading ----------------------------------------------------------------------------------------------------


def read_npz(path: Path, given: Mapping[str, int]) -> Checkpoint:
    """Reads a `.npz`.

    Args:
        path: the file.
        given: what the user says about it: n_head, block_size, context_len; it must be so.

    Raises:
        CheckpointError: it is damaged, holds objects, is of another architecture, or of another one than is said.
    """
    return assemble(path, npz.read_shapes(path), lambda: npz.read_arrays(path), given, tables=True)


def assemble(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[], Mapping[str, np.ndarray]],
    given: Mapping[str, int],
    *,
    tables: bool,
    norm_eps: float | None = None,
) -> Checkpoint:
    """A checkpoint from the arrays of a single file and what is said beside it.

    Args:
        path: the file.
        shapes: of its arrays, by their names.
        read: reads the arrays, float32, which it is only asked to where the shapes fit together.
        given: what the user says about it: n_head, block_size, context_len.
        tables: whether the format holds the rotary tables.
        norm_eps: epsilon of the norms where the format says it.

    Raises:
        CheckpointError: it is another architecture, another one than is said, or too little is said.
    """
    said = _beside(path)
    settings = said.settings | {name: (f"you gave {name}", value) for name, value in given.items()}
    try:
        found = port.sizes(shapes, tables=tables)
    except ValueError as error:
        raise CheckpointError(f"{path} holds no weights of Tiny Diffusion: {printable(str(error))}") from error
    for name, value in found.items():
        who, other = settings.get(name, ("", value))
        if other != value:
            raise CheckpointError(f"{path} has {name}={value}, but {who}={other}: one of them is another model's")
    config = _architecture(path, {name: value for name, (_, value) in settings.items()} | found, norm_eps)
    expected = port.shapes(config, tables=tables)
    if complaint := mismatch(shapes, expected):
        raise CheckpointError(f"{path} does not fit together: {complaint}")
    default = ("", _CONTEXT_LEN if config.block_size > _CONTEXT_LEN else 0)
    context_len = settings.get("context_len", default)[1]
    if not 0 <= context_len < config.block_size:
        raise CheckpointError(f"{path} has a window of {config.block_size}: context_len={context_len} cannot be")
    sections = _sections(path, config, context_len, said.config)
    config, weights = port.from_port(read(), config)
    sections["model"] = {"model_type": config.model_type, **to_mapping(config)}
    return Checkpoint(path.parent, sections, weights, file=path)


def _architecture(path: Path, values: dict[str, Any], norm_eps: float | None) -> TinyConfig:
    """The architecture of everything that was found and said."""
    if "n_head" not in values:
        raise CheckpointError(
            f"{path} does not say how many attention heads it has: 'tzd convert {path} NAME --n-head N' does,"
            f' or "n_head" in {path.parent / CONFIG}'
        )
    values = {"mask_id": 0, "block_size": _BLOCK_SIZE, **values}
    values.pop("context_len", None)
    if norm_eps is not None:
        values["norm_eps"] = norm_eps
    if values["intermediate_size"] == 4 * values["n_embd"]:
        values["intermediate_size"] = None
    try:
        return TinyConfig(**values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _beside(path: Path) -> _Said:
    """What the JSON beside a file says."""
    for file in (path.with_suffix(".json"), path.parent / CONFIG):
        if file.is_file():
            data = read_object(file)
            ours = data.get("format") == FORMAT or data.keys() & {"format_version", "sha256"}
            return _ours(file, data) if ours else _theirs(file, data)
    return _Said()


def _ours(file: Path, data: dict[str, Any]) -> _Said:
    check_version(data, file)
    if "sha256" in data and data != signed(data):  # older versions wrote none
        raise CheckpointError(
            f"{file} is damaged: its sha256 is not that of what it says; get it again, or leave that out if you have"
            " changed it"
        )
    for name in ("model", "tokenizer", "diffusion", "provenance"):
        if not isinstance(data.get(name), Mapping):
            raise CheckpointError(f"{file} has no section '{name}'")
    config = model_config(data["model"], f"{file}: model")
    if not isinstance(config, TinyConfig):
        raise CheckpointError(
            f"{file} describes a model of model_type={config.model_type}, not the weights beside it: take both from one"
            " place"
        )
    objective = from_mapping(ObjectiveSettings, data["diffusion"], f"{file}: diffusion")
    values = {**to_mapping(config), "intermediate_size": config.mlp_width, "context_len": objective.context_len}
    return _Said({name: (f"{file} says {name}", value) for name, value in values.items()}, data)


def _theirs(file: Path, data: dict[str, Any]) -> _Said:
    def value(key: str) -> Any:
        return coerce(float if key == "rms_norm_eps" else int, data[key], f"{file}: {key}")

    return _Said({ours: (f"{file} says {key}", value(key)) for key, ours in _SETTINGS.items() if key in data})


def _sections(path: Path, config: TinyConfig, context_len: int, ours: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint's config.json says of such a file."""
    if not ours and config.vocab_size != 128:
        raise CheckpointError(
            f"{path} has {config.vocab_size} tokens, and nothing says which; known are the 128 of ASCII, and what a"
            f" config.json of tzd describes"
        )
    tokens = ours.get("tokenizer", {}).get("vocab_size", config.vocab_size)
    if tokens != config.vocab_size:
        raise CheckpointError(
            f"{path} has {config.vocab_size} tokens, but the tokenizer that is described beside it has {tokens}:"
            " one of them is another model's"
        )
    objective = ObjectiveSettings(time_sampling="independent")  # how they train, but for their order of windows
    if ours:
        objective = from_mapping(ObjectiveSettings, ours["diffusion"])
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tokenizer": ours.get("tokenizer", {"kind": "ascii", "vocab_size": 128}),
        "diffusion": to_mapping(replace(objective, context_len=context_len)),
        "provenance": {**ours.get("provenance", {}), "source": path.name, "source_sha256": sha256(path)},
    }


# --- writing ----------------------------------------------------------------------------------------------------


def check_export(path: Path, tokenizer: Tokenizer, model: Architecture | None = None) -> None:
    """Says before the work begins that a `.npz` cannot be written.

    Args:
        path: where it is to be written.
        tokenizer: of the model.
        model: its architecture, where that is not looked at elsewhere.

    Raises:
        UserError: the ending is another one, the model of another type or with what the port has not, a folder is in
            the way or cannot be written to, or the tokenizer needs a file of its own.
    """
    if path.suffix != NPZ:
        raise UserError(f"cannot write {path}: a single file is a {NPZ} file; give it that ending")
    if model is not None:
        _check_model(path, model)
    if tokenizer.files():
        raise UserError(
            f"cannot write {path}: a '{tokenizer.kind}' tokenizer needs a file of its own, and a {NPZ} file is a single"
            " one; write a checkpoint folder, or train with tokenizer=ascii or byte"
        )
    for file in (path, path.with_suffix(".json")):
        if file.is_dir():
            raise UserError(f"cannot write {file}: it is a folder; choose another name")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: {folder} is no folder that you may write to; choose another place")


def _check_model(path: Path, model: Architecture) -> TinyConfig:
    if not isinstance(model, TinyConfig):
        kind = model.model_type
        raise UserError(f"cannot write {path}: a {NPZ} holds models of model_type=tiny, and this one is {kind}")
    if model.value_residual:
        raise UserError(
            f"cannot write {path}: a {NPZ} has no place for model.value_residual=true, which this model has"
        )
    return model


def write_npz(path: Path, checkpoint: Checkpoint) -> str:
    """Writes a checkpoint as a single file that Tiny Diffusion's MLX port reads, and `NAME.json` beside it.

    Each of the two is replaced atomically, the weights first.

    Args:
        path: `NAME.npz`; its folder is made if need be.
        checkpoint: the model.

    Returns:
        One line: with which settings the port reads the file, or why it cannot.

    Raises:
        UserError: `check_export` says so.
        CheckpointError: the weights are not those of a `tiny` model.
        TzdError: it cannot be written.
    """
    config = _check_model(path, model_config(checkpoint.section("model"), f"{checkpoint.folder / CONFIG}: model"))
    tokenizer = load_tokenizer(checkpoint.section("tokenizer"), checkpoint.folder)
    check_export(path, tokenizer)
    config, stored = port.as_stored(checkpoint.weights, config, ascii_text=tokenizer.kind == "ascii")
    try:
        arrays = port.to_port(stored, config)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be written as {path}: {error}") from error
    described = {
        **checkpoint.config,
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {"model_type": config.model_type, **to_mapping(config)},
    }
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]  # a name of theirs is never that of an argument
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in (path, path.with_suffix(".json")):
            clear_litter(path.parent, glob.escape(file.name))
    replace_file(path, data.getvalue())
    replace_file(path.with_suffix(".json"), to_json(signed(described)))
    return port.how_the_port_reads(config, checkpoint.section("diffusion")["context_len"])
