"""The loop: candidate, score, keep, in blocks. Every sampler is this loop with other rules."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tzd.diffusion.denoiser import Denoiser
from tzd.errors import ConfigError
from tzd.sampling.blocks import Cursor, Plan, make_plan
from tzd.sampling.canvas import Canvas, Frame, window
from tzd.sampling.draw import propose
from tzd.sampling.guide import guided_logits
from tzd.sampling.keep import COUNTS, SCORE_COUNTS, best, remasked
from tzd.sampling.moment import Moment
from tzd.sampling.presets import Sampler
from tzd.sampling.scores import FREE_ORDERS, score


def stream(
    denoiser: Denoiser,
    tokens: np.ndarray,
    *,
    frozen: np.ndarray | None = None,
    sampler: Sampler,
    seed: int = 0,
) -> Iterator[Frame]:
    """Fills the blanks of a canvas.

    Args:
        denoiser: the model.
        tokens: (B, T) int, `denoiser.mask_id` at the blanks; T may exceed the denoiser's window.
        frozen: (B, T) bool, what never changes; whatever is not blank if None.
        sampler: the rules.
        seed: of all draws. A row's text depends on it, the row's tokens and the row's index, not on other rows
            (as far as the denoiser's rounding does not).

    Returns:
        Frames: the canvas as given, then one for each denoiser pass. The last has no blanks (with `legacy`, it has
        those where the denoiser went on predicting [MASK]).

    Raises:
        UserError: the canvas cannot be used.
        ConfigError: the sampler does not suit the canvas or the denoiser.
    """
    canvas = Canvas.start(tokens, frozen, denoiser.mask_id, denoiser.vocab_size)
    length = canvas.tokens.shape[1]
    width = min(length, denoiser.seq_len)
    overlap = sampler.overlap
    if overlap is None:
        overlap = denoiser.context_len or denoiser.seq_len // 4
    if overlap >= width < length:
        raise ConfigError(f"overlap={overlap} leaves nothing to write in the denoiser's window of {width}")
    blank = canvas.masked if sampler.remask is None else ~canvas.frozen
    plan = make_plan(blank, width, overlap, sampler.block_len, sampler.budget)
    return _frames(denoiser, canvas, plan, width, sampler, seed)


def _frames(denoiser: Denoiser, canvas: Canvas, plan: Plan, width: int, sampler: Sampler, seed: int) -> Iterator[Frame]:
    nowhere = np.zeros(0, dtype=np.int64)
    yield canvas.frame(nowhere, nowhere)
    cursor = Cursor(plan, width)
    while cursor.active.any():
        canvas.step += 1
        at = _moment(canvas, cursor, seed)
        calls = canvas.nfe
        rows, columns = _reveal(denoiser, canvas, cursor, at, sampler)
        if sampler.remask is not None:
            erased, where = np.nonzero(remasked(at, sampler))
            canvas.erase(erased, where + cursor.begin[erased])
        if canvas.nfe > calls:
            yield canvas.frame(rows, columns)
        filled = at.left == np.bincount(rows, minlength=len(at.left))
        cursor.advance(filled & (sampler.remask is None))


def _moment(canvas: Canvas, cursor: Cursor, seed: int) -> Moment:
    width = cursor.block.shape[1]
    masked = window(canvas.masked, cursor.begin, width)
    frozen = window(canvas.frozen, cursor.begin, width)
    blank = masked & cursor.block
    written = cursor.block & ~(masked | frozen)
    left = blank.sum(axis=1)
    return Moment(seed, canvas.step, blank, written, left, cursor.blanks, cursor.index, cursor.steps)


def _reveal(
    denoiser: Denoiser, canvas: Canvas, cursor: Cursor, at: Moment, sampler: Sampler
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one step's choice and writes it. Returns rows and columns of the canvas, (N,) each."""
    # What can be decided without logits is, so that the denoiser is asked for no more than is needed.
    count = COUNTS[sampler.count](at, sampler) if sampler.count in COUNTS else None
    scores = FREE_ORDERS[sampler.order](at) if sampler.order in FREE_ORDERS else None
    chosen = None
    if count is None:
        ask = at.blank
    elif scores is None:
        ask = at.blank & (count > 0)[:, None]
    else:
        ask = chosen = best(scores, count, at.blank)
    rows, columns = np.nonzero(ask)
    if not rows.size:
        return rows, columns

    width = at.blank.shape[1]
    tokens = window(canvas.tokens, cursor.begin, width)
    frozen = window(canvas.frozen, cursor.begin, width)
    legacy_step = at.index if sampler.legacy else None
    logits, calls = guided_logits(denoiser, tokens, frozen, ask, sampler.cfg_scale, legacy_step)
    canvas.nfe += calls
    candidates = propose(
        denoiser.xp,
        logits,
        at.token_draws[rows, columns],
        temperature=sampler.temperature,
        top_p=sampler.top_p,
        top_k_tokens=sampler.top_k_tokens,
    )
    if chosen is None:
        scores = np.zeros(ask.shape)
        scores[rows, columns] = score(sampler.order, denoiser.xp, candidates)
        if count is None:
            count = SCORE_COUNTS[sampler.count](scores, at, sampler)
        chosen = best(scores, count, ask)
    keep = chosen[rows, columns] & (candidates.tokens != denoiser.mask_id)  # the latter can only be with `legacy`
    rows, columns = rows[keep], columns[keep] + cursor.begin[rows[keep]]
    canvas.write(rows, columns, candidates.tokens[keep], candidates.probability[keep])
    return rows, columns
