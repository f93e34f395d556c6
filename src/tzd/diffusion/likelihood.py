"""Likelihoods: upper bounds on −log p that are worth comparing, and the exact enumeration they are held against.

All of them rest on the any-order form of the bound (RADD, arXiv:2406.03736, eq. 3.9; LLaDA, arXiv:2502.09992, eq. 6):
with k uniform in 1..L and a uniformly random set of k masked positions, −log p(x) ≤ E[(L/k) Σ_masked CE]. The
number of masked tokens is stratified over sequences and draws, and the draws are fixed by the seed: two models, or
one model at two steps, are compared on the same masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from tzd.diffusion.blocks import doubled_layout, mask_blocks
from tzd.diffusion.denoiser import Denoiser
from tzd.diffusion.masking import mask_by_count
from tzd.errors import UserError
from tzd.randomness import permutation, uniforms

if TYPE_CHECKING:
    from tzd.corpus import Batch

_LONGEST_ENUMERATION = 16  # 2^16 canvases


@dataclass(frozen=True)
class Nelbo:
    """An upper bound on −log p.

    Attributes:
        nats_per_token: the bound.
        stderr: standard error of `nats_per_token`, over sequences (over draws where there is one sequence). It
            covers the choice of the text as well as that of the masks.
        bits_per_char: the bound in bits per character of text; None where characters were not counted.
        tokens: number of tokens scored, each once per draw.
        sequences: number of sequences they came in.
        draws: masks per sequence.
    """

    nats_per_token: float
    stderr: float
    bits_per_char: float | None
    tokens: int
    sequences: int
    draws: int


def masked_counts(sequences: int, draws: int, lengths: np.ndarray, seed: int) -> np.ndarray:
    """How many tokens each draw masks: k uniform in 1..length, stratified over all sequences and draws.

    Args:
        sequences: number of sequences, N.
        draws: draws per sequence, D.
        lengths: (N,) maskable tokens of each sequence.
        seed: fixes the draws.

    Returns:
        (N, D) int64.
    """
    u = uniforms(seed, "nelbo-count", 0, sequences, draws)
    cell = np.stack([permutation(seed, "nelbo-cell", d, sequences) for d in range(draws)], axis=1)
    v = (np.arange(draws) + (cell + u) / sequences) / draws  # one per cell of an N·D grid over [0, 1)
    return np.minimum(1 + np.floor(v * lengths[:, None]), lengths[:, None]).astype(np.int64)


def masked_log_probabilities(
    denoiser: Denoiser, tokens: np.ndarray, masked: np.ndarray, batch_size: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Σ over a row's masked positions of log p(x_0 | visible), in nats.

    Args:
        denoiser: the model. One of block diffusion sees the blocks before each block clean.
        tokens: (N, L) int, x_0.
        masked: (N, L) bool.
        batch_size: rows per call of the denoiser.
        weight: (N, L) what each position counts; 1 if None.

    Returns:
        (N,) float64.
    """
    xp, total, length = denoiser.xp, np.zeros(len(tokens)), tokens.shape[1]
    layout = doubled_layout(length, denoiser.block_len) if denoiser.block_len else {}
    for start in range(0, len(tokens), batch_size):
        part = slice(start, start + batch_size)
        rows, columns = np.nonzero(masked[part])
        if not len(rows):
            continue
        x_t = np.where(masked[part], denoiser.mask_id, tokens[part]).astype(np.int32)
        if layout:
            x_t = np.concatenate([x_t, tokens[part].astype(np.int32)], axis=1)
        inputs = {name: np.broadcast_to(x, (len(x_t), *x.shape[1:])) for name, x in layout.items()}
        logits, _ = denoiser.forward(x_t, rows=rows * x_t.shape[1] + columns, **inputs)
        logits = xp.floats(logits)
        if denoiser.banned is not None:
            logits = xp.where(xp.asarray(denoiser.banned), -np.inf, logits)
        targets = tokens[part][rows, columns].astype(np.int64)
        log_p = xp.to_numpy(xp.log_probability(logits, xp.asarray(targets))).astype(np.float64)
        if weight is not None:
            log_p = log_p * weight[part][rows, columns]
        total[part] = np.bincount(rows, weights=log_p, minlength=len(x_t))
    return total


