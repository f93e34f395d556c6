"""What every sampler promises, whatever its rules."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from networks import on
from promises import assert_promises_kept
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError, UserError
from tzd.sampling import Sampler, descriptions, sampler, stream
from tzd.sampling.presets import settings_of

V, WINDOW = 11, 16
MASK = V
ONE_WINDOW, SLIDING = 16, 45
COMBINATIONS = {
    **{name: sampler(name) for name in descriptions()},
    "llada, threshold": sampler("llada", confidence_threshold=0.3),
    "entropy, quota": Sampler(order="entropy", count="quota", steps=5),
    "margin, fixed": Sampler(order="margin", count="fixed", k=3),
    "left-to-right, binomial": Sampler(order="left-to-right", steps=6),
    "entropy, threshold, remdm": Sampler(
        order="entropy", count="threshold", confidence_threshold=0.5, remask="remdm-cap", eta=0.2, steps=9
    ),
    "p2 by entropy": Sampler(order="entropy", count="scheduled", remask="p2", eta=2.0, steps=7),
}
TABLES = np.random.default_rng(7).normal(size=(3, V + 1, V)) * 1.5


def context_logits(tokens):
    """(B, L, V): each position looks at itself and its two neighbours."""
    padded = np.pad(tokens, ((0, 0), (1, 1)), constant_values=MASK)
    return TABLES[0][padded[:, :-2]] + TABLES[1][tokens] + TABLES[2][padded[:, 2:]]


class Recorder:
    """A denoiser that keeps what it was asked, and answers with the arrays of an engine."""

    def __init__(self, **settings):
        self.inner = FunctionDenoiser(context_logits, V, WINDOW, **settings)
        self.calls = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def forward(self, tokens, *, t=None, rows=None, attention=None):
        self.calls.append((tokens.copy(), t, rows))
        if attention is not None:  # what is not attended to reads as a place beyond the text
            assert not attention.all()
            tokens = np.where(attention, tokens, MASK)
        logits, cache = self.inner.forward(tokens, t=t, rows=rows)
        return self.xp.asarray(logits), cache


def blank_canvas(kind, length, rows=3):
    tokens = np.full((rows, length), MASK)
    rng = np.random.default_rng(1)
    if kind == "prompt":
        tokens[:, :5] = rng.integers(0, V, (rows, 5))
    if kind == "infill":
        given = rng.random(tokens.shape) < 0.5
        tokens[given] = rng.integers(0, V, given.sum())
    return tokens


@pytest.fixture(params=COMBINATIONS)
def combination(request):
    return dataclasses.replace(COMBINATIONS[request.param], steps=12)


@pytest.mark.parametrize("length", [ONE_WINDOW, SLIDING])
@pytest.mark.parametrize("kind", ["nothing", "prompt", "infill"])
@pytest.mark.parametrize("block_len", [None, 4])
def test_every_sampler_keeps_its_promises(combination, kind, length, block_len):
    denoiser, tokens = Recorder(), blank_canvas(kind, length)
    given = tokens != MASK
    rules = dataclasses.replace(combination, block_len=block_len)
    before = tokens.copy()
    frames = list(stream(denoiser, tokens, sampler=rules, seed=3))

    assert np.array_equal(tokens, before)  # the caller's array is not written to
    assert_promises_kept(frames, before, MASK, rules)
    last = frames[-1]
    assert last.nfe == len(denoiser.calls)
    blanks = (~given).sum(axis=1).max()
    budget = blanks if rules.budget is None else rules.steps * (1 + -(-length // (WINDOW - WINDOW // 4)))
    assert last.step <= budget


@pytest.mark.parametrize("length", [ONE_WINDOW, SLIDING])
def test_a_seed_gives_the_same_text_again_and_another_seed_another(combination, length):
    tokens = blank_canvas("prompt", length)
    texts = [list(stream(Recorder(), tokens, sampler=combination, seed=seed))[-1].tokens for seed in (5, 5, 6)]
    assert np.array_equal(texts[0], texts[1])
    if combination.temperature > 0:
        assert not np.array_equal(texts[0], texts[2])


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8, "top_p": 0.9, "top_k_tokens": 4}, {"cfg_scale": 1.0}])
def test_every_engine_writes_the_same_text(combination, settings, engine):
    rules, tokens = dataclasses.replace(combination, **settings), blank_canvas("prompt", SLIDING)
    banned = np.arange(V) == 4
    frames = [
        list(stream(Recorder(banned=banned, **arrays), tokens, sampler=rules, seed=4))
        for arrays in ({}, {"xp": on(engine).xp})
    ]
    for one, other in zip(*frames, strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        assert one.confidence == pytest.approx(other.confidence)
        assert one.nfe == other.nfe


@pytest.mark.parametrize("length", [ONE_WINDOW, SLIDING])
def test_a_row_does_not_depend_on_the_others(combination, length):
    tokens = np.concatenate([blank_canvas(kind, length, 2) for kind in ("infill", "nothing", "prompt")])
    together = list(stream(Recorder(), tokens, sampler=combination, seed=2))[-1]
    alone = list(stream(Recorder(), tokens[:2], sampler=combination, seed=2))[-1]
    assert np.array_equal(together.tokens[:2], alone.tokens)
    assert np.array_equal(together.confidence[:2], alone.confidence)


def test_rows_that_are_finished_or_commit_nothing_do_not_enter_the_batch():
    denoiser, tokens = Recorder(), blank_canvas("nothing", ONE_WINDOW)
    tokens[1, 1:] = 0
    tokens[2] = 0
    list(stream(denoiser, tokens, sampler=sampler("first-hitting")))
    assert [len(batch) for batch, _, _ in denoiser.calls] == [2] + [1] * 15


def test_the_head_runs_where_it_is_needed():
    denoiser = Recorder()
    list(stream(denoiser, blank_canvas("nothing", ONE_WINDOW), sampler=sampler("llada-random", steps=8)))
    assert [len(rows) for _, _, rows in denoiser.calls] == [3 * 2] * 8  # the order is random: the chosen alone
    denoiser = Recorder()
    list(stream(denoiser, blank_canvas("nothing", ONE_WINDOW), sampler=sampler("llada", steps=8)))
    assert [len(rows) for _, _, rows in denoiser.calls] == [3 * n for n in range(16, 0, -2)]


def test_passes_that_commit_nothing_are_spared():
    denoiser, tokens = Recorder(), blank_canvas("nothing", ONE_WINDOW, 1)
    frames = list(stream(denoiser, tokens, sampler=sampler("ancestral", steps=500)))
    assert len(denoiser.calls) <= 16
    assert frames[-1].step > 16
    # ⌊n (1 − s/t)⌋ is 0 at first with as many steps as blanks (SMDM)
    assert list(stream(Recorder(), tokens, sampler=sampler("smdm-greedy", steps=16)))[-1].nfe == 15


@pytest.mark.parametrize(
    ("length", "seeds"), [(16, 150), pytest.param(1024, 100, marks=pytest.mark.slow)], ids=["short", "1024"]
)
def test_ancestral_makes_the_passes_that_theory_expects(length, seeds):
    denoiser = FunctionDenoiser(lambda tokens: np.zeros((*tokens.shape, 2)), vocab_size=2, seq_len=length)
    blanks, rules = np.full((1, length), 2), sampler("ancestral", steps=length)
    passes = [list(stream(denoiser, blanks, sampler=rules, seed=seed))[-1].nfe for seed in range(seeds)]
    expected = length * (1 - (1 - 1 / length) ** length)  # 647.5 of 1,024
    assert np.mean(passes) == pytest.approx(expected, abs=3 * np.std(passes, ddof=1) / np.sqrt(seeds))


@pytest.mark.parametrize("name", [n for n in descriptions() if sampler(n).remask is None])
def test_the_counts_are_those_of_the_rule(name):
    tokens, steps = blank_canvas("prompt", ONE_WINDOW), 4  # 11 blanks a row
    rules = sampler(name, **({"steps": steps} if "steps" in settings_of(name) else {}))
    frames = list(stream(Recorder(), tokens, sampler=rules))
    counts = [frame.revealed.sum(axis=1).tolist() for frame in frames[1:]]
    expected = {
        "first-hitting": [1] * 11,
        "llada": [3, 3, 3, 2],
        "llada-random": [3, 3, 3, 2],
        "dilated": [3, 3, 3, 2],
        "smdm-greedy": [2, 2, 3, 4],  # ⌊11/4⌋, ⌊9/3⌋ less the lag of its grid, ⌊7/2⌋, the rest
        "top-k": [1] * 11,
        "uniform-order": [1] * 11,
        "left-to-right": [1] * 11,
        "dream-entropy": [2, 2, 3, 4],
        "dream-margin": [2, 2, 3, 4],
        "maskgit": [1, 3, 3, 4],  # leaves ⌊11 cos(π/2 · i/4)⌋: 10, 7, 4
    }
    if name in expected:
        assert counts == [[n] * 3 for n in expected[name]]
    assert np.sum(counts, axis=0).tolist() == [11] * 3


def test_what_a_dilated_step_writes_is_as_far_apart_as_can_be():
    denoiser = FunctionDenoiser(lambda tokens: np.zeros((*tokens.shape, 2)), vocab_size=2, seq_len=64)
    _, *frames = stream(denoiser, np.full((3, 64), 2), sampler=sampler("dilated", steps=16), seed=1)
    assert len(frames) == 16
    places = [np.sort(np.nonzero(frame.revealed[row])[0]) for frame in frames for row in range(3)]
    assert all(np.diff(place).tolist() == [16] * 3 for place in places)
    for row in ~frames[3].masked:  # after a quarter of the steps every fourth place is written
        assert np.diff(np.nonzero(row)[0]).tolist() == [4] * 15
    shifts = {int(np.nonzero(frames[0].revealed[row])[0][0]) for row in range(3)}
    assert len(shifts) > 1  # rows begin elsewhere


@pytest.mark.parametrize(("blanks", "steps"), [(64, 24), (61, 16), (37, 5), (70, 16)])
@pytest.mark.parametrize("block_len", [None, 20])
def test_what_a_dilated_step_writes_is_far_apart_whatever_the_number_of_blanks(blanks, steps, block_len):
    denoiser = FunctionDenoiser(lambda tokens: np.zeros((*tokens.shape, 2)), vocab_size=2, seq_len=64)
    tokens = np.full((3, blanks + 3), 2)
    tokens[:, :3] = tokens[1, 20:30] = 0  # a prompt; and a gap, which does not bring blanks nearer to each other
    rules = sampler("dilated", steps=steps, block_len=block_len)
    per_block = steps if block_len is None else steps // -(-blanks // block_len)
    _, *frames = stream(denoiser, tokens, sampler=rules, seed=1)
    written = [np.nonzero(frame.revealed[row])[0] for frame in frames for row in range(3)]
    assert min(np.diff(places).min() for places in written if len(places) > 1) >= per_block
    assert np.concatenate(written).size == (tokens == 2).sum()


def test_an_adaptive_row_moves_on_without_waiting_for_the_others():
    """A row that is sure of everything fills a block a pass, whatever its neighbour needs."""

    def logits(tokens):
        sure = tokens[:, :1, None] == 0
        return np.where(sure & (np.arange(V) == 1), 50.0, 0.1 * np.arange(V)) * np.ones((*tokens.shape, 1))

    tokens = np.full((2, 13), MASK)
    tokens[:, 0] = [0, 1]
    frames = list(stream(FunctionDenoiser(logits, V, 13), tokens, sampler=sampler("threshold", block_len=4)))
    assert [frame.revealed.sum(axis=1).tolist() for frame in frames[1:4]] == [[4, 1], [4, 1], [4, 1]]
    assert len(frames) - 1 == 12


# --- against the published loops, in plain Python -----------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def plain_llada(prompt, length, steps, block_len, cfg_scale=0.0, tau=None):
    """LLaDA's greedy `generate` (or Fast-dLLM's, with tau) for one row, position by position."""
    x, passes = [*prompt, *[MASK] * length], 0
    blocks = length // block_len
    for b in range(blocks):
        stop = len(prompt) + (b + 1) * block_len
        left = [i for i in range(len(x)) if x[i] == MASK and i < stop]
        begun, step = len(left), 0
        while left:
            per_block = steps // blocks
            count = begun // per_block + (step < begun % per_block) if tau is None else None
            step += 1
            if count == 0:
                continue
            logits = context_logits(np.array([x]))[0]
            passes += 1
            if cfg_scale:
                bare = [MASK if i < len(prompt) else v for i, v in enumerate(x)]
                other = context_logits(np.array([bare]))[0]
                logits = other + (cfg_scale + 1) * (logits - other)
                passes += 1
            p = softmax(logits)
            ranked = sorted(left, key=lambda i: (-p[i].max(), i))
            if tau is None:
                chosen = ranked[:count]
            else:
                chosen = [i for i in ranked if p[i].max() >= tau] or ranked[:1]
            for i in chosen:
                x[i] = int(p[i].argmax())
            left = [i for i in left if x[i] == MASK]
    return x, passes


@pytest.mark.parametrize(
    ("steps", "block_len", "cfg_scale"),
    [(12, 12, 0.0), (5, 12, 0.0), (6, 4, 0.0), (12, 4, 0.0), (6, 12, 1.5), (30, 6, 0.0)],
)
def test_llada_is_the_published_loop_when_greedy(steps, block_len, cfg_scale):
    prompts = np.random.default_rng(9).integers(0, V, (4, 4))
    tokens = np.concatenate([prompts, np.full((4, 12), MASK)], axis=1)
    rules = sampler("llada", steps=steps, block_len=block_len, cfg_scale=cfg_scale, temperature=0)
    *_, last = stream(Recorder(), tokens, sampler=rules)
    texts, passes = zip(*[plain_llada(p, 12, steps, block_len, cfg_scale) for p in prompts], strict=True)
    assert last.tokens.tolist() == [list(map(int, text)) for text in texts]
    assert last.nfe == passes[0]


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.6, 1.0])
def test_llada_with_a_threshold_is_fast_dllm_when_greedy(tau):
    prompt = np.array([3, 1, 4, 1])
    tokens = np.concatenate([prompt, np.full(12, MASK)])[None]
    *_, last = stream(
        Recorder(), tokens, sampler=sampler("llada", confidence_threshold=tau, block_len=6, temperature=0)
    )
    text, passes = plain_llada(prompt, 12, 12, 6, tau=tau)
    assert (last.tokens[0].tolist(), last.nfe) == (list(map(int, text)), passes)


@pytest.mark.parametrize("alg", ["entropy", "margin"])
def test_dream_is_the_published_loop_when_greedy(alg):
    """Dream's `_sample` for one row, with `alg` entropy or topk_margin, position by position."""
    steps, eps, x = 5, 1e-3, [3, 1, 4, 1, *[MASK] * 12]
    times = np.linspace(1, eps, steps + 1)
    for i in range(steps):
        left = [j for j in range(len(x)) if x[j] == MASK]
        count = int(len(left) * (1 - times[i + 1] / times[i])) if i < steps - 1 else len(left)
        p = softmax(context_logits(np.array([x]))[0])
        top = np.sort(p, axis=1)
        scores = (p * np.log(p)).sum(axis=1) if alg == "entropy" else top[:, -1] - top[:, -2]
        for j in sorted(left, key=lambda j: (-scores[j], j))[:count]:
            x[j] = int(p[j].argmax())
    tokens = np.array([[3, 1, 4, 1, *[MASK] * 12]])
    *_, last = stream(Recorder(), tokens, sampler=sampler(f"dream-{alg}", steps=steps, temperature=0))
    assert last.tokens[0].tolist() == x


