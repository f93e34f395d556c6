"""Sampling: candidate, score, keep, in blocks. NumPy on the host, the denoiser's own arrays for logits."""

from tzd.sampling.canvas import Frame
from tzd.sampling.combination import Sampler, parts
from tzd.sampling.loop import stream
from tzd.sampling.presets import DEFAULT, all_settings, descriptions, sampler, settings_of

__all__ = ["DEFAULT", "Frame", "Sampler", "all_settings", "descriptions", "parts", "sampler", "settings_of", "stream"]
