"""Arithmetic in configurations: `${calc:'${model.n_embd} * 4'}`.

TZD computes in its files with a resolver `oc.eval` that is Python's `eval`, which runs whatever a file holds. The
resolver of that name here, and `calc`, know numbers, + − * / // % **, parentheses, and min, max, round and int.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from tzd.errors import ConfigError

Number = int | float

_MAX_LENGTH = 500  # characters of a formula
_MAX_BITS = 1024  # of a whole number that any step of it gives
_MAX_DIGITS = 300  # that `round` is asked for: it computes their power of ten


def _round(value: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > _MAX_DIGITS:
        raise ConfigError(f"round takes a whole number of digits up to {_MAX_DIGITS}, not {digits}")
    return round(value, digits) if digits else round(value)


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Number]] = {"min": min, "max": max, "round": _round, "int": int}
_KNOWN = f"numbers, + - * / // % **, parentheses, {', '.join(_FUNCTIONS)}"


def register() -> None:
    """Makes `${calc:…}` and `${oc.eval:…}` known to OmegaConf; an `oc.eval` that another has registered is replaced."""
    for name in ("calc", "oc.eval"):
        OmegaConf.register_new_resolver(name, calculate, replace=True)


def calculate(formula: Any) -> Number:
    """The value of a formula.

    Args:
        formula: a number, or a text such as "4 * 256 // 3".

    Raises:
        ConfigError: it is no such formula, its value is no finite number, or it is too large.
    """
    if isinstance(formula, (int, float)) and not isinstance(formula, bool):
        return formula
    text = str(formula).strip()
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"a formula has at most {_MAX_LENGTH} characters, not {len(text)}: '{text[:40]}…'")
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise ConfigError(f"cannot compute '{text}': {error}") from error
        raise ConfigError(f"cannot compute '{text}': a formula has {_KNOWN}") from error
    except (ArithmeticError, TypeError) as error:
        raise ConfigError(f"cannot compute '{text}': {error}") from error


def _value(node: ast.AST) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _checked(value)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _checked(_power(_value(left), _value(right)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _checked(_BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]) if name in _FUNCTIONS:
            return _checked(_FUNCTIONS[name](*map(_value, args)))
    raise ConfigError(f"a formula has {_KNOWN}, and not '{ast.unparse(node)[:40]}'")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and abs(exponent) * max(base.bit_length(), 1) > _MAX_BITS:
        raise ConfigError(f"{base} ** {exponent} is too large")
    return base**exponent


def _checked(value: Any) -> Number:
    if isinstance(value, int) and value.bit_length() <= _MAX_BITS:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ConfigError("the value is too large, or no number")
