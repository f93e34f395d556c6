"""The Game of Life on every engine: what is erased, what is written, and what it costs."""

from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import pytest

import tzd
from networks import CONFIG, TIMED, on
from tzd.api import Model
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError, UserError
from tzd.sampling.life import step
from tzd.sampling.tiles import TiledDenoiser

LINES, COLUMNS = 8, 9  # six windows and more
BOARD = np.random.default_rng(5).integers(0, CONFIG.vocab_size, LINES * COLUMNS)


@pytest.fixture
def model(engine: str) -> Model:
    return Model(on(engine))


def game(model: Model, **settings):
    asked = {"text": BOARD, "size": (LINES, COLUMNS), "generations": 5, "pattern": "r-pentomino", **settings}
    return list(tzd.life(model, **asked))


def assert_is_a_game(frames, start, passes, *, wrap=True):
    """Each generation the board makes a step; what lives is erased, and written anew; nothing else changes."""
    before = frames[0]
    assert (before.generation, before.nfe, before.step) == (0, 0, 0)
    assert np.array_equal(before.tokens[0], start)
    for generation, group in groupby(frames[1:], key=lambda frame: frame.generation):
        first, *others = group
        assert generation == before.generation + 1
        alive = step(before.alive.reshape(LINES, COLUMNS), wrap=wrap).reshape(1, -1)
        assert np.array_equal(first.masked, alive)
        assert (first.nfe, first.step) == (before.nfe, before.step)
        for earlier, frame in pairwise([first, *others]):
            assert np.array_equal(frame.alive, alive)
            assert np.array_equal(frame.tokens[~alive], before.tokens[~alive])
            assert np.array_equal(frame.confidence[~alive], before.confidence[~alive])
            assert np.array_equal(frame.revealed, earlier.masked & ~frame.masked)
            assert (frame.nfe, frame.step) == (earlier.nfe + 1, frame.nfe)
        assert len(others) <= passes
        before = (others or [first])[-1]
        assert not before.masked.any()


@pytest.mark.parametrize("sampler", ["llada", "ancestral", "dream-entropy"])
@pytest.mark.parametrize("wrap", [True, False])
def test_the_living_cells_are_what_is_written_anew(model, sampler, wrap):
    frames = game(model, sampler=sampler, wrap=wrap)
    assert_is_a_game(frames, BOARD, passes=3, wrap=wrap)
    assert frames[-1].generation == 5
    assert not np.array_equal(frames[-1].tokens[0], BOARD)


@pytest.mark.parametrize("wrap", [True, False])
def test_a_model_with_time_and_a_context_plays_as_any_other(engine, wrap):
    model = Model(on(engine, TIMED, context_len=4))
    assert_is_a_game(game(model, wrap=wrap), BOARD, passes=3, wrap=wrap)


def test_a_generation_takes_three_passes_or_as_many_as_asked(model):
    for steps, expected in ((None, 3), (1, 1), (5, 5)):
        frames = game(model, **({} if steps is None else {"steps": steps}))
        assert frames[-1].nfe == 5 * expected


@pytest.mark.parametrize(("config", "context_len"), [(CONFIG, 0), (TIMED, 4)])
def test_windows_see_what_the_engine_computes_of_them_at_their_own_time(engine, config, context_len):
    denoiser, length = on(engine, config, context_len=context_len), 40
    tiled = TiledDenoiser(denoiser, length, wrap=True)
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, length))
    tokens[:, 25:] = denoiser.mask_id  # from windows without [MASK] to those with little else
    ours = tiled.xp.to_numpy(tiled.forward(tokens)[0])
    assert ours.shape == (2, length, CONFIG.vocab_size)
    width = denoiser.seq_len
    for column in range(length):
        first = tiled.first[tiled.owner[column]]
        window = np.take(tokens, first + np.arange(width), axis=1, mode="wrap")
        t = (window == denoiser.mask_id).sum(axis=1) / (width - context_len)
        logits, _ = denoiser.forward(window, t=np.minimum(t, 1.0) if denoiser.time_conditioned else None)
        logits = denoiser.xp.to_numpy(logits)[:, (column - first) % length]
        np.testing.assert_allclose(ours[:, column], logits, atol=2e-5)


