"""The public face: what `import tzd` offers, and the steps of it that commands call."""

from tzd.api.converting import convert, converted
from tzd.api.life import life
from tzd.api.model import Model, from_function, load
from tzd.api.scoring import answers_nelbo, log_likelihood, nelbo
from tzd.api.training import train
from tzd.api.writing import Sample, finished, infill, infill_stream, sample, samplers, stream

__all__ = [
    "Model",
    "Sample",
    "answers_nelbo",
    "convert",
    "converted",
    "finished",
    "from_function",
    "infill",
    "infill_stream",
    "life",
    "load",
    "log_likelihood",
    "nelbo",
    "sample",
    "samplers",
    "stream",
    "train",
]
