"""A folder of LitGPT's, as `litgpt download` makes it: `lit_model.pth`, and what lies beside it.

`model_config.yaml` says the architecture (else the folder's name, as in LitGPT), a `tokenizer.json` makes text of the
tokens. The weights keep LitGPT's names. Embedding and head have rows up to LitGPT's padded vocabulary; the tokenizer
says which of them are tokens, and [MASK], where the tokenizer has none, gets an embedding row of its own behind them
all, so that no row of the released model changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tzd.checkpoint.layout import FORMAT, FORMAT_VERSION, sha256
from tzd.checkpoint.read import Checkpoint, mismatch
from tzd.config import LitgptConfig, ModelSettings, ObjectiveSettings
from tzd.config.litgpt_library import complete, named, names, settings, sliding_window
from tzd.corpus import describe_file
from tzd.errors import CheckpointError, ConfigError
from tzd.mapping import coerce, from_mapping, require, to_mapping
from tzd.printable import printable
from tzd.untrusted import read_yaml_text

LIT_MODEL = "lit_model.pth"
MODEL_CONFIG = "model_config.yaml"
EMBEDDING = "transformer.wte.weight"


def pretrained_folder(model: ModelSettings) -> Path | None:
    """The folder of the weights that `model.pretrained_model_name` and `model.checkpoint_dir` mean, if they are set.

    Raises:
        CheckpointError: it holds none.
    """
    folder, name = model.pretrained, model.pretrained_model_name
    if folder is None or (folder / LIT_MODEL).is_file():
        return folder
    if name is None:
        raise CheckpointError(
            f"there is no {LIT_MODEL} in {folder} (model.checkpoint_dir): give the folder that holds it, which for"
            " litgpt download OWNER/NAME is checkpoints/OWNER/NAME"
        )
    parent = folder.parents[len(Path(name).parts) - 1]
    into = "" if str(parent) == "checkpoints" else f" --checkpoint_dir {parent}"
    raise CheckpointError(
        f"there is no {LIT_MODEL} in {folder} (model.pretrained_model_name, model.checkpoint_dir):"
        f" litgpt download {name}{into} puts one there"
    )


def read_architecture(file: Path, given: Mapping[str, int]) -> tuple[LitgptConfig, dict[str, Any]]:
    """What lies beside a `lit_model.pth` says.

    Args:
        file: the `lit_model.pth`.
        given: what the user says about it: n_head, block_size, context_len; it must be so.

    Returns:
        The architecture, and the tokenizer's description, empty if there is none.

    Raises:
        CheckpointError: nothing says what model it is, or that contradicts itself, or what is given.
        MissingExtraError: LitGPT is not installed.
    """
    said, where = _said(file.parent)
    try:
        every = complete(said, where)
        rows = _head_rows(every)
        # a layer with a bounded window sees everything in windows that are no longer
        longest = min(coerce(int, every["block_size"], "block_size"), sliding_window(every) or every["block_size"])
        window = given.get("block_size", longest)
        tokenizer = describe_file(file.parent)
        tokens = tokenizer.get("vocab_size", every["vocab_size"])
        if tokens > rows:
            raise ConfigError(f"padded_vocab_size={rows} is less than the {tokens} tokens of tokenizer.json beside it")
        values = {**settings(every, min(window, longest), where), "vocab_size": tokens}
        values |= {"padding_multiple": 1 if tokens == rows else rows}
        values |= {} if tokenizer.get("mask_id") is None else {"mask_id": tokenizer["mask_id"]}
        config = from_mapping(LitgptConfig, values)
    except ConfigError as error:
        reason = printable(str(error))
        raise CheckpointError(reason if where in reason else f"{where}: {reason}") from error
    if window > longest:
        raise CheckpointError(f"you gave block_size={window} for {file}, but {where} allows {longest} at most")
    if given.get("n_head", config.n_head) != config.n_head:
        raise CheckpointError(f"you gave n_head={given['n_head']} for {file}, but {where} says n_head={config.n_head}")
    if not 0 <= given.get("context_len", 0) < window:
        raise CheckpointError(f"{file} has a window of {window}: context_len={given['context_len']} cannot be")
    return config, tokenizer


def _head_rows(said: Mapping[str, Any]) -> int:
    """Rows of the head, LitGPT's padded_vocab_size."""
    tokens, padded, multiple = (
        coerce(kind, said[name], name)
        for name, kind in (("vocab_size", int), ("padded_vocab_size", int | None), ("padding_multiple", int))
    )
    for name, number in (("vocab_size", tokens), ("padded_vocab_size", padded), ("padding_multiple", multiple)):
        require(number is None or number >= 1, f"{name} must be at least 1, not {number}")
    return padded or -(-tokens // multiple) * multiple


def _said(folder: Path) -> tuple[dict[str, Any], str]:
    """The fields of LitGPT's `Config`, and what says them."""
    import yaml

    file = folder / MODEL_CONFIG
    if not file.is_file():
        if folder.name in names():
            return named(folder.name), f"LitGPT's model {folder.name}"
        raise CheckpointError(
            f"{folder} has no {MODEL_CONFIG} beside {LIT_MODEL}, and is not named for a model of LitGPT's registry:"
            " copy that file from where the weights are from"
        )
    try:
        said = yaml.safe_load(read_yaml_text(file))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{file} cannot be read: {printable(reason)}; get the file again") from error
    if not isinstance(said, dict) or not all(isinstance(key, str) for key in said):
        raise CheckpointError(f"{file} is damaged: it holds no settings; get the file again")
    return said, str(file)


def assemble(
    file: Path,
    weights: dict[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    config: LitgptConfig,
    tokenizer: Mapping[str, Any],
    context_len: int = 0,
) -> Checkpoint:
    """The checkpoint of weights that were read; the embedding gets its row for [MASK], the mean of the tokens' rows.

    Args:
        file: the `lit_model.pth`.
        weights: what it holds, by name.
        shapes: what the architecture's network has, by name.
        config: the architecture.
        tokenizer: its description.
        context_len: length of the prefix that training never masked.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape; they are named.
    """
    expected = {**shapes, EMBEDDING: (config.padded_vocab_size, config.n_embd)}
    if complaint := mismatch({name: array.shape for name, array in weights.items()}, expected):
        raise CheckpointError(f"{file} does not fit the model that {MODEL_CONFIG} describes: {printable(complaint)}")
    if config.n_embedding_rows > config.padded_vocab_size:
        rows = weights[EMBEDDING]
        mean = rows[: config.vocab_size].mean(axis=0, dtype=np.float64, keepdims=True)
        weights[EMBEDDING] = np.concatenate([rows, mean.astype(np.float32)])
    sections = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {"model_type": config.model_type, **to_mapping(config)},
        "tokenizer": dict(tokenizer),
        "diffusion": to_mapping(ObjectiveSettings(name="nelbo", context_len=context_len)),
        "provenance": {"source": file.name, "source_sha256": sha256(file)},
    }
    return Checkpoint(file.parent, sections, weights, file=file)
