"""Frames that show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tzd.api.model import Model
from tzd.corpus import Tokenizer
from tzd.sampling import Frame
from tzd.version import VERSION
from tzd.viewers.html import frame_html
from tzd.viewers.looks import Looks
from tzd.viewers.panel import Panel

_OF_WEIGHTS = ("corpus", "corpus_sha256", "step", "hub", "source")  # what a trace says of them; no paths of a machine


@dataclass(frozen=True, eq=False)
class Run:
    """What frames do not say of themselves.

    Attributes:
        tokenizer: of the model that wrote them; None for a model made from a function.
        vocab_size: V.
        about: sampler, settings, seed, model, engine, version.
        columns: cells of a line, where the text is a board.
    """

    tokenizer: Tokenizer | None
    vocab_size: int
    about: Mapping[str, Any]
    columns: int | None = None

    @classmethod
    def of(cls, model: Model, columns: int | None = None, **made: Any) -> Run:
        """A model's run, with whatever else it was made with."""
        known = model.provenance or {}
        weights = {key: known[key] for key in _OF_WEIGHTS if key in known}
        if "hub" in weights and Path(weights["hub"]).is_dir():
            weights["hub"] = Path(weights["hub"]).resolve().name
        about = {**made, "engine": model.engine, "model": weights, "version": VERSION}
        return cls(model.tokenizer, model.denoiser.vocab_size, about, columns)

    @cached_property
    def panel(self) -> Panel:
        """How it is shown; without a tokenizer, tokens are numbers."""
        title = " · ".join(map(str, (self.about.get("sampler", ""), *_pairs(self.about.get("settings", {})))))
        if self.tokenizer is None:
            return Panel(title, [f"{token} " for token in range(self.vocab_size)], self.columns)
        return Panel.of(self.tokenizer, title, self.columns)


def _pairs(settings: Mapping[str, Any]) -> list[str]:
    return [f"{name} {value}" for name, value in settings.items()]


@dataclass(frozen=True, eq=False)
class ShownFrame(Frame):
    """A frame that a notebook shows.

    Attributes:
        steps: (B, T) int32, the step that wrote each token; 0 for what was given, and for blanks.
        run: what it does not say itself.
    """

    steps: np.ndarray = field(kw_only=True, repr=False)
    run: Run = field(kw_only=True, repr=False)

    def _repr_html_(self) -> str:
        return picture(self, fresh=self.revealed)


def picture(frame: ShownFrame, fresh: np.ndarray, caption: str | None = None) -> str:
    """A frame as an element of a page.

    Args:
        frame: what to show.
        fresh: (B, T) bool, the cells to stress.
        caption: the line below; where the run is if None.
    """
    looks = Looks().of(replace(frame, revealed=frame.steps > 0), fresh)
    return frame_html(frame.run.panel, frame, looks, steps=frame.steps, caption=caption)


def shown(frames: Iterable[Frame], run: Run) -> Iterator[ShownFrame]:
    """The same frames, such that a notebook shows them; those that it shows already are left alone."""
    steps: np.ndarray | None = None
    for frame in frames:
        if isinstance(frame, ShownFrame):
            yield frame
            continue
        steps = np.zeros(frame.masked.shape, np.int32) if steps is None else steps
        steps = np.where(frame.masked, 0, np.where(frame.revealed, np.int32(frame.step), steps))
        yield ShownFrame(**vars(frame), steps=steps, run=run)