def test_p2_that_counts_written_tokens_for_nothing_takes_none_back():
    tokens = blank_canvas("nothing", ONE_WINDOW)
    frames = list(stream(Recorder(), tokens, sampler=sampler("p2", eta=0.0, steps=6)))
    for earlier, frame in pairwise(frames):
        assert not (frame.masked & ~earlier.masked).any()
    taken = [
        (frame.masked & ~earlier.masked).any()
        for earlier, frame in pairwise(stream(Recorder(), tokens, sampler=sampler("p2", eta=2.0, steps=6)))
    ]
    assert any(taken)
    assert [16 - frame.masked.sum(axis=1)[0] for frame in frames] == [0, 3, 6, 8, 11, 14, 16]  # 16 - ⌊16 (1 - i/6)⌋


# --- what reaches the denoiser ------------------------------------------------------------------------------------


def test_guidance_is_one_call_of_twice_the_rows_that_counts_two():
    denoiser, tokens = Recorder(), blank_canvas("prompt", ONE_WINDOW, 2)
    frames = list(stream(denoiser, tokens, sampler=sampler("llada", steps=3, cfg_scale=2.0)))
    assert [len(batch) for batch, _, _ in denoiser.calls] == [4] * 3
    assert frames[-1].nfe == 6
    batch = denoiser.calls[1][0]
    assert (batch[2:, :5] == MASK).all()
    assert np.array_equal(batch[:2, 5:], batch[2:, 5:])


