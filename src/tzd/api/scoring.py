"""Likelihoods of texts under a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tzd.api.model import Model
from tzd.api.numbers import whole
from tzd.corpus import evaluation_windows
from tzd.corpus.chat import Message, PairTokenizer, user_says
from tzd.corpus.conversations import Pair
from tzd.corpus.pairs import tokenize
from tzd.diffusion import likelihood
from tzd.errors import UserError

LOGITS = 2**28  # at once: 1 GB in float32


def nelbo(model: Model, text_or_tokens: str | np.ndarray, *, draws: int = 8, seed: int = 0) -> likelihood.Nelbo:
    """An upper bound on −log p of a text, cut into windows of the model's length.

    Args:
        model: what `load` returned.
        text_or_tokens: a text, (N,) tokens, or (B, L) tokens: rows that are scored as they are.
        draws: masks per window; their numbers of masked tokens are stratified.
        seed: fixes the masks.

    Returns:
        `nats_per_token`, `stderr`, `bits_per_char`, `tokens`.
    """
    if isinstance(text_or_tokens, str):
        tokens = model.encode(text_or_tokens)
    else:
        tokens = np.asarray(text_or_tokens)
    groups = [tokens] if tokens.ndim == 2 else evaluation_windows(tokens, model.denoiser.seq_len)
    context = model.denoiser.context_len
    if isinstance(text_or_tokens, str) and not context:
        characters: int | None = len(text_or_tokens)
    elif model.tokenizer is None:
        characters = None
    else:  # a row of tokens is decoded in one piece: a window's border may lie within a character
        scored = [tokens] if tokens.ndim == 1 and not context else [row[context:] for group in groups for row in group]
        characters = sum(len(model.decode(row)) for row in scored)
    seed = whole("seed", seed, 0)
    rows = _rows(model)
    return likelihood.nelbo(model.denoiser, groups, draws=draws, seed=seed, characters=characters, batch_size=rows)


def _rows(model: Model) -> int:
    """How many rows are scored at once."""
    return max(1, min(32, LOGITS // (model.denoiser.vocab_size * model.denoiser.seq_len)))


def answers_nelbo(
    model: Model, pairs: Sequence[tuple[str | Sequence[Message], str]], *, draws: int = 8, seed: int = 0
) -> likelihood.Nelbo:
    """An upper bound on −log p(answer | prompt), for a model that was trained on such (`data=pairs`).

    A token is one of an answer, or the end-of-text token behind it; what pads the rest of the window is neither scored
    nor shown to the model, to which it would tell the answer's length. Prompts are written as in training.

    Args:
        model: what `load` returned.
        pairs: (prompt, answer); a prompt may be a conversation, a list of messages with "role" and "content".
        draws: masks per answer.
        seed: fixes the masks.

    Raises:
        UserError: the model was not trained on prompts and answers, or a pair is longer than its window.
    """
    if not isinstance(model.tokenizer, PairTokenizer):
        raise UserError("this model was not trained on prompts and answers (data=pairs): it cannot end an answer")
    given = [
        Pair(user_says(prompt) if isinstance(prompt, str) else prompt, answer, f"pair {number}")
        for number, (prompt, answer) in enumerate(pairs)
    ]
    tokenized = tokenize(given, model.tokenizer, model.denoiser.seq_len)
    groups = [tokenized.evaluation()] if given else []
    characters, seed, rows = tokenized.characters, whole("seed", seed, 0), _rows(model)
    return likelihood.nelbo(model.denoiser, groups, draws=draws, seed=seed, characters=characters, batch_size=rows)


def log_likelihood(
    model: Model, prompt: str | np.ndarray, answer: str | np.ndarray, *, draws: int = 128, seed: int = 0
) -> float:
    """A lower bound on log p(answer | prompt), in nats. See `tzd.diffusion.likelihood.log_likelihood`.

    A model that was trained on prompts and answers (`data=pairs`) has the prompt written as in training.
    """
    given, scored = (model.encode(x) if isinstance(x, str) else np.asarray(x) for x in (prompt, answer))
    if isinstance(model.tokenizer, PairTokenizer) and isinstance(prompt, str):
        given = model.tokenizer.prompt(user_says(prompt))
    seed, rows = whole("seed", seed, 0), _rows(model)
    return likelihood.log_likelihood(model.denoiser, given, scored, draws=draws, seed=seed, batch_size=rows)
