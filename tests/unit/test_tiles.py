"""Windows over sequences that are longer than a denoiser's: who answers for what, with how much around it."""

import numpy as np
import pytest

from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError, UserError
from tzd.sampling import sampler, stream
from tzd.sampling.tiles import TiledDenoiser, layout

V, WINDOW = 7, 16


class Reporter(FunctionDenoiser):
    """Answers at each position with the window that it saw: first token, last token, its place, and the batch."""

    def __init__(self, **settings):
        super().__init__(self.report, 10_000, WINDOW, **settings)
        object.__setattr__(self, "batches", [])

    def report(self, tokens):
        self.batches.append(tokens)
        place = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        first, last = (np.broadcast_to(tokens[:, i : i + 1], tokens.shape) for i in (0, tokens.shape[1] - 1))
        return np.stack([first, last, place], axis=-1)


def seen(length: int, *, wrap: bool, context_len: int = 0) -> np.ndarray:
    """(T, 3): first and last position of the window that answers for a position, and its place in it."""
    denoiser = Reporter(context_len=context_len)
    tiled = TiledDenoiser(denoiser, length, wrap=wrap)
    return tiled.forward(np.arange(length)[None], rows=np.arange(length))[0]


@pytest.mark.parametrize("length", [17, 24, 31, 32, 33, 64, 100, 1024])
def test_on_a_ring_every_position_has_a_quarter_of_a_window_on_both_sides(length):
    first, last, place = seen(length, wrap=True).T
    assert (place >= WINDOW // 4).all()
    assert (place < WINDOW - WINDOW // 4).all()
    assert np.array_equal((first + place) % length, np.arange(length))
    assert np.array_equal((first + WINDOW - 1) % length, last)


@pytest.mark.parametrize("length", [17, 24, 31, 32, 33, 64, 100, 1024])
def test_without_a_ring_only_the_ends_of_the_text_have_less_around_them(length):
    first, last, place = seen(length, wrap=False).T
    assert ((place >= WINDOW // 4) | (first == 0)).all()
    assert ((place < WINDOW - WINDOW // 4) | (last == length - 1)).all()
    assert np.array_equal(first + place, np.arange(length))
    assert np.array_equal(first + WINDOW - 1, last)


@pytest.mark.parametrize("length", [12, 16, 40, 97])
@pytest.mark.parametrize("context_len", [1, 4, 6, 11])
def test_where_training_never_masked_nothing_is_asked_for(length, context_len):
    *_, place = seen(length, wrap=True, context_len=context_len).T
    assert (place >= context_len).all()
    first, _, place = seen(length, wrap=False, context_len=context_len).T
    assert ((place >= context_len) | (first == 0)).all()


def test_each_position_is_answered_by_the_window_in_whose_middle_it_lies():
    length = 75
    for wrap in (True, False):
        first, owner = layout(length, WINDOW, 0, wrap=wrap)
        away = np.abs(np.arange(length) - first[:, None] - (WINDOW - 1) / 2)
        away = np.minimum(away, length - away) if wrap else away
        assert np.array_equal(away[owner, np.arange(length)], away.min(axis=0))


def test_a_board_of_1024_is_eight_windows_of_256():
    assert len(layout(1024, 256, 0, wrap=True)[0]) == len(layout(1024, 256, 64, wrap=True)[0]) == 8
    assert len(layout(1024, 256, 0, wrap=False)[0]) == 7


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("length", [1, 5, WINDOW])
def test_a_sequence_that_fits_the_window_is_seen_as_it_is(wrap, length):
    table = np.random.default_rng(0).normal(size=(V + 1, V))
    plain = FunctionDenoiser(lambda tokens: table[tokens] + tokens.sum(axis=1)[:, None, None], V, WINDOW)
    tiled = TiledDenoiser(plain, length, wrap=wrap)
    tokens = np.random.default_rng(1).integers(0, V + 1, (3, length))
    assert np.array_equal(tiled.forward(tokens)[0], plain.forward(tokens)[0])
    rows = np.array([3 * length - 1, 0, length // 2])
    assert np.array_equal(tiled.forward(tokens, rows=rows)[0], plain.forward(tokens, rows=rows)[0])


def test_a_sampler_writes_on_windows_that_fit_what_it_writes_on_the_denoiser():
    table = np.random.default_rng(0).normal(size=(V + 1, V))
    plain = FunctionDenoiser(lambda tokens: table[tokens] + table[np.roll(tokens, 1, axis=1)], V, WINDOW)
    tokens = np.full((2, WINDOW), V)
    for name in ("ancestral", "llada", "entropy-bound", "remdm-cap"):
        texts = [
            list(stream(denoiser, tokens, sampler=sampler(name), seed=3))[-1].tokens
            for denoiser in (plain, TiledDenoiser(plain, WINDOW, wrap=True))
        ]
        assert np.array_equal(*texts)


def test_only_windows_that_are_asked_are_computed_and_rows_share_one_batch():
    denoiser = Reporter()
    tiled = TiledDenoiser(denoiser, 64, wrap=True)
    tokens = np.stack([np.arange(64), 100 + np.arange(64)])
    logits, _ = tiled.forward(tokens, rows=np.array([64 + 20, 5, 64 + 21, 6]))
    (batch,) = denoiser.batches
    assert batch.shape == (2, WINDOW)
    assert (logits[:, 0] + logits[:, 2]).tolist() == [
        120,
        5 if logits[1, 0] < 5 else 69,
        121,
        6 if logits[3, 0] < 6 else 70,
    ]


def test_the_time_of_a_canvas_reaches_its_windows():
    class Timed(FunctionDenoiser):
        def forward(self, tokens, *, t=None, rows=None, **rest):
            assert t.tolist() == [0.5] * 4 + [0.25] * 4
            return super().forward(tokens, rows=rows)

    denoiser = Timed(lambda tokens: np.zeros((*tokens.shape, V)), V, WINDOW, time_conditioned=True)
    tiled = TiledDenoiser(denoiser, 32, wrap=True)
    assert not tiled.time_conditioned  # left to itself, a window tells its own time
    tiled.forward(np.zeros((2, 32), dtype=int), t=np.array([0.5, 0.25]))


def test_what_windows_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="block_len=4"):
        TiledDenoiser(FunctionDenoiser(np.zeros_like, V, WINDOW, block_len=4), 32, wrap=True)
    tiled = TiledDenoiser(Reporter(), 32, wrap=True)
    with pytest.raises(UserError, match="sequences of just that length"):
        tiled.forward(np.zeros((1, 31), dtype=int))
    with pytest.raises(UserError, match="without padding"):
        tiled.forward(np.zeros((1, 32), dtype=int), attention=np.ones((1, 32), dtype=bool))
