"""Rows of prompt, answer and padding: an endless sequence to train on, and a fixed set to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tzd.corpus.chat import PairTokenizer
from tzd.corpus.conversations import Pair
from tzd.corpus.windows import Batch
from tzd.errors import CorpusError
from tzd.randomness import permutation


@dataclass(frozen=True, eq=False)
class PairRows:
    """Prompts and answers, tokenized, of which each fits into a row of `length` tokens.

    A row is the prompt, the answer, and the end-of-text token from there to the row's end: at least once.

    Attributes:
        tokens: (T,) int32, prompt and answer of each pair, one behind the other.
        starts: (N + 1,) int64, where each pair begins, and T.
        prompts: (N,) int64, tokens of each prompt.
        length: tokens of a row, L.
        eos_id: the end-of-text token.
        seed: of the order.
        characters: of all answers.
        dropped: number of pairs that were left out since they do not fit.
    """

    tokens: np.ndarray
    starts: np.ndarray
    prompts: np.ndarray
    length: int
    eos_id: int
    seed: int
    characters: int
    dropped: int

    @property
    def per_epoch(self) -> int:
        """Number of pairs, N: each comes once an epoch, in an order of its own."""
        return len(self.prompts)

    @property
    def characters_per_token(self) -> float:
        """Characters of the answers for each of their tokens, ends included."""
        return self.characters / max(1, int((self.ends - self.prompts + 1).sum()))

    @property
    def ends(self) -> np.ndarray:
        """(N,) the position in its row of each pair's first end-of-text token."""
        return np.diff(self.starts)

    def batch(self, first: int, count: int) -> Batch:
        """Rows `first` to `first + count - 1` of the sequence; what may be masked is the answer, and all after it.

        The g-th row is a pure function of (seed, g).
        """
        epochs, slots = np.divmod(np.arange(first, first + count), self.per_epoch)
        pairs = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            pairs[here] = _order(self.seed, int(epoch), self.per_epoch)[slots[here]]
        return Batch(self.rows(pairs), np.arange(self.length) >= self.prompts[pairs, None])

    def evaluation(self, limit: int = 0) -> Batch:
        """Pairs in their own order, to be scored on the answer and one end-of-text token.

        Args:
            limit: if positive, at most that many, spread evenly.
        """
        count = min(limit, self.per_epoch) or self.per_epoch
        pairs = (2 * np.arange(count) + 1) * self.per_epoch // (2 * count)
        at = np.arange(self.length)
        return Batch(self.rows(pairs), (at >= self.prompts[pairs, None]) & (at <= self.ends[pairs, None]))

    def rows(self, pairs: np.ndarray) -> np.ndarray:
        """(B, L) int32, the rows of the pairs (B,)."""
        at = np.arange(self.length)
        index = np.minimum(self.starts[pairs, None] + at, len(self.tokens) - 1)
        return np.where(at < self.ends[pairs, None], self.tokens[index], self.eos_id).astype(np.int32)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, pairs: int) -> np.ndarray:
    """(N,) the pairs in the order of an epoch."""
    return permutation(seed, "pair-order", epoch, pairs)


def tokenize(
    pairs: Sequence[Pair], tokenizer: PairTokenizer, length: int, *, drop: bool = False, seed: int = 0
) -> PairRows:
    """Pairs as rows.

    Prompts are written by the tokenizer's chat template, where it has one. Prompt and answer are tokenized each by
    itself, as they are when a prompt is answered.

    Args:
        pairs: what is tokenized.
        tokenizer: by what.
        length: tokens of a row.
        drop: whether pairs that do not fit are left out; else they are an error.
        seed: of the order.

    Raises:
        CorpusError: a pair cannot be tokenized, or does not fit.
    """
    prompts, answers = [], []
    for pair in pairs:
        try:
            prompts.append(tokenizer.prompt(pair.messages))
            answers.append(tokenizer.encode(pair.answer))
        except CorpusError as error:
            raise CorpusError(f"{pair.where}: {error}") from error
    sizes = np.array([[len(prompt), len(answer)] for prompt, answer in zip(prompts, answers, strict=True)], np.int64)
    sizes = sizes.reshape(-1, 2)
    fits = sizes.sum(axis=1) < length
    if not fits.all() and not drop:
        worst = int(sizes.sum(axis=1).argmax())
        raise CorpusError(
            f"{int((~fits).sum()):,} of {len(pairs):,} pairs, with their end-of-text token, are longer than a row of"
            f" {length}; the longest ({pairs[worst].where}) takes {sizes[worst].sum() + 1}: leave them out"
            " (data.too_long=drop in training), or train on longer rows (data.block_size)"
        )
    kept = [i for i, fit in enumerate(fits) if fit]
    parts = [part for i in kept for part in (prompts[i], answers[i])]
    return PairRows(
        tokens=np.concatenate([*parts, np.zeros(1, np.int32)]).astype(np.int32),  # never empty
        starts=np.concatenate([[0], np.cumsum(sizes[fits].sum(axis=1))]),
        prompts=sizes[fits, 0],
        length=length,
        eos_id=tokenizer.eos_id,
        seed=seed,
        characters=sum(len(pairs[i].answer) for i in kept),
        dropped=int((~fits).sum()),
    )
