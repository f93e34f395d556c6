"""How varied texts are, and how much of them is copied.

None of these numbers means anything by itself: each is to be read beside that of real text, of as many samples of the
same length (`tzd bench samplers` prints both).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tzd.errors import UserError
from tzd.evaluation.estimate import Estimate, jackknife, mean
from tzd.evaluation.ngrams import ngrams

REPEATED, COPIED = 8, 20  # lengths of the n-grams that are looked for
DISTINCT = (1, 2, 3, 4)


@dataclass(frozen=True)
class Diversity:
    """What is known of a set of samples, each with its standard error over the samples.

    Attributes:
        unigram_entropy: of the tokens of a sample, in nats; low where it repeats itself.
        repeated_within: share of a sample's 8-grams that stand earlier in it.
        repeated_across: share of a sample's different 8-grams that another sample has too.
        distinct: for n = 1 to 4, different n-grams of all samples over their number (Li et al., 2016).
        copied: share of a sample's 20-grams that stand in the training text; None where none was given.
    """

    unigram_entropy: Estimate
    repeated_within: Estimate
    repeated_across: Estimate
    distinct: dict[int, Estimate]
    copied: Estimate | None


def diversity(tokens: np.ndarray, training: np.ndarray | None = None) -> Diversity:
    """The diversity of samples.

    Args:
        tokens: (N, L) int, N samples.
        training: (M,) int, the text that was trained on.

    Raises:
        UserError: the samples are too short.
    """
    if tokens.ndim != 2 or not len(tokens) or tokens.shape[1] < REPEATED:
        raise UserError(f"diversity takes samples of {REPEATED} tokens at least, not an array of {tokens.shape}")
    grams = ngrams(tokens, REPEATED)
    return Diversity(
        unigram_entropy=mean(unigram_entropy(tokens)),
        repeated_within=mean(1 - _different(grams) / grams.shape[1]),
        repeated_across=mean(_shared(grams)),
        distinct={n: _distinct(ngrams(tokens, n)) for n in DISTINCT},
        copied=None if training is None or tokens.shape[1] < COPIED else mean(copied(tokens, training)),
    )


def unigram_entropy(tokens: np.ndarray) -> np.ndarray:
    """Entropy of each sample's own token frequencies: (N, L) int -> (N,) float64, in nats (MDLM; ReMDM)."""
    ranked = np.sort(tokens, axis=1)
    rows, length = ranked.shape
    begins = np.ones(ranked.shape, dtype=bool)
    begins[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    starts = np.flatnonzero(begins)
    counts = np.diff(np.append(starts, ranked.size))
    share = counts / length
    return np.bincount(starts // length, weights=-share * np.log(share), minlength=rows)


def copied(tokens: np.ndarray, training: np.ndarray, n: int = COPIED) -> np.ndarray:
    """Share of each sample's n-grams that stand in a text.

    Args:
        tokens: (N, L) int.
        training: (M,) int, the text.
        n: length of the n-grams.

    Returns:
        (N,) float64.
    """
    known = np.unique(ngrams(np.asarray(training), n))
    return np.isin(ngrams(tokens, n), known, kind="sort").mean(axis=1)


def _different(grams: np.ndarray) -> np.ndarray:
    """(N,) number of different entries of each row."""
    ranked = np.sort(grams, axis=1)
    return 1 + (ranked[:, 1:] != ranked[:, :-1]).sum(axis=1)


def _shared(grams: np.ndarray) -> np.ndarray:
    """(N,) share of each row's different entries that another row has too."""
    rows = np.repeat(np.arange(len(grams)), grams.shape[1])
    _, ids = np.unique(grams, return_inverse=True)
    pairs = np.unique(np.stack([rows, ids.reshape(-1)]), axis=1)
    elsewhere = np.bincount(pairs[1])[pairs[1]] > 1
    return np.bincount(pairs[0], weights=elsewhere) / np.bincount(pairs[0])


def _distinct(grams: np.ndarray) -> Estimate:
    """Different n-grams over n-grams, of all samples together."""
    _, ids = np.unique(grams, return_inverse=True)
    ids = ids.reshape(grams.shape)
    most = int(ids.max()) + 1

    def ratio(samples: np.ndarray) -> float:
        seen = np.zeros(most, dtype=bool)
        seen[ids[samples]] = True
        return float(seen.sum()) / ids[samples].size

    return jackknife(ratio, len(grams))
