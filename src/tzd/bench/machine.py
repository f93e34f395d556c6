"""The machine that figures hold for: what it is, what it has free, in what it computes."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# variables that decide how fast libraries compute, and on what
_DECIDING = re.compile(r"(OMP|KMP|GOMP|MKL|DNNL|ONEDNN|OPENBLAS|MLX|CUDA|PYTORCH|TORCH|MALLOC|GLIBC)_")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, versions; plain data."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
        "system": platform.system(),
        "environment": {name: value for name, value in sorted(os.environ.items()) if _DECIDING.match(name)},
        "python": platform.python_version(),
        "tzd": _version("tinyzero-diffusion"),
        "torch": _version("torch"),
        "mlx": _version("mlx"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def free_bytes() -> float:
    """Memory that is free, or held by nothing but caches; all that there is, where a system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (found := re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text())):
        return int(found[1]) * 1024.0
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def dtype_of(precision: str, engine: str) -> str:
    """In what a precision multiplies here, or what stands nearest to it: "float32" or "bfloat16"."""
    if precision == "auto":
        precision = "bf16" if engine == "torch" and computes_in_bfloat16(engine) else "32"  # MLX samples in float32
    return "float32" if precision == "32" else "bfloat16"


def computes_in_bfloat16(engine: str) -> bool:
    """Whether `training.precision=auto`, and on PyTorch `precision=auto` of sampling, multiply in bfloat16 here."""
    if engine == "mlx":
        import mlx.core as mx

        return bool(mx.default_device() == mx.Device(mx.gpu))
    import torch

    from tzd.engines.torch.inference import bfloat16_is_native

    return bfloat16_is_native(torch.device(torch_device()))


def torch_device() -> str:
    """Where PyTorch computes at its best here, as the engine does: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
