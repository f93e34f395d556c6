"""A text source that can be enumerated, its exact denoiser, and the exact laws of samplers that use it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.sampling import Sampler, stream

_CHUNK = 50_000  # samples per call: fits the processor's cache


@dataclass(frozen=True)
class MarkovOracle:
    """A Markov chain over V = 3 symbols, of length L = 5, and everything that is computed from it.

    A canvas is coded as a number in base V + 1, its first position the most significant digit; [MASK] is V.
    """

    vocab_size: int = 3
    length: int = 5
    first: tuple[float, ...] = (0.6, 0.3, 0.1)
    step: tuple[tuple[float, ...], ...] = ((0.7, 0.2, 0.1), (0.15, 0.25, 0.6), (0.3, 0.6, 0.1))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.vocab_size + 1,) * self.length

    @cached_property
    def canvases(self) -> np.ndarray:
        """(4^5, 5) tokens of every canvas."""
        return np.stack(np.unravel_index(np.arange(np.prod(self.shape)), self.shape), axis=1)

    @cached_property
    def joint(self) -> np.ndarray:
        """(4^5,) the chain's own law; 0 where a canvas has a [MASK]."""
        sequences = self.canvases[(self.canvases < self.vocab_size).all(axis=1)]
        p = np.array(self.first)[sequences[:, 0]]
        for a, b in zip(sequences.T[:-1], sequences.T[1:], strict=True):
            p = p * np.array(self.step)[a, b]
        law = np.zeros(len(self.canvases))
        law[self.code(sequences)] = p
        return law

    @cached_property
    def conditionals(self) -> np.ndarray:
        """(4^5, 5, 3) probability of each token at each position given what a canvas shows."""
        joint, canvases = self.joint, self.canvases
        complete = canvases[joint > 0]
        fits = ((canvases[:, None] == complete) | (canvases[:, None] == self.vocab_size)).all(axis=2)
        weights = fits * joint[joint > 0]
        tokens = complete[:, :, None] == np.arange(self.vocab_size)
        p = np.einsum("cs,slv->clv", weights, tokens)
        return p / weights.sum(axis=1)[:, None, None]

    def code(self, tokens: np.ndarray) -> np.ndarray:
        return tokens @ (self.vocab_size + 1) ** np.arange(self.length - 1, -1, -1)

    def denoiser(self, copies: int = 1) -> FunctionDenoiser:
        """The exact denoiser, of `copies` independent texts side by side."""
        logits = np.log(self.conditionals, out=np.full(self.conditionals.shape, -np.inf), where=self.conditionals > 0)
        return FunctionDenoiser(
            lambda x: logits[self.code(x.reshape(-1, self.length))].reshape(*x.shape, self.vocab_size),
            self.vocab_size,
            self.length * copies,
        )

    def law(self, reveal: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """The exact law of a sampler that treats each position by itself.

        Args:
            reveal: (T,) the probability that a step fills a blank, with a token drawn given the whole canvas.
            keep: (T,) the probability that a step leaves a written token where it is.

        Returns:
            (4^5,) the law of the canvas after T steps that began with all blank.
        """
        masked = (self.canvases == self.vocab_size)[:, :, None]
        law = np.zeros(len(self.canvases))
        law[-1] = 1.0
        for q, r in zip(reveal, keep, strict=True):
            states = np.flatnonzero(law)
            written = np.eye(self.vocab_size + 1)[self.canvases] * r
            written[:, :, -1] = 1 - r
            filled = np.concatenate([q * self.conditionals, np.full((*masked.shape[:2], 1), 1 - q)], axis=2)
            factors = np.where(masked, filled, written)[states]  # (S, 5, 4)
            terms = law[states, None]
            for i in range(self.length):
                terms = (terms[:, :, None] * factors[:, i, None, :]).reshape(len(states), -1)
            law = terms.sum(axis=0)
        return law

    def counts(self, sampler: Sampler, samples: int, seed: int = 0, copies: int = 1) -> np.ndarray:
        """(4^5,) how often a sampler ends with each canvas.

        Samplers that treat each position by itself may fill several `copies` of the canvas side by side, which is
        quicker.
        """
        counts = np.zeros(len(self.canvases), dtype=np.int64)
        denoiser, rows = self.denoiser(copies), min(_CHUNK, samples) // copies
        for chunk in range(-(-samples // (rows * copies))):
            blank = np.full((rows, self.length * copies), self.vocab_size)
            *_, last = stream(denoiser, blank, sampler=sampler, seed=seed + 1000 * chunk)
            counts += np.bincount(self.code(last.tokens.reshape(-1, self.length)), minlength=len(counts))
        return counts


def chi_square(counts: np.ndarray, law: np.ndarray) -> float:
    """The p-value of counts under a law; outcomes that are expected fewer than 10 times are taken together."""
    expected = counts.sum() * law
    rare = expected < 10
    if counts[law == 0].any():
        return 0.0
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    used = expected > 0
    return float(stats.chisquare(observed[used], expected[used] * observed.sum() / expected.sum()).pvalue)


def total_variation(counts: np.ndarray, law: np.ndarray) -> float:
    return float(0.5 * np.abs(counts / counts.sum() - law).sum())
