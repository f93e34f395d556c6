"""How likely texts are under another model, a judge that is autoregressive and so gives exact likelihoods.

Likely is not good: text that repeats itself is likelier than text that people wrote. A judge's verdict is to be read
beside the entropy and the repetition of the same samples (`tzd.evaluation.diversity`), and beside its verdict on real
text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tzd.diffusion.denoiser import Denoiser
from tzd.diffusion.likelihood import nelbo
from tzd.errors import UserError
from tzd.evaluation.estimate import Estimate


def check_judge(judge: Denoiser) -> None:
    """UserError unless a model is autoregressive."""
    if judge.block_len != 1:
        raise UserError(
            "a judge is a model whose likelihoods are exact: one that was trained with objective=block"
            " objective.block_len=1"
        )


def judged(judge: Denoiser, texts: Sequence[str], encode: Callable[[str], np.ndarray]) -> Estimate:
    """−log p of texts by a judge, in nats per character.

    Args:
        judge: an autoregressive model.
        texts: what is judged, each by itself, cut into windows of the judge's length where it is longer.
        encode: its tokenizer.

    Returns:
        The mean over all characters, and its standard error over texts (over the windows of longer ones).

    Raises:
        UserError: the judge is not autoregressive, or there is nothing to judge.
    """
    check_judge(judge)
    window, groups = judge.seq_len, dict[int, list[np.ndarray]]()
    for text in texts:
        tokens = encode(text)
        for start in range(0, len(tokens), window):
            part = tokens[start : start + window]
            groups.setdefault(len(part), []).append(part)
    characters = sum(len(text) for text in texts)
    if not characters:
        raise UserError("there is nothing to judge: the texts are empty")
    bound = nelbo(judge, [np.stack(group) for group in groups.values()], draws=1, characters=characters)
    assert bound.bits_per_char is not None
    return Estimate(bound.bits_per_char * math.log(2), bound.stderr * bound.tokens / characters)
