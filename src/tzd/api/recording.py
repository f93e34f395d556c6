"""Runs that are kept: played in a notebook, saved, and replayed without the model."""

from __future__ import annotations

from collections.abc import Iterable

from tzd.api.model import Model
from tzd.api.writing import Sample, finished
from tzd.sampling import Frame
from tzd.viewers.film import Recorder
from tzd.viewers.trace import Trace


def record(model: Model, frames: Iterable[Frame]) -> Trace:
    """Draws all frames of a run, and keeps them.

    Args:
        model: whose frames they are.
        frames: what `stream`, `infill_stream` or `life` returned, from the first one on.

    Raises:
        UserError: there are no frames.
    """
    recorder = Recorder()
    return kept(recorder, finished(model, recorder.record(frames)))


def kept(recorder: Recorder, written: Sample) -> Trace:
    """What was recorded, as a trace that says how it was made and what it reads."""
    return Trace(written.run.panel, recorder.film, {**written.run.about, "text": written.text})