def test_the_engines_play_the_same_game():
    pytest.importorskip("mlx.core")
    ours, theirs = (game(Model(on(name))) for name in ("torch", "mlx"))
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        assert np.array_equal(one.alive, other.alive)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)


# --- what no engine changes ---------------------------------------------------------------------------------------

V = 5
TABLE = np.random.default_rng(2).normal(size=(V + 1, V))


@pytest.fixture
def oracle() -> Model:
    return Model(FunctionDenoiser(lambda tokens: TABLE[tokens] + TABLE[np.roll(tokens, 1, axis=1)], V, 32))


def test_a_seed_gives_the_same_game_again_and_another_seed_another(oracle):
    asked = {"pattern": "random", "generations": 3, "size": 12}
    one, same, other = (list(tzd.life(oracle, seed=seed, **asked)) for seed in (1, 1, 2))
    assert len(one) == len(same)
    for a, b in zip(one, same, strict=True):
        assert np.array_equal(a.tokens, b.tokens)
        assert np.array_equal(a.alive, b.alive)
    assert not np.array_equal(one[-1].tokens, other[-1].tokens)
    assert not np.array_equal(one[-1].alive, other[-1].alive)


def test_each_generation_has_draws_of_its_own(oracle):
    block = np.ones((2, 2), dtype=bool)
    last = {f.generation: f.tokens for f in tzd.life(oracle, text=[1], size=6, pattern=block, generations=20)}
    written = {tuple(tokens[0][last[1][0] != 1]) for tokens in last.values()}
    assert len(written) > 3


def test_a_board_without_a_text_is_written_first_and_lives_afterwards(oracle):
    frames = list(tzd.life(oracle, size=10, generations=1))
    opening = [frame for frame in frames if frame.generation == 0]
    assert opening[0].masked.all()
    assert not any(frame.alive.any() for frame in opening[:-1])
    assert opening[-1].alive.any()
    assert not opening[-1].masked.any()
    assert 24 < opening[-1].nfe <= 48  # more than a generation has
    assert frames[-1].nfe == opening[-1].nfe + 3


def test_a_model_that_says_how_it_is_best_sampled_writes_its_board_so(oracle):
    own = {"name": "ancestral", "order": "stripes", "steps": 4, "temperature": 0.3, "prior": 0.5, "cache": "dual"}
    model = replace(oracle, sampling=own)
    *_, last = tzd.life(model, size=(4, 5), generations=0, seed=3)
    settings = {"sampler": "ancestral", "order": "stripes", "steps": 4, "prior": 0.5}
    assert np.array_equal(last.tokens, tzd.sample(oracle, length=20, seed=3, temperature=0.3, **settings).tokens)
    *_, warm = tzd.life(model, size=(4, 5), generations=0, seed=3, temperature=2.0)
    assert np.array_equal(warm.tokens, tzd.sample(oracle, length=20, seed=3, temperature=2.0, **settings).tokens)
    assert not np.array_equal(last.tokens, warm.tokens)


def test_blanks_of_a_text_are_written_before_life_begins_and_the_rest_of_it_stays(oracle):
    text = np.where(np.arange(36) % 2, 3, V)
    opening = list(tzd.life(oracle, text=text, size=6, generations=0))
    assert (opening[-1].tokens[0, 1::2] == 3).all()
    assert not opening[-1].masked.any()
    assert opening[0].masked.sum() == 18


def test_a_short_text_is_there_again_and_again_and_a_long_one_is_cut(oracle):
    (short,) = tzd.life(oracle, text=[0, 1, 2], size=(3, 4), generations=0)
    assert short.tokens.tolist() == [[0, 1, 2] * 4]
    (long,) = tzd.life(oracle, text=np.arange(100) % V, size=(3, 4), generations=0)
    assert long.tokens.tolist() == [[i % V for i in range(12)]]


