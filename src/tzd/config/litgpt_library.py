"""LitGPT's own configurations as settings of ours, read without importing LitGPT, which would import PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tzd.config.litgpt import LitgptConfig
from tzd.errors import ConfigError, MissingExtraError, brief, nearest
from tzd.mapping import require

# What LitGPT says and a denoiser has otherwise: the tokenizer says the vocabulary, the run the window.
_ELSEWHERE = ("name", "hf_config", "vocab_size", "padded_vocab_size", "padding_multiple", "block_size")
_WINDOW = ("sliding_window_size", "sliding_window_indices")


@lru_cache(maxsize=1)
def _library() -> ModuleType:
    """litgpt/config.py by itself; the package around it takes seconds to import."""
    package = importlib.util.find_spec("litgpt")
    if package is None or package.origin is None:
        raise MissingExtraError("model_type=litgpt", "litgpt")
    spec = importlib.util.spec_from_file_location("litgpt_config", Path(package.origin).with_name("config.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> list[str]:
    """The names of LitGPT's configurations.

    Raises:
        MissingExtraError: LitGPT is not installed.
    """
    return list(_library().name_to_config)


def named(name: str) -> dict[str, Any]:
    """What LitGPT's registry says about a model, by LitGPT's field names.

    Args:
        name: LitGPT's ("Qwen2.5-0.5B") or the hub's ("Qwen/Qwen2.5-0.5B").

    Raises:
        ConfigError: it has none of that name.
        MissingExtraError: LitGPT is not installed.
    """
    known = _library().name_to_config
    hub = {f"{said['hf_config']['org']}/{said['hf_config']['name']}": said for said in known.values()}
    if name not in known and name not in hub:
        near = nearest(name, hub if "/" in name else known)
        hint = near if "did you mean" in near else f" (its {len(known)} names are those of `litgpt download list`)"
        raise ConfigError(f"LitGPT has no model.config_name '{name}'{hint}")
    return dict(known.get(name) or hub[name])


def settings(said: Mapping[str, Any], block_size: int, where: str) -> dict[str, Any]:
    """LitGPT's fields as those of a `LitgptConfig`, all but the vocabulary.

    Args:
        said: fields of LitGPT's `Config`; those that are missing are as LitGPT has them.
        block_size: the window that is wanted.
        where: what says so, for messages.

    Raises:
        ConfigError: there is a field that LitGPT has not, or one that makes it a model which cannot be had here.
    """
    defaults = _defaults()
    every = complete(said, where)
    window = sliding_window(every)
    require(
        window is None or block_size <= window,
        f"{where} attends within {window} tokens, which is another model for windows of model.block_size={block_size},"
        f" where all attend to all: set data.block_size to at most {window}",
    )
    ours = [f.name for f in fields(LitgptConfig)]
    for key, value in every.items():
        require(
            key in ours or key in (*_ELSEWHERE, *_WINDOW) or value == defaults[key],
            f"{where} says {key}={brief(value)}: no model of LitGPT's registry has it, and it cannot be had here",
        )
    result = {key: value for key, value in every.items() if key in ours and key not in _ELSEWHERE}
    name, norm = str(every["name"]), result["norm_class_name"]  # LitGPT goes by these, litgpt/config.py, norm_class
    result["norm_unit_offset"] = norm == "RMSNorm" and "Gemma" in name
    result["norm_affine"] = not (norm == "LayerNorm" and "OLMo" in name)
    return {**result, "block_size": block_size}


def complete(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of LitGPT's `Config`, those that are missing as LitGPT has them.

    Raises:
        ConfigError: there is one that LitGPT has not.
        MissingExtraError: LitGPT is not installed.
    """
    defaults = _defaults()
    for key in said:
        require(
            key in defaults or key == "hf_config", f"{where} says {key}, which LitGPT has not{_near(key, defaults)}"
        )
    return {**defaults, **said}


def _defaults() -> dict[str, Any]:
    """LitGPT's fields, and what they are unless they are told."""
    return {f.name: f.default for f in fields(cast(Any, _library().Config)) if f.default is not MISSING}


def overridden(name: str | None, changes: Mapping[str, Any], block_size: int) -> dict[str, Any]:
    """A model of LitGPT's registry with changes, as settings of a `LitgptConfig`, all but the vocabulary.

    Args:
        name: of the model; without one there are the changes alone.
        changes: fields of `LitgptConfig`.
        block_size: the window that is wanted.

    Raises:
        ConfigError: as `named` and `settings`.
        MissingExtraError: LitGPT is not installed.
    """
    if name is None:
        return dict(changes)
    values = {**settings(named(name), block_size, f"model.config_name={name}"), **changes}
    if values["rope_indices"] is not None:  # fewer layers have the first ones' tables, as in LitGPT
        values["rope_indices"] = values["rope_indices"][: values["n_layer"]]
    return values


def sliding_window(said: Mapping[str, Any]) -> int | None:
    """How far LitGPT's attention reaches where any layer's is bounded; None if all see everything."""
    window, layers = said.get("sliding_window_size"), said.get("sliding_window_indices")
    require(
        window is None or (isinstance(window, int) and window >= 1), f"sliding_window_size={brief(window)} cannot be"
    )
    require(
        layers is None or isinstance(layers, list), f"sliding_window_indices={brief(layers)} must be a list or null"
    )
    return window if layers is None or any(layers) else None


def _near(key: str, known: Mapping[str, Any]) -> str:
    near = nearest(key, known)
    return near if "did you mean" in near else ""
