"""The loop: candidate, score, keep, in blocks. Every sampler is this loop with other rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tzd.diffusion.denoiser import Denoiser
from tzd.errors import ConfigError, UserError
from tzd.sampling.blocks import Cursor, make_plan
from tzd.sampling.canvas import Canvas, Frame, window
from tzd.sampling.combination import Sampler
from tzd.sampling.draw import cooled, propose
from tzd.sampling.guide import Guide
from tzd.sampling.keep import COUNTS, Seen, best, by_path, chosen
from tzd.sampling.moment import Moment
from tzd.sampling.remask import JOINT, remasked
from tzd.sampling.scores import FREE_ORDERS, noise, score
from tzd.sampling.stability import Stability

_RAREST = 1e-6  # a token that is rarer gains no more by it


def stream(
    denoiser: Denoiser,
    tokens: np.ndarray,
    *,
    frozen: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    banned: np.ndarray | None = None,
    eos_id: int | Sequence[int] | None = None,
    sampler: Sampler,
    seed: int = 0,
) -> Iterator[Frame]:
    """Fills the blanks of a canvas.

    Args:
        denoiser: the model.
        tokens: (B, T) int, `denoiser.mask_id` at the blanks; T may exceed the denoiser's window.
        frozen: (B, T) bool, what never changes; whatever is not blank if None.
        lengths: (B,) int, columns of each row. What lies behind is padding: it stays as it is, and nothing attends to
            it. All T if None.
        banned: (V,) bool, tokens that are not to be written.
        eos_id: the token that ends a text, or several. Once a row has written one in a block that is full, the rest of
            the row is filled with the first of them, without a pass. None ends nothing early.
        sampler: the rules.
        seed: of all draws. A row's text depends on it, the row's tokens, its index and T, not on other rows (as far as
            the denoiser's rounding does not).

    Returns:
        Frames: the canvas as given, then one for each denoiser pass, or step that fills an ended row up. The last has
        no blanks (with `legacy`, it has those where the denoiser went on predicting [MASK]).

    Raises:
        UserError: the canvas cannot be used.
        ConfigError: the sampler does not suit the canvas or the denoiser.
    """
    canvas = Canvas.start(tokens, frozen, lengths, denoiser.mask_id, denoiser.vocab_size)
    ends = np.atleast_1d(() if eos_id is None else eos_id).astype(np.int64)
    if not ((ends >= 0) & (ends < denoiser.vocab_size)).all():
        raise UserError(f"eos_id={eos_id} is none of the {denoiser.vocab_size} tokens")
    length = canvas.tokens.shape[1]
    width = min(length, denoiser.seq_len)
    overlap = overlap_of(sampler, denoiser)
    if width < length and not 0 <= overlap < width:
        if sampler.stride is not None:
            raise ConfigError(f"stride={sampler.stride} is longer than the denoiser's window of {width}")
        raise ConfigError(f"overlap={overlap} leaves nothing to write in the denoiser's window of {width}")
    blank = canvas.masked if sampler.remask is None else ~canvas.frozen
    own = denoiser.block_len
    if own and sampler.block_len not in (None, own):
        raise ConfigError(f"block_len={sampler.block_len}: the denoiser's blocks have {own} tokens; leave it out")
    size = own or sampler.block_len
    plan = make_plan(blank, canvas.lengths, width, overlap, size, sampler.budget, own_blocks=own > 0)
    guide = Guide(denoiser, sampler, banned, len(blank), width)
    return _frames(guide, canvas, Cursor(plan, width), sampler, ends, seed)


def overlap_of(sampler: Sampler, denoiser: Denoiser) -> int:
    """How many written positions precede the first blank of each window but the first."""
    if sampler.stride is not None:
        stride = sampler.stride * denoiser.seq_len if isinstance(sampler.stride, float) else sampler.stride
        return denoiser.seq_len - max(1, round(stride))
    if sampler.overlap is not None:
        return sampler.overlap
    return denoiser.context_len or denoiser.seq_len // 4


def _frames(
    guide: Guide, canvas: Canvas, cursor: Cursor, sampler: Sampler, ends: np.ndarray, seed: int
) -> Iterator[Frame]:
    nowhere = np.zeros(0, dtype=np.int64)
    yield canvas.frame(nowhere, nowhere)
    history, prior = Stability(), None
    while cursor.active.any():
        canvas.step += 1
        at = _moment(canvas, cursor, seed)
        calls = canvas.nfe
        if sampler.prior and prior is None:
            prior = sampler.prior * np.log(np.maximum(guide.prior(), _RAREST))
            canvas.nfe += 1
        rows, columns, erased = _step(guide, canvas, cursor, at, sampler, history, prior)
        if erased is not None:
            taken, where = np.nonzero(erased)
            canvas.erase(taken, where + cursor.begin[taken])
        filled = at.left == np.bincount(rows, minlength=len(at.left))
        moved = cursor.advance(filled & (sampler.remask is None))
        if ends.size:
            ended = moved[_has_ended(canvas, ends)[moved]]
            written = canvas.end(int(ends[0]), ended)
            rows, columns = np.concatenate([rows, written[0]]), np.concatenate([columns, written[1]])
            cursor.finish(ended)
        if canvas.nfe > calls or rows.size:
            yield canvas.frame(rows, columns)


def _has_ended(canvas: Canvas, ends: np.ndarray) -> np.ndarray:
    """(B,) bool, the rows in which the end of a text is written."""
    return (np.isin(canvas.tokens, ends) & ~(canvas.frozen | canvas.masked)).any(axis=1)


def _moment(canvas: Canvas, cursor: Cursor, seed: int) -> Moment:
    width = cursor.block.shape[1]
    masked = window(canvas.masked, cursor.begin, width)
    frozen = window(canvas.frozen, cursor.begin, width)
    confidence = window(canvas.confidence, cursor.begin, width)
    blank = masked & cursor.block
    written = cursor.block & ~(masked | frozen)
    left = blank.sum(axis=1)
    return Moment(seed, canvas.step, blank, written, confidence, left, cursor.blanks, cursor.index, cursor.steps)


def _step(
    guide: Guide,
    canvas: Canvas,
    cursor: Cursor,
    at: Moment,
    sampler: Sampler,
    history: Stability,
    prior: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Makes one step's choice and writes it.

    Returns:
        Rows and columns of the canvas that were written, (N,) each; and what is to be taken back, (B, W) bool, if
        anything ever is.
    """
    erased = None if sampler.remask in (None, JOINT) else remasked(at, sampler)
    ask, count, scores = _ask(at, sampler)
    rows, columns = np.nonzero(ask)
    if not rows.size:
        return rows, columns, erased

    width = at.blank.shape[1]
    tokens = window(canvas.tokens, cursor.begin, width)
    frozen = window(canvas.frozen, cursor.begin, width)
    inside = cursor.begin[:, None] + np.arange(width) < canvas.lengths[:, None]
    logits, calls = guide.logits(tokens, frozen, inside, ask, cursor)
    canvas.nfe += calls
    xp = guide.denoiser.xp
    candidates = propose(
        xp,
        logits,
        at.token_draws[rows, columns],
        temperature=_temperature(at, sampler, rows),
        prior=prior,
        top_p=sampler.top_p,
        top_k_tokens=sampler.top_k_tokens,
    )
    if count is not None and scores is not None:  # what was asked for is what was chosen
        keep = ask
    else:
        if scores is None:
            scores = np.zeros(ask.shape)
            scores[rows, columns] = score(sampler.order, xp, candidates)
        seen = Seen(xp, candidates, rows, columns, scores + noise(at, sampler), ask, history)
        if sampler.remask == JOINT:
            visible = by_path(seen, at, sampler)
            keep, erased = visible & at.blank, at.written & ~visible
        else:
            keep = chosen(seen, count, at, sampler)
    keep = keep[rows, columns] & (candidates.tokens != canvas.mask_id)  # the latter can only be with `legacy`
    rows, columns = rows[keep], columns[keep] + cursor.begin[rows[keep]]
    canvas.write(rows, columns, candidates.tokens[keep], candidates.probability[keep])
    return rows, columns, erased


def _temperature(at: Moment, sampler: Sampler, rows: np.ndarray) -> float | np.ndarray:
    """The temperature of each of N blanks, (N,), or of all."""
    if sampler.last_temperature is None:
        return sampler.temperature
    filled = 1 - at.left / np.maximum(at.blanks, 1)
    return cooled(sampler.temperature, sampler.last_temperature, filled)[rows]


def _ask(at: Moment, sampler: Sampler) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """What can be decided without logits is, so that the denoiser is asked for no more than is needed.

    Returns:
        (B, W) bool, where logits are wanted; (B,) how many blanks are filled, and (B, W) their scores, where no logits
        are needed to tell.
    """
    if sampler.remask == JOINT:
        return at.blank | at.written, None, None
    count = COUNTS[sampler.count](at, sampler) if sampler.count in COUNTS else None
    scores = FREE_ORDERS[sampler.order](at) if sampler.order in FREE_ORDERS else None
    if count is None:
        return at.blank, None, scores
    if sampler.remask is not None:  # nothing may be left when the steps are over
        count = np.where(at.last, at.left, count)
    if scores is None:
        return at.blank & (count > 0)[:, None], count, None
    return best(scores, count, at.blank), count, scores
