"""A Markov chain over five letters, whose entropy is known exactly: what a perfect model's NELBO must come down to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tzd.corpus.corpus import Corpus, Source
from tzd.corpus.files import Lookup
from tzd.mapping import require
from tzd.randomness import uniforms

DESCRIPTION = "a Markov chain over five letters, its entropy known exactly (generated)"


@dataclass(frozen=True, eq=False)
class MarkovSource:
    """A stationary first-order Markov chain over V symbols: p(x) = π(x_1) Π P(x_i | x_{i-1}).

    Attributes:
        transition: (V, V) float64, P; row i is the law of what follows symbol i. Irreducible.
    """

    transition: np.ndarray

    def __post_init__(self) -> None:
        P = self.transition
        require(P.ndim == 2 and P.shape[0] == P.shape[1], f"a transition matrix is square, not {P.shape}")
        require(bool((P >= 0).all() and np.allclose(P.sum(axis=1), 1)), "each row of a transition matrix is a law")

    @cached_property
    def stationary(self) -> np.ndarray:
        """(V,) float64, π: the law of every single symbol, πP = π."""
        V = len(self.transition)
        equations = np.vstack([self.transition.T - np.eye(V), np.ones(V)])
        return np.linalg.lstsq(equations, np.append(np.zeros(V), 1.0), rcond=None)[0]

    @property
    def entropy_rate(self) -> float:
        """Conditional entropy h = H(x_i | x_{i-1}), in nats per symbol."""
        return float(self.stationary @ _entropies(self.transition))

    def window_entropy(self, length: int) -> float:
        """Expected negative log-likelihood of a window: (H(π) + (L-1) h) / L, in nats per symbol."""
        return float(_entropies(self.stationary) + (length - 1) * self.entropy_rate) / length

    def log_prob(self, tokens: np.ndarray) -> np.ndarray:
        """Exact log-likelihood of windows, in nats: (B, L) int -> (B,) float64; -inf for what cannot occur."""
        with np.errstate(divide="ignore"):
            first, steps = np.log(self.stationary), np.log(self.transition)
        return first[tokens[:, 0]] + steps[tokens[:, :-1], tokens[:, 1:]].sum(axis=1)

    def sample(self, n: int, seed: int) -> np.ndarray:
        """A run of the chain, begun in its stationary law. Returns (n,) int32.

        The i-th uniform number, through the inverse CDF of each row of P, is a map from the state before to the state
        after. Composing these maps by recursive doubling (Hillis & Steele, 1986) takes log2 n array operations.
        """
        u = uniforms(seed, "markov", 0, 1, n)[0]
        maps = np.stack([_inverse_cdf(row, u) for row in self.transition], axis=1)
        maps[0] = _inverse_cdf(self.stationary, u[:1])  # the first state depends on none before
        reach = 1
        while reach < n:
            maps[reach:] = np.take_along_axis(maps[reach:], maps[:-reach], axis=1)
            reach *= 2
        return maps[:, 0].astype(np.int32)


def _entropies(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


def _inverse_cdf(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(p)[:-1], u, side="right")


ALPHABET = "abcde"
CHAIN = MarkovSource(
    np.array(
        [
            [0.05, 0.75, 0.10, 0.05, 0.05],
            [0.05, 0.05, 0.75, 0.10, 0.05],
            [0.60, 0.05, 0.05, 0.20, 0.10],
            [0.10, 0.10, 0.05, 0.05, 0.70],
            [0.30, 0.10, 0.30, 0.20, 0.10],
        ]
    )
)
LENGTH = 400_000
SEED = 0


def _open(lookup: Lookup) -> Corpus:
    lookup.refuse_path("markov")
    letters = np.frombuffer(ALPHABET.encode(), np.uint8)
    text = letters[CHAIN.sample(LENGTH, SEED)].tobytes().decode()
    return Corpus.from_text("markov", text, DESCRIPTION, entropy=CHAIN.entropy_rate)


SOURCE = Source(DESCRIPTION, _open)
