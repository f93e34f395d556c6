"""What a call is refused with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tzd.errors import TzdError


def told(call: Callable[[], Any]) -> str:
    """The line."""
    with pytest.raises(TzdError) as refused:
        call()
    return str(refused.value)
