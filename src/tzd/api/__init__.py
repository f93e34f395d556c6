"""The public face: what `import tzd` offers, and the steps of it that commands call."""

from tzd.api.converting import convert, converted
from tzd.api.model import Model, from_function, load
from tzd.api.playing import life
from tzd.api.recording import kept, record
from tzd.api.scoring import answers_nelbo, log_likelihood, nelbo
from tzd.api.training import train
from tzd.api.writing import Sample, finished, infill, infill_stream, sample, samplers, stream
from tzd.viewers.trace import Trace

__all__ = [
    "Model",
    "Sample",
    "Trace",
    "answers_nelbo",
    "convert",
    "converted",
    "finished",
    "from_function",
    "infill",
    "infill_stream",
    "kept",
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
