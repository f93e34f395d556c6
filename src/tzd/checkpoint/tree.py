"""A nested tree of plain values and arrays as JSON and a flat table of arrays, and back, exactly.

JSON has no tuples, no whole numbers as keys, no infinities and no arrays. What it lacks is written as an object of
one entry that names the kind: {"tuple": [...]}, {"dict": [[key, value], ...]}, {"float": "inf"}, {"array": "3"},
{"scalar": "4"}. The last two name an entry of the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def flatten(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Separates a tree into JSON data and arrays.

    Args:
        tree: dicts (keys: str or int), lists, tuples, None, bool, int, float, str, and NumPy arrays and scalars of
            booleans, integers and floats.

    Returns:
        The JSON data, and the arrays by name.

    Raises:
        TypeError: something else is in it.
    """
    arrays: dict[str, np.ndarray] = {}

    def store(value: Any) -> str:
        if value.dtype.kind not in "biuf":
            raise TypeError(f"a training state cannot hold an array of {value.dtype}")
        name = str(len(arrays))
        arrays[name] = np.asarray(value, order="C")
        return name

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {"array": store(value)}
        if isinstance(value, np.generic):
            return {"scalar": store(value)}
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [plain(item) for item in value]}
        if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
            return {"dict": [[key, plain(item)] for key, item in value.items()]}
        raise TypeError(f"a training state cannot hold {value!r}")

    return plain(tree), arrays


def unflatten(data: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree that `flatten` separated.

    Raises:
        ValueError: the data was not made by `flatten`; or KeyError or TypeError, where that shows later.
    """
    if isinstance(data, list):
        return [unflatten(item, arrays) for item in data]
    if not isinstance(data, dict):
        return data
    ((kind, value),) = data.items()
    if kind == "dict":
        return {key: unflatten(item, arrays) for key, item in value}
    if kind == "tuple":
        return tuple(unflatten(item, arrays) for item in value)
    if kind == "array":
        return arrays[value]
    if kind == "scalar":
        return arrays[value][()]
    if kind == "float":
        return float(value)
    raise ValueError(f"unknown kind {kind!r}")
