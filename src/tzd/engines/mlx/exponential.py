"""Powers of two for processors, where MLX's own exponentials take most of a softmax."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

# 2^f for |f| ≤ 1/2, highest power first: interpolates at Chebyshev's nodes, good to 1e-7 with float32 arithmetic.
_POLYNOMIAL = (1.5461445e-4, 1.3400428e-3, 9.6180567e-3, 5.5503272e-2, 2.4022651e-1, 6.9314721e-1, 1.0)
_ROUND = 1.5 * 2.0**23  # added and subtracted again, it rounds float32 to whole numbers


def exp2(x: mx.array) -> mx.array:
    """2^x, to 2e-7 of its value, for x < 127; below -126 it is 2^-126, as good as 0.

    Args:
        x: float32, of any shape.
    """
    return _power(x)


@mx.compile  # one loop: a quarter of the time of mx.power, and a twelfth of that of mx.exp
def _by_bits(x: mx.array) -> mx.array:
    x = mx.maximum(x, -126.0)
    whole = (x + _ROUND) - _ROUND
    rest = x - whole
    power = mx.array(_POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        power = power * rest + coefficient
    return power * ((whole.astype(mx.int32) + 127) << 23).view(mx.float32)  # 2^whole: the bits of its exponent


_power: Any = mx.custom_function(_by_bits)


@_power.vjp
def _slope(x: mx.array, cotangent: mx.array, power: mx.array) -> mx.array:
    return cotangent * (power * math.log(2))
