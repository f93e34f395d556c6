"""Numbers that a caller gives, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from tzd.errors import UserError


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number, of Python or NumPy, that is neither too small nor too large."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UserError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}")
    if most is not None and value > most:
        raise UserError(f"{name} must be at most {most:,}, not {value}")
    return int(value)