def test_only_rows_that_something_is_given_in_enter_twice():
    denoiser, tokens = Recorder(), blank_canvas("prompt", ONE_WINDOW)
    tokens[1] = MASK
    rules = sampler("llada", steps=3, cfg_scale=2.0)
    last = list(stream(denoiser, tokens, sampler=rules))[-1]
    assert [len(batch) for batch, _, _ in denoiser.calls] == [5] * 3
    alone = list(stream(Recorder(), tokens[:1], sampler=rules))[-1]
    assert np.array_equal(last.tokens[0], alone.tokens[0])
    everywhere = list(stream(Recorder(), tokens, sampler=dataclasses.replace(rules, cfg_scale=0.0)))[-1]
    assert np.array_equal(last.tokens[1], everywhere.tokens[1])
    assert not np.array_equal(last.tokens[2], everywhere.tokens[2])


def test_guidance_without_a_prompt_costs_nothing_and_changes_nothing():
    tokens = blank_canvas("nothing", ONE_WINDOW)
    plain, guided = [
        list(stream(Recorder(), tokens, sampler=sampler("ancestral", cfg_scale=w)))[-1] for w in (0.0, 2.0)
    ]
    assert np.array_equal(plain.tokens, guided.tokens)
    assert plain.nfe == guided.nfe


