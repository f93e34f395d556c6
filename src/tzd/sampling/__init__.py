"""Sampling: candidate, score, keep, in blocks. NumPy on the host, the denoiser's own arrays for logits."""

from tzd.sampling.canvas import Frame
from tzd.sampling.loop import stream
from tzd.sampling.presets import Sampler, descriptions, sampler, settings_of

__all__ = ["Frame", "Sampler", "descriptions", "sampler", "settings_of", "stream"]
