"""What the rules of a sampler may look at before and after a denoiser call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        confidence: (B, W) float32, the probability of each written token when it was written.
        left: (B,) number of blanks.
        blanks: (B,) number of blanks before the block's first step.
        index: (B,) steps made in the block.
        steps: (B,) steps for the block.
    """

    seed: int
    step: int
    blank: np.ndarray
    written: np.ndarray
    confidence: np.ndarray
    left: np.ndarray
    blanks: np.ndarray
    index: np.ndarray
    steps: np.ndarray

    # A row's uniforms depend on the seed, the step and the row's index alone, so that a row that leaves the batch
    # changes nothing for the others.

    @cached_property
    def position_draws(self) -> np.ndarray:
        """(B, W) float64 in [0, 1), for what happens to a position: its rank, being revealed or taken back."""
        return uniforms(self.seed, "position", self.step, *self.blank.shape)

    @cached_property
    def order_draws(self) -> np.ndarray:
        """(B, W) float64 in [0, 1), for noise on the scores."""
        return uniforms(self.seed, "order", self.step, *self.blank.shape)

    @cached_property
    def row_draws(self) -> np.ndarray:
        """(B,) float64 in [0, 1), one for each row, the same at every step."""
        return uniforms(self.seed, "row", 0, len(self.blank), 1)[:, 0]

    @property
    def last(self) -> np.ndarray:
        """(B,) bool, whether this is the block's last step."""
        return self.index + 1 >= self.steps

    @cached_property
    def token_draws(self) -> np.ndarray:
        """(B, W) float64 in [0, 1), for the token at a position."""
        return uniforms(self.seed, "token", self.step, *self.blank.shape)