def test_time_is_the_masked_fraction_of_the_canvas():
    denoiser = Recorder(time_conditioned=True, context_len=4)
    tokens = blank_canvas("prompt", ONE_WINDOW)
    frames = list(stream(denoiser, tokens, sampler=sampler("llada", steps=5)))
    for frame, (_, t, _) in zip(frames, denoiser.calls, strict=False):
        assert t == pytest.approx(frame.masked.sum(axis=1) / (WINDOW - 4))
    denoiser = Recorder()
    list(stream(denoiser, tokens, sampler=sampler("llada", steps=5)))
    assert all(t is None for _, t, _ in denoiser.calls)


def test_a_window_sees_its_overlap_and_not_what_lies_before():
    denoiser, tokens = Recorder(context_len=6), blank_canvas("nothing", 26, 1)
    *_, last = stream(denoiser, tokens, sampler=sampler("llada-random", steps=1))
    windows = [batch[0] for batch, _, _ in denoiser.calls]
    assert len(windows) == 2
    assert np.array_equal(windows[1][:6], last.tokens[0, 10:16])  # context_len is the overlap of such a model
    assert (windows[1][6:] == MASK).all()


def test_what_is_banned_is_never_written():
    banned = np.zeros(V, dtype=bool)
    banned[3:] = True
    denoiser = Recorder(banned=banned)
    *_, last = stream(denoiser, blank_canvas("nothing", ONE_WINDOW, 50), sampler=sampler("ancestral", temperature=1e6))
    assert set(np.unique(last.tokens)) == {0, 1, 2}


