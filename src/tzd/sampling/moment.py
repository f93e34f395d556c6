"""What the rules of a sampler may look at before and after a denoiser call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tzd.randomness import uniforms


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of the sample, seen by the rules: (B,) per row, (B, W) per position of the window.

    Attributes:
        seed: seed of the sample.
        step: number of the step, counted over the whole sample.
        blank: (B, W) bool, blanks of the row's block; none where the row is finished.
        written: (B, W) bool, positions of the block that are written and not frozen.
        left: (B,) number of blanks.
        blanks: (B,) number of blanks before the block's first step.
        index: (B,) steps made in the block.
        steps: (B,) steps for the block.
    """

    seed: int
    step: int
    blank: np.ndarray
    written: np.ndarray
    left: np.ndarray
    blanks: np.ndarray
    index: np.ndarray
    steps: np.ndarray

    def draws(self, stream: str) -> np.ndarray:
        """(B, W) uniforms in [0, 1): a row's depend on the seed, the step and its index alone."""
        return uniforms(self.seed, stream, self.step, *self.blank.shape)
