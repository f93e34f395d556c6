"""Where Linux systems keep OpenBLAS. MLX is not imported to look there."""

from __future__ import annotations

import platform


def places() -> list[str]:
    """Paths at which the library may be, the usual one first."""
    usual = f"/usr/lib/{platform.machine()}-linux-gnu/libopenblas.so.0"
    return [usual, "/usr/lib64/libopenblas.so.0", "/usr/lib/libopenblas.so.0"]