def test_tokens_may_be_banned_by_the_caller():
    rules, tokens = sampler("ancestral", temperature=1e6), blank_canvas("nothing", ONE_WINDOW, 50)
    model, caller = np.isin(np.arange(V), [0, 1, 2]), np.isin(np.arange(V), [3, 4, 5, 6, 7])
    *_, last = stream(Recorder(banned=model), tokens, banned=caller, sampler=rules)
    assert set(np.unique(last.tokens)) == {8, 9, 10}
    with pytest.raises(UserError, match="every token is banned"):
        stream(Recorder(banned=~caller), tokens, banned=caller, sampler=rules)
    with pytest.raises(UserError, match="banned must be 11 truth values"):
        stream(Recorder(), tokens, banned=np.array([3]), sampler=rules)


@pytest.mark.parametrize("length", [ONE_WINDOW, SLIDING])
@pytest.mark.parametrize("settings", [{}, {"cfg_scale": 1.0, "block_len": 4}])
def test_rows_of_different_lengths_are_written_together_as_they_are_alone(length, settings):
    """Without draws, which have a row's number and the width of the batch, what is written depends on what is seen."""
    rules = sampler("threshold", confidence_threshold=0.3, **settings)
    lengths = np.array([length, length - 5, length - 9])
    tokens = blank_canvas("prompt", length)
    pads = np.arange(length) >= lengths[:, None]
    tokens[pads] = 0
    frames = list(stream(Recorder(), tokens, lengths=lengths, sampler=rules))
    assert (frames[-1].tokens[pads] == 0).all() and not frames[-1].masked.any()
    for row, n in enumerate(lengths):
        *_, alone = stream(Recorder(), tokens[row : row + 1, :n], sampler=rules)
        assert frames[-1].tokens[row, :n].tolist() == alone.tokens[0].tolist()


