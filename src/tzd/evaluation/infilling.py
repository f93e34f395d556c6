"""How often a sampler writes what stood in a gap."""

from __future__ import annotations

from collections import deque

import numpy as np

from tzd.diffusion.denoiser import Denoiser
from tzd.errors import UserError
from tzd.evaluation.estimate import Estimate, mean
from tzd.sampling import Sampler, stream

_PART = 8  # the gap is one part in so many of a text, where nothing says how long it is


def default_span(length: int) -> int:
    """The gap of a text of `length` tokens, where nothing says how long it is."""
    return max(1, length // _PART)


def infill_accuracy(
    denoiser: Denoiser, tokens: np.ndarray, *, sampler: Sampler, span: int, batch_size: int = 64, seed: int = 0
) -> Estimate:
    """Share of the tokens of a gap in the middle of each text that a sampler restores exactly.

    Args:
        denoiser: the model; a model of block diffusion sees what lies before the gap alone.
        tokens: (N, L) int, real text.
        span: length of the gap.
        sampler: the rules.
        batch_size: rows at a time.
        seed: of all draws.

    Returns:
        The mean over texts and its standard error.

    Raises:
        UserError: the gap is longer than the texts.
    """
    gap = _gap(tokens.shape[1], span)
    right = []
    for start in range(0, len(tokens), batch_size):
        part = tokens[start : start + batch_size]
        canvas = part.copy()
        canvas[:, gap] = denoiser.mask_id
        frozen = np.ones(part.shape, dtype=bool)
        frozen[:, gap] = False
        (last,) = deque(stream(denoiser, canvas, frozen=frozen, sampler=sampler, seed=seed + start), maxlen=1)
        right.append((last.tokens[:, gap] == part[:, gap]).mean(axis=1))
    return mean(np.concatenate(right))


def commonest_accuracy(tokens: np.ndarray, *, span: int) -> Estimate:
    """What `infill_accuracy` gives to the commonest token of all that lies outside the gaps, written everywhere.

    Args:
        tokens: (N, L) int, real text.
        span: length of the gap.

    Raises:
        UserError: the gap is longer than the texts.
    """
    gap = _gap(tokens.shape[1], span)
    commonest = np.bincount(np.delete(tokens, gap, axis=1).ravel()).argmax()
    return mean((tokens[:, gap] == commonest).mean(axis=1))


def _gap(length: int, span: int) -> slice:
    """`span` positions in the middle of `length`."""
    if not 1 <= span < length:
        raise UserError(f"a gap of {span} tokens does not fit into texts of {length}")
    return slice((length - span) // 2, (length - span) // 2 + span)
