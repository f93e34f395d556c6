"""What is said of a call that cannot be, word by word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tzd
from tzd.config import TokenizerSettings, model_config
from tzd.configs.arithmetic import calculate
from tzd.corpus import Corpus
from tzd.corpus.sources.markov import MarkovSource
from tzd.corpus.tokenizer import check_tokens, make_tokenizer
from tzd.corpus.windows import _check
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.engines.inputs import check_tokens as check_canvas
from tzd.engines.inputs import embedding_rows
from tzd.errors import TzdError
from tzd.evaluation.judge import judged
from tzd.viewers.film import Recorder
from viewed import denoising

KNOWN = "numbers, + - * / // % **, parentheses, min, max, round, int"
ABC = Corpus.from_text("text", "abc" * 100)
TIMED = model_config(
    {"model_type": "tiny", "vocab_size": 9, "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 8, "time_steps": 4}
)
CANVAS = np.zeros((2, 8), dtype=np.int32)
UNIFORM = FunctionDenoiser(lambda tokens: np.zeros((*tokens.shape, 3)), 3, 8)
SILENT = tzd.Model(UNIFORM)  # a model without a tokenizer

CALLS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: calculate("a + 1"),
        f"cannot compute 'a + 1': a formula has {KNOWN}, and not 'a'",
    ),
    (lambda: calculate("1 +"), f"cannot compute '1 +': a formula has {KNOWN}"),
    (lambda: calculate("9 ** 9 ** 9"), "cannot compute '9 ** 9 ** 9': 9 ** 387420489 is too large"),
    (lambda: calculate("1e308 * 10"), "cannot compute '1e308 * 10': the value is too large, or no number"),
    (
        lambda: calculate("round(1, 301)"),
        "cannot compute 'round(1, 301)': round takes a whole number of digits up to 300, not 301",
    ),
    (lambda: calculate("1" * 501), f"a formula has at most 500 characters, not 501: '{'1' * 40}…'"),
    (lambda: calculate("1 / 0"), "cannot compute '1 / 0': division by zero"),
    (lambda: MarkovSource(np.zeros((2, 3))), "a transition matrix is square, not (2, 3)"),
    (lambda: MarkovSource(np.zeros((2, 2))), "each row of a transition matrix is a law"),
    (lambda: _check(CANVAS, 3), "windows are cut from one row of tokens, not from an array of shape (2, 8)"),
    (lambda: _check(CANVAS[0], 0), "a window needs a length of at least 1, not 0 (data.block_size)"),
    (
        lambda: check_tokens(np.array([0, 9]), 9),
        "token 9 at offset 1 is no token of a vocabulary of 9; is it [MASK], or of another tokenizer?",
    ),
    (
        lambda: make_tokenizer(TokenizerSettings("ascii"), ABC).encode("aé"),
        "character 'é' (U+00E9) at offset 1 (line 1, column 2) is not in the vocabulary of the 'ascii' tokenizer;"
        " replace it, or use tokenizer=byte, which holds any text",
    ),
    (
        lambda: make_tokenizer(TokenizerSettings("corpus"), ABC),
        "tokenizer=corpus is that of data=shards; name another one for this corpus",
    ),
    (
        lambda: make_tokenizer(TokenizerSettings("byte", vocab_size=9), ABC),
        "tokenizer.vocab_size belongs to tokenizer.name=bpe, not byte; leave it out",
    ),
    (lambda: check_canvas(CANVAS[0], TIMED), "tokens must be a non-empty (B, L) array, not of shape (8,)"),
    (
        lambda: embedding_rows(np.zeros(3), CANVAS, TIMED, 0),
        "t must have one entry per row, (2,), not the shape (3,)",
    ),
    (
        lambda: embedding_rows(np.array([0.5, 2.0]), CANVAS, TIMED, 0),
        "t=[0.5, 2.0]: a time lies in [0, 1], from clean to all [MASK]",
    ),
    (
        lambda: embedding_rows(np.array([4]), CANVAS, TIMED, 0),
        "t=[4]: integers are rows of the time embedding, 0..3",
    ),
    (
        lambda: judged(FunctionDenoiser(lambda x: x, 3, 8, block_len=1), [""], lambda text: CANVAS[0, :0]),
        "there is nothing to judge: the texts are empty",
    ),
    (
        lambda: Recorder().film,
        "there are no frames to record: the run had been iterated over before, or never began",
    ),
    (
        lambda: list(Recorder().record([next(denoising(8)), next(denoising(9))])),
        "frames of one run have one shape, not (1, 8) and (1, 9)",
    ),
    (
        lambda: SILENT.encode("a"),
        "this model has no tokenizer: give and take tokens instead of text, or put its tokenizer.json beside the"
        " weights",
    ),
    (
        lambda: tzd.sample(SILENT, length=10**9 + 1),
        "length must be at most 1,000,000,000, not 1000000001",
    ),
    (lambda: tzd.sample(SILENT, batch_size=True), "batch_size must be a whole number, not True"),
]


@pytest.mark.parametrize(("call", "line"), CALLS, ids=[line[:60] for _, line in CALLS])
def test_a_call_that_cannot_be_is_told_word_by_word(call: Callable[[], Any], line: str):
    with pytest.raises(TzdError) as refused:
        call()
    assert str(refused.value) == line