def test_lengths_that_cannot_be_are_refused():
    for lengths in ([16, 16], [16, 17, 3], [16, 0, 3]):
        with pytest.raises(UserError, match=r"lengths must be 3 whole numbers in 1\.\.16"):
            stream(Recorder(), blank_canvas("nothing", ONE_WINDOW), lengths=lengths, sampler=sampler("ancestral"))


def test_time_does_not_count_padding():
    denoiser = Recorder(time_conditioned=True, context_len=2)
    tokens = blank_canvas("nothing", ONE_WINDOW)
    list(stream(denoiser, tokens, lengths=np.array([16, 12, 8]), sampler=sampler("llada", steps=2)))
    assert denoiser.calls[0][1] == pytest.approx([1, 1, 1])
    assert denoiser.calls[1][1] == pytest.approx([8 / 14, 6 / 10, 4 / 6])


def test_a_row_that_has_ended_is_filled_up_without_another_pass():
    end = 7

    def logits(tokens):  # the first token says in which block of 4 the text ends
        at = np.arange(tokens.shape[1]) == 4 * tokens[:, :1] + 1
        return np.where(at[:, :, None], 9.0 * (np.arange(V) == end), 9.0 * (np.arange(V) == 3))

    tokens = np.full((2, 17), MASK)
    tokens[:, 0] = [2, 1]
    rules = sampler("llada", steps=8, block_len=4, temperature=0)
    denoiser = FunctionDenoiser(logits, V, 17)
    frames = list(stream(denoiser, tokens, sampler=rules, eos_id=end))
    assert frames[-1].tokens[0].tolist() == [2, *[3] * 8, 7, *[3] * 3, *[7] * 4]
    assert frames[-1].tokens[1].tolist() == [1, *[3] * 4, 7, *[3] * 3, *[7] * 8]
    assert frames[-1].nfe == 6  # two passes a block; the first row needs three blocks
    assert frames[4].revealed[1].sum() == 2 + 8 and not frames[4].masked[1].any()
    unended = list(stream(denoiser, tokens, sampler=rules))[-1]
    assert (unended.nfe, unended.tokens[1, 9:].tolist()) == (8, [3] * 8)
    given = np.where(np.arange(17) == 3, end, tokens)  # in what was given it ends nothing
    assert list(stream(denoiser, given, sampler=rules, eos_id=end))[-1].tokens[0, 9] == end
    with pytest.raises(UserError, match="eos_id=11 is none of the 11 tokens"):
        stream(denoiser, tokens, sampler=rules, eos_id=11)


def test_a_row_ends_also_where_a_blocks_last_step_had_nothing_to_write():
    def logits(tokens):
        return np.broadcast_to(9.0 * (np.arange(V) == 7), (*tokens.shape, V))

    rules = Sampler(count="fixed", k=4, remask="remdm-cap", eta=0.0, steps=8, block_len=4)
    *_, last = stream(FunctionDenoiser(logits, V, 16), np.full((1, 16), MASK), sampler=rules, eos_id=7, seed=1)
    assert last.nfe == 1 and not last.masked.any()  # the block's other step makes no pass


