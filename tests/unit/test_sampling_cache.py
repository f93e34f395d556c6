"""Caches, on a denoiser of two layers that is simple enough to be computed by hand, and keeps what a network keeps."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tzd.diffusion.blocks import block_attention
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError
from tzd.sampling import Sampler, sampler, stream
from tzd.sampling.cache import cache_kind

V, WINDOW = 7, 12


@dataclass
class Store:
    """The keys of every position: its token, and what it knew of the others when it was computed."""

    tokens: np.ndarray
    hidden: np.ndarray
    rows: np.ndarray

    def at(self, rows):
        return Store(self.tokens, self.hidden, rows)


class Layered(FunctionDenoiser):
    """The first layer reads tokens, the second what the first made of them, each through the attention."""

    def __init__(self, block_len=0, **settings):
        super().__init__(lambda x: x, V, WINDOW, block_len=block_len, cacheable=True, **settings)
        object.__setattr__(self, "calls", [])

    def empty_cache(self, rows, width):
        return Store(np.full((rows, width), np.nan), np.full((rows, width), np.nan), np.arange(rows))

    def forward(self, tokens, *, t=None, positions=None, attention=None, rows=None, cache=None):
        count, width = tokens.shape
        if positions is None:
            positions = np.broadcast_to(np.arange(width), tokens.shape)
            cache = cache or self.empty_cache(count, width)
            attention = np.broadcast_to(True if attention is None else attention[:, None, :], (count, width, width))
            if self.block_len:
                attention = attention & block_attention(width, self.block_len)
        if attention is None:
            attention = np.ones((*tokens.shape, cache.tokens.shape[1]), bool)
        self.calls.append((tokens.copy(), positions.copy(), None if t is None else t.copy(), attention.all()))
        row = cache.rows[:, None]
        assert len(cache.rows) == count
        cache.tokens[row, positions] = tokens
        near = 1 / (1 + np.abs(positions[:, :, None] - np.arange(cache.tokens.shape[1])))
        near = near * attention

        def read(values):
            return (near * np.where(attention, values[cache.rows][:, None, :], 0)).sum(axis=2)

        hidden = np.sin(read(cache.tokens) * 1.7 + tokens)
        cache.hidden[row, positions] = hidden
        final = read(cache.hidden) + hidden + (0 if t is None else t[:, None])
        logits = 2 * np.sin(final[..., None] * (1 + np.arange(V)) + np.arange(V))
        return logits.reshape(-1, V)[rows], None


def run(rules, length, *, lengths=None, **settings):
    tokens = np.full((3, length), V)
    tokens[0, :3], tokens[1, 1::4] = [1, 2, 3], 5
    denoiser = Layered(**settings)
    frames = list(stream(denoiser, tokens, sampler=rules, seed=5, lengths=lengths))
    checksum = 0
    for frame in frames:
        checksum = zlib.crc32(np.concatenate([[frame.nfe], frame.tokens.ravel()]).astype("<i4").tobytes(), checksum)
    return denoiser, frames, checksum


RULES = {
    "ancestral": Sampler(steps=6),
    "adaptive": Sampler(order="confidence", count="threshold", confidence_threshold=0.3),
    "guided": Sampler(order="entropy", count="quota", steps=9, cfg_scale=1.5),
    "remasking": Sampler(remask="remdm-rescale", eta=0.5, steps=12),
    "ranking": sampler("p2", eta=2.0, steps=12),
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("block_len", "length"), [(5, 12), (1, 12), (4, 30)])
def test_the_exact_cache_changes_nothing_but_what_is_computed(rules, block_len, length):
    lengths = np.array([length, length - 2, length])
    plain, cached = (
        run(replace(RULES[rules], cache=cache), length, block_len=block_len, lengths=lengths)
        for cache in ("none", "exact")
    )
    if block_len > 0 and rules == "ancestral":
        assert run(RULES[rules], length, block_len=block_len, lengths=lengths)[2] == cached[2]  # it is the default
    for one, other in zip(plain[1], cached[1], strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-6)
        assert one.nfe == other.nfe
    assert sum(call[0].size for call in cached[0].calls) <= sum(call[0].size for call in plain[0].calls)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("timed", [False, True])
def test_a_cache_that_is_always_refreshed_is_no_approximation(cache, timed):
    rules, lengths = Sampler(steps=9, block_len=4, cfg_scale=1.0), np.array([30, 7, 17])
    settings = {"lengths": lengths, "time_conditioned": timed, "time_steps": 9 if timed else 0}
    plain, kept = (run(r, 30, **settings)[1] for r in (rules, replace(rules, cache=cache, cache_refresh=1)))
    for one, other in zip(plain, kept, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-6)
        assert one.nfe == other.nfe


@pytest.mark.parametrize(
    ("cache", "refresh", "widths", "checksum"),
    [
        ("dual", None, [12, 4, 4, 4, 12, 4, 4, 4, 12, 4, 4, 4], 531297373),
        ("prefix", None, [12, 12, 12, 12, 12, 8, 8, 8, 12, 4, 4, 4], 1333886743),
        ("dual", 2, [12, 4, 12, 4] * 3, 1134694465),
        ("prefix", 3, [12, 12, 12, 12, 12, 8, 8, 12, 12, 4, 4, 12], 1909377859),
        ("none", None, [12] * 12, 1174951089),
    ],
)
def test_a_stale_cache_computes_as_many_positions_as_it_says_and_writes_what_it_always_wrote(
    cache, refresh, widths, checksum
):
    rules = Sampler(order="confidence", count="one", block_len=4, cache=cache, cache_refresh=refresh)
    denoiser = Layered()
    frames = list(stream(denoiser, np.full((2, 12), V), sampler=rules, seed=3))
    assert [tokens.shape for tokens, *_ in denoiser.calls] == [(2, n) for n in widths]
    assert all(everything for *_, everything in denoiser.calls)
    assert zlib.crc32(b"".join(frame.tokens.astype("<i4").tobytes() for frame in frames)) == checksum


@pytest.mark.parametrize(
    ("cache", "refresh", "computed", "checksum"),
    [
        ("prefix", None, 769, 587378919),
        ("dual", None, 556, 2184993223),
        ("dual", 2, 716, 2866270082),
        ("prefix", 1, 972, 3886482060),
    ],
)
def test_rows_that_stand_elsewhere_are_computed_apart_and_write_what_they_always_wrote(
    cache, refresh, computed, checksum
):
    rules = Sampler(order="confidence", count="threshold", confidence_threshold=0.6, block_len=4, cfg_scale=0.5)
    rules = replace(rules, cache=cache, cache_refresh=refresh)
    denoiser, _, found = run(rules, 30, lengths=np.array([30, 21, 17]), time_conditioned=True, time_steps=9)
    assert (sum(tokens.size for tokens, *_ in denoiser.calls), found) == (computed, checksum)


def test_which_cache_is_used_where_nothing_is_asked():
    plain = FunctionDenoiser(lambda x: x, V, WINDOW)
    assert cache_kind(None, plain) == cache_kind("none", plain) == "none"
    assert cache_kind(None, FunctionDenoiser(lambda x: x, V, WINDOW, block_len=4)) == "none"
    assert (cache_kind(None, Layered()), cache_kind("dual", Layered())) == ("none", "dual")
    assert (cache_kind(None, Layered(4)), cache_kind("none", Layered(4))) == ("exact", "none")
    with pytest.raises(ConfigError, match="cache=exact is not for this denoiser"):
        cache_kind("exact", Layered())
