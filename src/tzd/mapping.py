"""Plain data as dataclasses and back, with every name and type checked.

What JSON, YAML and a command line give becomes a frozen dataclass here; an unknown name or a wrong type is one line
that names the setting as a user would write it (`model.n_head`).
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

from tzd.errors import ConfigError, brief, nearest

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Builds a settings dataclass from plain data, checking names and types.

    Args:
        cls: a frozen dataclass; fields that are dataclasses themselves are built in turn.
        values: plain data, as it comes from JSON, YAML or a command line.
        where: dotted name of the group, for messages.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or the class rejects the combination.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'the configuration'} must be a group of settings, not {brief(values)}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(typing.cast(Any, cls))]
    prefix = f"{where}." if where else ""
    for key in values:
        require(key in names, f"unknown setting '{prefix}{key}'{nearest(str(key), names)}")
    for f in dataclasses.fields(typing.cast(Any, cls)):
        optional = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        require(optional or f.name in values, f"{prefix}{f.name} is missing")
    checked = {key: coerce(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        return cls(**checked)
    except ConfigError as error:
        file, found, _ = where.rpartition(": ")  # of a group of a file; what the class says names the group alone
        if not found:
            raise
        raise ConfigError(f"{file}: {error}") from error


def coerce(hint: Any, value: Any, name: str) -> Any:
    """`value` as the type `hint`, or a ConfigError that names the setting.

    Numbers may come as int where a float is wanted (never the other way round, unless it is whole), lists become
    tuples, mappings become the dataclass asked for.
    """
    if dataclasses.is_dataclass(hint):
        return (
            value if isinstance(value, typing.cast(type, hint)) else from_mapping(typing.cast(type, hint), value, name)
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        for argument in arguments:  # an exact match first, so that true stays a truth value and 1 an integer
            if type(value) is argument:
                return value
        for argument in arguments:
            if argument is not type(None):
                try:
                    return coerce(argument, value, name)
                except ConfigError:
                    continue
        raise ConfigError(f"{name} cannot be {brief(value)}; it takes {_describe(hint)}")
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(coerce(arguments[0], item, name) for item in value)
    elif hint in (dict, Any) or origin is dict:
        if hint is Any or isinstance(value, Mapping):
            return value if hint is Any else dict(value)
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        require(abs(value) <= sys.float_info.max, f"{name} must be a finite number, not {brief(value)}")
        return float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise ConfigError(f"{name} cannot be {brief(value)}; it takes {_describe(hint)}")


def _describe(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    if typing.get_origin(hint) is tuple:
        return f"a list, each entry {_describe(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in typing.get_args(hint))
    return names.get(hint, "a group of settings")


def to_mapping(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain data (tuples as lists), ready for JSON or YAML."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(settings))