def scored(group: np.ndarray | Batch, context: int = 0) -> np.ndarray:
    """Which positions of a group the bound is on, (rows, length) bool: what is maskable, after the context."""
    if isinstance(group, tuple):
        return group.maskable & (np.arange(group.maskable.shape[1]) >= context)
    return np.broadcast_to(np.arange(group.shape[1]) >= context, group.shape)


def nelbo(
    denoiser: Denoiser,
    groups: Sequence[np.ndarray | Batch],
    *,
    draws: int = 8,
    seed: int = 0,
    characters: float | None = None,
    batch_size: int = 32,
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Nelbo:
    """The NELBO of a text, cut into sequences that are scored independently of each other.

    Args:
        denoiser: the model. Where its training never masked a prefix (`context_len`), neither does this: the bound
            is then on the tokens after it, given it.
        groups: arrays (rows, length) of tokens; lengths may differ between groups. With a `Batch`, whose rows are
            prompt, answer and padding, the bound is on its maskable tokens given those before them; those after them
            are [MASK] throughout, so that they do not tell where an answer ends.
        draws: masks per sequence.
        seed: fixes the masks.
        characters: number of characters that the scored tokens stand for.
        batch_size: rows per call of the denoiser.
        share: (rank, world): this process scores the sequences rank, rank + world, ...
        reduce: sums an array over all processes.

    Returns:
        The bound, its standard error and what it covers.

    Raises:
        UserError: there is nothing to score.
    """
    context = denoiser.context_len
    groups = [group for group in groups if scored(group, context).any()]
    if not groups:
        raise UserError("there is nothing to score: the text is empty, or no longer than the model's context_len")
    if draws < 1:
        raise UserError(f"draws must be at least 1, not {draws}")
    lengths = np.concatenate([scored(group, context).sum(axis=1) for group in groups])
    counts = masked_counts(len(lengths), draws, lengths, seed)
    nats = np.zeros(counts.shape)
    first = 0
    for group in groups:
        maskable = scored(group, context)
        tokens = group.tokens if isinstance(group, tuple) else group
        index = np.arange(first, first + len(tokens))
        index = index[index % share[1] == share[0]]
        here = index - first
        nats[index] = _draw_nats(denoiser, tokens[here], maskable[here], counts[index], index, seed, batch_size)
        first += len(tokens)
    if reduce is not None:
        nats = reduce(nats)
    return _summarise(nats, lengths, characters)


def _draw_nats(
    denoiser: Denoiser,
    tokens: np.ndarray,
    maskable: np.ndarray,
    counts: np.ndarray,
    index: np.ndarray,
    seed: int,
    batch_size: int,
) -> np.ndarray:
    """(rows, draws) estimates (L/k) Σ CE of each sequence's bound."""
    rows, width = tokens.shape
    beyond = np.logical_or.accumulate(maskable, axis=1) & ~maskable
    tokens = np.where(beyond, denoiser.mask_id, tokens)
    masked = np.empty((rows, counts.shape[1], width), dtype=bool)
    weight = np.empty(masked.shape)
    all_rows = int(index.max(initial=-1)) + 1
    for draw in range(counts.shape[1]):
        u = uniforms(seed, f"nelbo-position-{width}", draw, all_rows, width)[index]
        if denoiser.block_len:
            time = _block_times(seed, draw, counts.shape[1], all_rows, -(-width // denoiser.block_len))[index]
            masked[:, draw], weight[:, draw] = mask_blocks(maskable, denoiser.block_len, time.ravel(), u)
        else:
            masked[:, draw] = mask_by_count(maskable, counts[:, draw], u)
            weight[:, draw] = maskable.sum(axis=1, keepdims=True) / np.maximum(counts[:, draw, None], 1)
    repeated = np.repeat(tokens, counts.shape[1], axis=0)
    flat = (x.reshape(-1, width) for x in (masked, weight))
    log_p = masked_log_probabilities(denoiser, repeated, next(flat), batch_size, next(flat))
    return -log_p.reshape(counts.shape)


def _block_times(seed: int, draw: int, draws: int, rows: int, blocks: int) -> np.ndarray:
    """(rows, blocks) in [0, 1): each block's times of all draws lie one in each of so many equal parts."""
    offset = np.floor(uniforms(seed, "nelbo-block-offset", 0, rows, blocks) * draws)
    return ((draw + offset) % draws + uniforms(seed, "nelbo-block-time", draw, rows, blocks)) / draws


def _summarise(nats: np.ndarray, lengths: np.ndarray, characters: float | None) -> Nelbo:
    sequences, draws = nats.shape
    per_sequence, tokens = nats.mean(axis=1), int(lengths.sum())
    per_token = float(per_sequence.sum() / tokens)
    if sequences > 1:  # the error of a ratio of sums
        residual = per_sequence - per_token * lengths
        stderr = math.sqrt(sequences / (sequences - 1) * float((residual**2).sum())) / tokens
    else:
        stderr = float(nats[0].std(ddof=1)) / math.sqrt(draws) / tokens if draws > 1 else math.nan
    bits = per_sequence.sum() / characters / math.log(2) if characters else None
    return Nelbo(per_token, stderr, None if bits is None else float(bits), tokens, sequences, draws)


def log_likelihood(
    denoiser: Denoiser,
    prompt: np.ndarray,
    answer: np.ndarray,
    *,
    draws: int = 128,
    seed: int = 0,
    batch_size: int = 32,
) -> float:
    """A lower bound on log p(answer | prompt), in nats (LLaDA, arXiv:2502.09992, appendix; `get_log_likelihood`).

    The number of masked answer tokens takes each value in 1..L evenly often, as far as `draws` allows.

    Args:
        denoiser: the model.
        prompt: (P,) int, given tokens; P may be 0.
        answer: (L,) int.
        draws: masks; one is exact where the answer is a single token.
        seed: fixes the masks.
        batch_size: rows per call of the denoiser.

    Raises:
        UserError: the answer is empty, or prompt and answer are longer than the model's sequence.
    """
    length, width = len(answer), len(prompt) + len(answer)
    if not length:
        raise UserError("the answer is empty: there is nothing to score")
    if width > denoiser.seq_len:
        raise UserError(f"prompt and answer have {width} tokens; the model takes {denoiser.seq_len}")
    if draws < 1:
        raise UserError(f"draws must be at least 1, not {draws}")
    u = uniforms(seed, "answer-position", 0, draws, width)
    maskable = np.broadcast_to(np.arange(width) >= len(prompt), (draws, width))
    tokens = np.broadcast_to(np.concatenate([prompt, answer]).astype(np.int32), (draws, width))
    if denoiser.block_len:
        blocks = -(-width // denoiser.block_len)
        time = np.concatenate([_block_times(seed, draw, draws, 1, blocks) for draw in range(draws)])
        masked, weight = mask_blocks(maskable, denoiser.block_len, time.ravel(), u)
    else:
        first = float(uniforms(seed, "answer-count", 0, 1, 1)[0, 0])
        spread = np.round(first * length + np.arange(draws) * length / draws).astype(np.int64)
        counts = 1 + spread % length
        masked = mask_by_count(maskable, counts, u)
        weight = np.broadcast_to((length / counts)[:, None], masked.shape)
    return float(np.mean(masked_log_probabilities(denoiser, tokens, masked, batch_size, weight)))


def exact_nelbo(denoiser: Denoiser, tokens: np.ndarray, *, batch_size: int = 4096) -> float:
    """The NELBO of one short sequence by enumeration of every mask, in nats (not per token).

    Σ_n of the mean, over all sets S of n masked positions, of (1/n) Σ_{i in S} CE_i: the mean of every estimator
    above.

    Args:
        denoiser: the model.
        tokens: (L,) int, L at most 16.
        batch_size: rows per call of the denoiser.

    Raises:
        UserError: the sequence is too long to enumerate.
    """
    length = len(tokens)
    if length > _LONGEST_ENUMERATION:
        raise UserError(f"{length} tokens are too many to enumerate; {_LONGEST_ENUMERATION} are the most")
    masked = np.array(list(product((False, True), repeat=length))[1:])
    count = masked.sum(axis=1)
    subsets = np.array([math.comb(length, int(n)) for n in count])
    rows = np.broadcast_to(np.asarray(tokens), masked.shape)
    log_p = masked_log_probabilities(denoiser, rows, masked, batch_size)
    return float(-(log_p / count / subsets).sum())
