"""The BLAS that MLX multiplies with on Linux: its own is a reference one, so all contenders get OpenBLAS alike."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tzd.engines.mlx.openblas import places


def preload() -> str | None:
    """What workers on MLX are started with: what this process was, else the OpenBLAS of this machine, if it has one."""
    if given := os.environ.get("LD_PRELOAD"):
        return given
    return next((path for path in places() if Path(path).is_file()), None) if sys.platform == "linux" else None


def environment() -> dict[str, str] | None:
    """The variables of such workers; None where there is nothing to preload."""
    library = preload()
    return {**os.environ, "LD_PRELOAD": library} if library else None