def test_a_game_ends_with_the_last_cell_and_shows_the_dead_board(oracle):
    single = np.ones((1, 2), dtype=bool)
    frames = list(tzd.life(oracle, text=[1], size=8, pattern=single))
    assert [(f.generation, int(f.alive.sum()), f.nfe) for f in frames] == [(0, 2, 0), (1, 0, 0)]
    assert (frames[-1].tokens == 1).all()


def test_a_board_that_nothing_happens_on_begins_anew_if_asked(oracle):
    asked = {"text": [1], "size": 8, "generations": 4, "density": 0.5, "reseed": True}
    for pattern in (np.zeros((1, 1), dtype=bool), np.ones((1, 1), dtype=bool), "block", "blinker"):
        frames = list(tzd.life(oracle, pattern=pattern, **asked))
        alive = {f.generation: f.alive for f in frames}
        assert set(alive) == {0, 1, 2, 3, 4}
        dead = pattern is not None and not isinstance(pattern, str) and pattern.any()
        begun = alive[2 if dead else 1]
        assert 20 < begun.sum() < 44
    lively = list(tzd.life(oracle, pattern="glider", **asked))[-1]
    assert lively.alive.sum() == 5


def test_banned_tokens_are_not_written(oracle):
    frames = list(tzd.life(oracle, size=8, generations=3, ban=[0, 4], reseed=True))
    assert set(np.unique(frames[-1].tokens)) <= {1, 2, 3}


def test_a_frame_is_the_readers_own(oracle):
    asked = {"text": [1, 2, 3], "size": 8, "pattern": "glider", "generations": 3}
    expected = [(f.tokens.copy(), f.confidence.copy(), f.alive.copy()) for f in tzd.life(oracle, **asked)]
    for frame, arrays in zip(tzd.life(oracle, **asked), expected, strict=True):
        for own, array in zip((frame.tokens, frame.confidence, frame.alive), arrays, strict=True):
            assert np.array_equal(own, array)
            own[:] = 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"size": (8, 33)}, "window of 32 tokens is shorter than a line of the board, 33: give a size of 8x32"),
        ({"size": 2}, "a side of the board must be at least 3, not 2"),
        ({"size": (300, 8)}, "a board of 300x8 is too large: 256"),
        ({"size": (8, 8, 8)}, r"size is \(lines, columns\), not \(8, 8, 8\)"),
        ({"size": "8"}, "a side of the board must be a whole number, not '8'"),
        ({"size": (8, 8.5)}, "a side of the board must be a whole number, not 8.5"),
        ({"pattern": "gosper-gun"}, "more than a board of 10x10 has"),
        ({"pattern": "none"}, "unknown pattern 'none'"),
        ({"density": 1.5}, "density must lie in \\[0, 1\\], not 1.5"),
        ({"generations": -1}, "generations must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"text": []}, r"the text of a board is a text that is not empty, or \(N,\) tokens"),
        ({"text": [[1, 2]]}, "a text that is not empty"),
        ({"text": [1.5]}, "a text that is not empty"),
        ({"text": [99]}, "token 99 at row 0"),
        ({"text": "abc"}, "no tokenizer"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"sampler": "none"}, "unknown sampler"),
        ({"sampler": "ancestral", "gamma": 1.0}, "no setting 'gamma'"),
        ({"stride": 2}, "no setting 'stride'"),
    ],
)
def test_what_cannot_be_played_is_one_line(oracle, asked, message):
    with pytest.raises(UserError, match=message) as raised:
        list(tzd.life(oracle, **{"size": 10, "generations": 1, **asked}))
    assert "\n" not in str(raised.value)


def test_a_model_that_sees_only_its_blocks_cannot_play():
    model = Model(FunctionDenoiser(lambda tokens: TABLE[tokens], V, 32, block_len=1))
    with pytest.raises(ConfigError, match="looks both ways"):
        next(tzd.life(model, size=8))
