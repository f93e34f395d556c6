"""Tiny Zero Diffusion: train, sample, measure and watch masked diffusion language models.

    import tzd

    model = tzd.load("runs/shakespeare-tiny")
    print(tzd.sample(model, length=256, prompt="ROMEO:", seed=0).text[0])

Everything below is imported when it is first used; `import tzd` itself is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tzd import version

__version__ = version.VERSION

__all__ = [
    "Model",
    "Sample",
    "Trace",
    "answers_nelbo",
    "convert",
    "from_function",
    "infill",
    "infill_stream",
    "life",
    "load",
    "log_likelihood",
    "nelbo",
    "record",
    "sample",
    "samplers",
    "stream",
    "train",
]

if TYPE_CHECKING:
    from tzd.api import (
        Model,
        Sample,
        Trace,
        answers_nelbo,
        convert,
        from_function,
        infill,
        infill_stream,
        life,
        load,
        log_likelihood,
        nelbo,
        record,
        sample,
        samplers,
        stream,
        train,
    )


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tzd import api

        return getattr(api, name)
    raise AttributeError(f"module 'tzd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
