"""Engines: what computes. Each is a package with a `denoiser` and a `train` module; none knows another."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from tzd.errors import ConfigError, nearest

ENGINES = ("torch",)


def engine_module(engine: str | None, module: str) -> ModuleType:
    """A module of an engine, imported when it is first needed.

    Args:
        engine: its name; None is the best one here.
        module: "denoiser" or "train".

    Raises:
        ConfigError: there is no such engine.
    """
    name = engine or ENGINES[0]
    if name not in ENGINES:
        raise ConfigError(f"unknown engine '{name}'{nearest(name, ENGINES)}")
    return import_module(f"tzd.engines.{name}.{module}")
