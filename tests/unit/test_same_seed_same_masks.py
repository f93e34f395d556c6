"""The same seed masks the same tokens with the same weights, in this version as in earlier ones."""

from dataclasses import dataclass

import numpy as np
import pytest

from tzd.config import ObjectiveSettings
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.diffusion.likelihood import exact_nelbo, log_likelihood, masked_counts, nelbo
from tzd.diffusion.objective import Noised, Objective

TOKENS = np.arange(32).reshape(4, 8)
MASKABLE = np.arange(8) >= np.array([0, 2, 5, 1])[:, None]


def noised(name: str, schedule: str, times: str, step: int = 5) -> Noised:
    settings = ObjectiveSettings(
        name=name, schedule=schedule, schedule_power=2.0, time_sampling=times, block_len=3, unconditional=0.4
    )
    return Objective(settings).noise(TOKENS, MASKABLE, mask_id=99, seed=3, step=step)


NOISE = {
    ("nelbo", "linear", "independent"): (
        ["xxxxxxx.", "...xx..x", "xxxxxxxx", "...x...x"],
        [0.28125, 0.29167, 0.33333, 0.28571],
        [0.80301, 0.59393, 0.70419, 0.12027],
    ),
    ("nelbo", "cosine", "jittered"): (
        ["....x...", "........", "xxxxx..x", "..xxxxxx"],
        [0.22209, 0, 0.3675, 0.43231],
        [0.04931, 0.18958, 0.51281, 0.66136],
    ),
    ("nelbo", "poly", "systematic"): (
        ["xxxxxxx.", "........", "xxxxx...", "..xxx..x"],
        [0.49805, 0, 0, 0.4104],
        [0.64483, 0.0028104, 0.091817, 0.30582],
    ),
    ("nelbo_t", "linear", "independent"): (
        ["xxxxxxx.", "...xx..x", "xxxxxxxx", "...x...x"],
        [0.27207, 0.21011, 0.35452, 0.58899],
        [0.80321, 0.59434, 0.70448, 0.12115],
    ),
    ("nelbo_t", "cosine", "jittered"): (
        ["....x...", "........", "xxxxxx.x", "..xxxxxx"],
        [0.30719, 0, 0.44513, 0.47822],
        [0.0497, 0.19014, 0.51326, 0.66169],
    ),
    ("nelbo_t", "poly", "systematic"): (
        ["xxxxxxx.", "........", "xxxxx...", "..xxx..x"],
        [0.54414, 0, 0, 0.51572],
        [0.64515, 0.0029117, 0.09224, 0.30632],
    ),
    ("exact_k", "linear", "independent"): (
        ["xxxxxxx.", "...xxx.x", "xxxxxxxx", ".......x"],
        [0.25, 0.25, 0.25, 0.25],
        [0.875, 0.66667, 1, 0.14286],
    ),
    ("exact_k", "cosine", "jittered"): (
        ["..x.x...", "...xx..x", "xxxxxxxx", "..xxxxxx"],
        [0.25, 0.25, 0.25, 0.25],
        [0.25, 0.5, 1, 0.85714],
    ),
    ("exact_k", "poly", "systematic"): (
        ["xxxxxxx.", "....x...", "xxxxx..x", "..xxx..x"],
        [0.25, 0.25, 0.25, 0.25],
        [0.875, 0.16667, 0.33333, 0.57143],
    ),
    ("pooled", "linear", "independent"): (
        ["xxxxxxx.", "...xx..x", "xxxxxxxx", "...x...x"],
        [0.46667, 0.2, 0.2, 0.13333],
        [0.80301, 0.59393, 0.70419, 0.12027],
    ),
    ("pooled", "cosine", "jittered"): (
        ["....x...", "........", "xxxxx..x", "..xxxxxx"],
        [0.125, 0, 0.125, 0.75],
        [0.04931, 0.18958, 0.51281, 0.66136],
    ),
    ("pooled", "poly", "systematic"): (
        ["xxxxxxx.", "........", "xxxxx...", "..xxx..x"],
        [0.63636, 0, 0, 0.36364],
        [0.64483, 0.0028104, 0.091817, 0.30582],
    ),
    ("block", "linear", "independent"): (
        ["..xxxxxx........", "..xxxxxx........", "xxxxxx.xxxxxx...", "..xx..xx........"],
        [0.25, 0.25, 0.25, 0.25],
        [0.75, 0.75, 0.25, 0.5],
    ),
    ("block", "linear", "jittered"): (
        ["xxxxxxxx........", "..x.x..x........", "xxxxxx.xxxxxx...", ".xxxx..x........"],
        [0.25, 0.25, 0.25, 0.25],
        [1, 0.375, 0.25, 0.625],
    ),
    ("block", "linear", "systematic"): (
        ["x.xxx.x.........", "..xxxxxx........", "xxxxxxxxxxxxx...", "..xx...x........"],
        [0.25, 0.25, 0.25, 0.25],
        [0.625, 0.75, 0.375, 0.375],
    ),
}


