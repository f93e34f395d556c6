"""Engines: what computes. Each is a package with a `denoiser` and a `train` module; none knows another."""

from __future__ import annotations

import platform
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from tzd.errors import ConfigError, MissingExtraError, nearest

ENGINES = ("torch", "mlx")


def best_engine() -> str:
    """The engine for whom does not name one: MLX on a Mac with Apple silicon, where it is installed; else PyTorch."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return "mlx" if apple and find_spec("mlx") else "torch"


def engine_module(engine: str | None, module: str) -> ModuleType:
    """A module of an engine, imported when it is first needed.

    Args:
        engine: its name; None is the best one here.
        module: "denoiser" or "train".

    Raises:
        ConfigError: there is no such engine.
        MissingExtraError: it is not installed.
    """
    name = engine or best_engine()
    if name not in ENGINES:
        raise ConfigError(f"unknown engine '{name}'{nearest(name, ENGINES)}")
    try:
        return import_module(f"tzd.engines.{name}.{module}")
    except ImportError as error:
        if name == "mlx" and (error.name or "").partition(".")[0] == "mlx":
            raise MissingExtraError("engine=mlx", "mlx") from error
        raise
