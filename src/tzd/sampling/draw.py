"""Candidates: a token for every blank, drawn by inverse CDF from one uniform per position.

One uniform instead of V Gumbel numbers, and the same one for every engine. Sums run in float64 on the host:
running sums in float32 over a large vocabulary lose rare tokens. A large vocabulary goes in two levels, so that
only about √V sums and then √V probabilities of a position leave the engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tzd.arrays import Array, Arrays
from tzd.errors import TzdError

_ONE_LEVEL = 256  # vocabularies up to here go to the host as they are
_SMALLEST_NUCLEUS = 1e-30  # holds the likeliest token alone, as every smaller one does, but is no 0 in float32


@dataclass(frozen=True, eq=False)
class Candidates:
    """What N blanks would hold.

    Attributes:
        probabilities: (N, V) on the engine, the denoiser's distribution.
        tokens: (N,) int, the tokens proposed.
        probability: (N,) float, the distribution's probability of each.
    """

    probabilities: Array
    tokens: np.ndarray
    probability: np.ndarray


def propose(
    xp: Arrays,
    logits: Array,
    u: np.ndarray,
    *,
    temperature: float | np.ndarray = 1.0,
    prior: np.ndarray | None = None,
    top_p: float = 1.0,
    top_k_tokens: int | None = None,
) -> Candidates:
    """A token for each of N blanks.

    Args:
        xp: functions for the arrays of the engine.
        logits: (N, V) on the engine; −inf bans a token.
        u: (N,) float64 in [0, 1).
        temperature: 0 takes the likeliest token; otherwise tokens are drawn from softmax(logits / temperature). One
            number, or (N,) float64 above 0, one for each blank.
        prior: (V,) float64, the part of log p of an empty text that is no matter of the temperature: tokens are drawn
            from softmax(logits / temperature − (1 / temperature − 1) prior). With all of it, a temperature sharpens
            what the text adds to the tokens' own frequencies, as guidance by the text does, and where the text adds
            nothing, tokens come as often as they would at 1. With None it sharpens those frequencies too.
        top_p: draws only from the likeliest tokens that together reach this probability.
        top_k_tokens: draws only from that many of the likeliest tokens.

    Raises:
        TzdError: logits are not finite.
    """
    # what is not finite is reported below, not as NumPy's warning; what is far below the maximum may overflow
    with np.errstate(invalid="ignore", over="ignore"):
        probabilities = xp.softmax(logits)
        # where one logit is not finite, no probability of the row is a number, the first as little as the others
        first = xp.take(probabilities, xp.asarray(np.zeros((len(u), 1), np.int64)))
        if not np.isfinite(xp.to_numpy(first)).all():
            raise TzdError("the denoiser's logits are not finite: its weights are damaged, or its precision too low")
    if np.ndim(temperature) == 0 and temperature == 0:
        tokens = xp.to_numpy(xp.argmax(logits if prior is None else logits - xp.asarray(prior.astype(np.float32))))
    else:
        tempered = probabilities if np.all(temperature == 1) else _tempered(xp, logits, temperature, prior)
        filtered = top_p < 1 or top_k_tokens is not None
        tokens = draw_filtered(xp, tempered, u, top_p, top_k_tokens) if filtered else draw(xp, tempered, u)
    probability = xp.to_numpy(xp.take(probabilities, xp.asarray(tokens[:, None])))[:, 0]
    return Candidates(probabilities, tokens, probability)


def _tempered(xp: Arrays, logits: Array, temperature: float | np.ndarray, prior: np.ndarray | None) -> Array:
    """(N, V) probabilities at a temperature; less the maximum first, so that no temperature makes them infinite."""
    divisor: Any = temperature
    if isinstance(temperature, np.ndarray):
        divisor = xp.asarray(temperature.astype(np.float32))[:, None]
    with np.errstate(over="ignore"):
        scaled = (logits - xp.max(logits)[:, None]) / divisor
        if prior is not None:
            scaled = scaled - (1 / divisor - 1) * xp.asarray(prior.astype(np.float32))
        return xp.softmax(scaled)


def cooled(first: float, last: float, filled: np.ndarray) -> np.ndarray:
    """The temperature at which a block is written that is partly filled: first − (first − last) √filled.

    Where little is written, a denoiser is rightly unsure, and a low temperature has it write its commonest tokens over
    and over. Where much is written, there are few right tokens, and what it gives to the many wrong ones adds up. So
    the first tokens are drawn as they are, and later ones ever colder.

    Args:
        first: of an empty block.
        last: of a full one.
        filled: (B,) float64 in [0, 1], which share of each row's block is written.

    Returns:
        (B,) float64.
    """
    return first - (first - last) * np.sqrt(filled)


def draw(xp: Arrays, probabilities: Array, u: np.ndarray) -> np.ndarray:
    """One draw from each of N distributions by inverse CDF.

    Args:
        xp: functions for the arrays of the engine.
        probabilities: (N, V) on the engine, not negative, with a positive sum, which need not be 1.
        u: (N,) float64 in [0, 1).

    Returns:
        (N,) int64; a token of probability 0 is never drawn.
    """
    n, size = probabilities.shape
    if size <= _ONE_LEVEL:
        return _inverse_cdf(xp.to_numpy(probabilities), u)[0]
    width = math.isqrt(size - 1) + 1
    count = -(-size // width)
    blocks = xp.reshape(xp.pad_last(probabilities, count * width), (n, count, width))
    block, within = _inverse_cdf(xp.to_numpy(xp.sum(blocks)), u)
    # the last block may reach beyond V: its columns there are read from V − 1, and their mass is left out
    columns = block[:, None] * width + np.arange(width)
    values = xp.to_numpy(xp.take(probabilities, xp.asarray(np.minimum(columns, size - 1))))
    return block * width + _inverse_cdf(np.where(columns < size, values, 0), within)[0]


def _inverse_cdf(p: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first index whose running sum exceeds u · total, and where in it u fell, again in [0, 1)."""
    cdf = np.cumsum(p, axis=1, dtype=np.float64)
    target = u * cdf[:, -1]  # below the total, as u < 1, also after rounding
    index = (cdf <= target[:, None]).sum(axis=1)
    rows = np.arange(len(p))
    below = np.where(index > 0, cdf[rows, index - 1], 0.0)
    within = (target - below) / (cdf[rows, index] - below)
    return index, np.minimum(within, np.nextafter(1.0, 0.0))


def draw_filtered(
    xp: Arrays, probabilities: Array, u: np.ndarray, top_p: float, top_k_tokens: int | None
) -> np.ndarray:
    """As `draw`, from the likeliest tokens only: the first `top_k_tokens`, then the nucleus of what they hold.

    The nucleus keeps the token that crosses `top_p`, as Hugging Face's rule does (Holtzman et al., 2020). The draw
    is made in sorted order.
    """
    ranked, token = xp.sort_descending(probabilities)
    if top_k_tokens is not None:
        ranked, token = ranked[:, :top_k_tokens], token[:, :top_k_tokens]
    if top_p < 1:
        running = xp.cumsum(ranked)
        ranked = xp.where(running - ranked < max(top_p, _SMALLEST_NUCLEUS) * running[:, -1:], ranked, 0.0)
    rank = draw(xp, ranked, u)
    return xp.to_numpy(xp.take(token, xp.asarray(rank[:, None])))[:, 0]