@pytest.mark.parametrize(("name", "schedule", "times"), NOISE)
def test_a_seed_masks_what_it_always_masked(name: str, schedule: str, times: str) -> None:
    batch, (masks, weight, t) = noised(name, schedule, times), NOISE[name, schedule, times]
    assert ["".join("x" if token == 99 else "." for token in row) for row in batch.x_t] == masks
    assert batch.weight.sum(axis=1) == pytest.approx(weight, rel=1e-4)
    assert batch.t == pytest.approx(t, abs=1e-4)
    kinds = (batch.x_0.dtype, batch.x_t.dtype, batch.weight.dtype, batch.t.dtype)
    assert kinds == (np.int32, np.int32, np.float32, np.float32)
    assert np.array_equal(batch.x_0, np.tile(TOKENS, batch.x_0.shape[1] // 8))
    assert np.array_equal(batch.x_t[batch.x_t != 99], batch.x_0[batch.x_t != 99])


@dataclass(frozen=True)
class Reader(FunctionDenoiser):
    """A denoiser whose answer depends on every token that it may attend to, and on where it stands."""

    def forward(self, tokens, *, t=None, positions=None, attention=None, rows=None, cache=None):  # type: ignore[no-untyped-def]
        assert (positions is None) == (attention is None) == (self.block_len == 0)
        width = tokens.shape[1]
        place = np.arange(width)[None] if positions is None else positions
        seen = np.ones((1, width, width), bool) if attention is None else attention
        around = seen @ (tokens * (1 + place))[:, :, None] / 7.0
        logits = np.sin(around + np.arange(self.vocab_size) * (1 + place[:, :, None])) * 2
        return logits.reshape(-1, self.vocab_size)[rows], None


# nats per token, its standard error, bits per character, log p(answer | prompt)
SCORES = {
    (0, 0): (1.93937815017, 0.132733544177, 2.12642774214, -8.36739068168),
    (0, 2): (1.601783135, 0.16391397426, 1.20165998443, -8.36739068168),
    (3, 0): (2.2437762838, 0.163156648882, 2.46018453731, -9.74534881353),
    (4, 0): (2.27918368043, 0.135141000632, 2.4990069147, -13.8753717207),
}
GROUPS = [np.arange(24).reshape(4, 6) % 5, np.arange(14).reshape(2, 7) % 4]


@pytest.mark.parametrize(("block_len", "context_len"), [(0, 0), (0, 2), (3, 0), (4, 0)])
def test_a_seed_scores_what_it_always_scored(block_len: int, context_len: int) -> None:
    denoiser = Reader(lambda x: x, 5, 8, block_len=block_len, context_len=context_len)
    bound = nelbo(denoiser, GROUPS, draws=3, seed=2, characters=50, batch_size=5)
    answer = log_likelihood(denoiser, GROUPS[0][0, :2], GROUPS[0][0, 2:], draws=5, seed=4, batch_size=2)
    known = SCORES[block_len, context_len]
    assert (bound.nats_per_token, bound.stderr, bound.bits_per_char, answer) == pytest.approx(known, rel=1e-9)
    assert (bound.tokens, bound.sequences, bound.draws) == (26 if context_len else 38, 6, 3)


def test_the_error_of_one_sequence_is_that_of_its_draws() -> None:
    denoiser = Reader(lambda x: x, 5, 8)
    bound = nelbo(denoiser, [GROUPS[0][:1]], draws=4, seed=2)
    assert (bound.nats_per_token, bound.stderr) == pytest.approx((1.66033884072, 0.313731369429), rel=1e-9)
    assert np.isnan(nelbo(denoiser, [GROUPS[0][:1]], draws=1).stderr)
    assert bound.bits_per_char is None


def test_a_seed_draws_the_counts_that_it_always_drew() -> None:
    counts = masked_counts(4, 3, np.array([1, 5, 9, 30]), seed=7)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 1], [2, 2, 5], [1, 5, 8], [7, 14, 28]]


def test_the_enumerated_bound_is_what_it_always_was() -> None:
    assert exact_nelbo(Reader(lambda x: x, 5, 8), GROUPS[0][0], batch_size=7) == pytest.approx(11.3798518693, rel=1e-9)


def test_the_error_of_two_sequences_is_that_of_a_ratio() -> None:
    bound = nelbo(Reader(lambda x: x, 5, 8), [GROUPS[0][:1], GROUPS[1][:1]], draws=2, seed=2)
    assert (bound.nats_per_token, bound.stderr) == pytest.approx((1.37145235733, 0.0530629171759), rel=1e-9)