def test_a_mask_id_inside_the_head_is_never_written():
    denoiser = FunctionDenoiser(
        lambda x: np.where(np.arange(4) == 2, 9.0, 0.0) * np.ones((*x.shape, 1)), 4, 8, mask_id=2
    )
    *_, last = stream(denoiser, np.full((20, 8), 2), sampler=sampler("llada"))
    assert set(np.unique(last.tokens)) == {0, 1, 3}


def test_frozen_says_what_is_given_where_data_holds_the_mask_id():
    denoiser = FunctionDenoiser(lambda x: np.zeros((*x.shape, 4)), 4, 6, mask_id=0)
    tokens = np.array([[0, 1, 0, 0, 2, 0]])
    frozen = np.array([[True, True, False, False, True, False]])
    frames = list(stream(denoiser, tokens, frozen=frozen, sampler=sampler("first-hitting")))
    assert frames[0].masked.tolist() == [[False, False, True, True, False, True]]
    assert frames[-1].tokens[0, [0, 1, 4]].tolist() == [0, 1, 2]
    assert (frames[-1].tokens[0, [2, 3, 5]] > 0).all()


def test_renoise_writes_anew_what_is_neither_blank_nor_frozen():
    tokens = np.zeros((40, 8), dtype=int)
    frozen = np.zeros((40, 8), dtype=bool)
    frozen[:, :4] = True
    denoiser = FunctionDenoiser(lambda x: np.zeros((*x.shape, 5)), 5, 8)
    *_, last = stream(denoiser, tokens, frozen=frozen, sampler=sampler("renoise", steps=4))
    assert (last.tokens[:, :4] == 0).all()
    assert (last.tokens[:, 4:] != 0).mean() > 0.6


def test_a_canvas_without_blanks_is_shown_once():
    denoiser = Recorder()
    frames = list(stream(denoiser, np.zeros((2, 5), dtype=int), sampler=sampler("ancestral")))
    assert (len(frames), len(denoiser.calls)) == (1, 0)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros(5, dtype=int), "a canvas is a non-empty"),
        (np.zeros((0, 5), dtype=int), "a canvas is a non-empty"),
        (np.zeros((1, 5)), "a canvas is a non-empty"),
        (np.array([[0, 1, 12]]), "token 12 at row 0, position 2 is not one of the 11 known"),
        (np.array([[0, -1, 2]]), "token -1 at row 0, position 1"),
    ],
)
def test_a_canvas_that_cannot_be_used_is_refused_before_the_first_frame(tokens, message):
    with pytest.raises(UserError, match=message):
        stream(Recorder(), tokens, sampler=sampler("ancestral"))


def test_an_overlap_that_fills_the_window_is_refused():
    with pytest.raises(ConfigError, match="overlap=16 leaves nothing to write in the denoiser's window of 16"):
        stream(Recorder(), blank_canvas("nothing", SLIDING), sampler=sampler("ancestral", overlap=16))
    stream(Recorder(), blank_canvas("nothing", ONE_WINDOW), sampler=sampler("ancestral", overlap=16))


def test_a_stride_moves_the_window_by_so_many_positions_or_by_its_share():
    for stride, seen in ((4, 12), (0.25, 12), (0.5, 8)):
        denoiser = Recorder()
        rules = sampler("mdlm-semi-ar", stride=stride, steps=1)
        list(stream(denoiser, blank_canvas("nothing", 26, 1), sampler=rules))
        second = denoiser.calls[1][0][0]
        assert (second[:seen] != MASK).all() and (second[seen:] == MASK).all()
    with pytest.raises(ConfigError, match="stride=17 is longer than the denoiser's window of 16"):
        stream(Recorder(), blank_canvas("nothing", SLIDING), sampler=sampler("mdlm-semi-ar", stride=17))


def test_too_few_steps_for_the_blocks_are_refused_before_the_first_pass():
    with pytest.raises(ConfigError, match="steps=2 cannot fill 4 blocks"):
        stream(Recorder(), blank_canvas("nothing", ONE_WINDOW), sampler=sampler("llada", steps=2, block_len=4))
