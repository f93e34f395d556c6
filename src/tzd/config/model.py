"""The model types, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tzd.config.architecture import Architecture
from tzd.config.litgpt import LitgptConfig
from tzd.config.smdm import SmdmConfig
from tzd.config.tiny import TinyConfig
from tzd.errors import nearest
from tzd.mapping import from_mapping, require

MODEL_CONFIGS: dict[str, type[Architecture]] = {"tiny": TinyConfig, "smdm": SmdmConfig, "litgpt": LitgptConfig}


def model_config(values: Mapping[str, Any], where: str = "model") -> Architecture:
    """The architecture that plain data describes (`model_type` says which)."""
    values = dict(values)
    model_type = values.pop("model_type", None)
    known = isinstance(model_type, str) and model_type in MODEL_CONFIGS
    require(known, f"unknown {where}.model_type '{model_type}'{nearest(str(model_type)[:40], MODEL_CONFIGS)}")
    return from_mapping(MODEL_CONFIGS[model_type], values, where)
