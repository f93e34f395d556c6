"""Caches: what they compute, and that the exact one changes nothing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from networks import CONFIG, RESIDUAL, TIMED, stirred, weights_of
from tzd.config import SmdmConfig
from tzd.diffusion.denoiser import Denoiser, FunctionDenoiser
from tzd.engines import engine_module
from tzd.engines.torch.smdm import Smdm
from tzd.errors import ConfigError
from tzd.sampling import Sampler, sampler, stream

MASK, LENGTH = CONFIG.mask_id, CONFIG.block_size
SMDM = SmdmConfig(vocab_size=11, n_layer=2, n_head=4, n_query_groups=2, n_embd=16, block_size=12, intermediate_size=24)


def denoiser_of(engine: str, model_type: str, block_len: int) -> Denoiser:
    config = {"timed": TIMED, "value residual": RESIDUAL}.get(model_type, CONFIG)
    weights = weights_of(stirred(config))
    if model_type == "smdm":
        rng = np.random.default_rng(0)
        weights = {n: v + 0.3 * rng.normal(size=v.shape).astype("f") for n, v in weights_of(Smdm(SMDM)).items()}
        config = SMDM
    loaded = engine_module(engine, "denoiser").load_denoiser
    return loaded(config, weights, context_len=0, block_len=block_len, where=Path("here"))


class Spy:
    """Passes everything on, and keeps the shapes of the calls and the logits."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.shapes, self.logits = inner, [], []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def forward(self, tokens, **inputs):
        self.shapes.append(tokens.shape)
        out = self.inner.forward(tokens, **inputs)
        self.logits.append(self.inner.xp.to_numpy(out[0]))
        return out


def canvas(rows: int, length: int, prompt: int = 3) -> np.ndarray:
    tokens = np.full((rows, length), MASK)
    tokens[:, :prompt] = np.random.default_rng(1).integers(0, 11, (rows, prompt))
    return tokens


RULES = {
    "ancestral": Sampler(steps=7),
    "adaptive": Sampler(order="confidence", count="threshold", confidence_threshold=0.12),
    "guided": Sampler(order="entropy", count="quota", steps=9, cfg_scale=1.5),
    "remasking": Sampler(remask="remdm-rescale", eta=0.5, steps=12),
    "ranking": sampler("p2", eta=2.0, steps=12),
}


@pytest.mark.parametrize("model_type", ["tiny", "smdm", "value residual"])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("block_len", "length"), [(5, 12), (1, 12), (4, 30)])
def test_the_exact_cache_of_block_diffusion_changes_nothing(
    engine: str, model_type: str, rules: str, block_len: int, length: int
) -> None:
    denoiser = denoiser_of(engine, model_type, block_len)
    given = canvas(3, length)
    given[1, 3:9] = 5  # a row that stands elsewhere
    runs = []
    for cache in ("none", None):
        spy = Spy(denoiser)
        frames = list(stream(spy, given, sampler=dataclasses.replace(RULES[rules], cache=cache), seed=4))
        runs.append((frames, spy))
    (plain, uncached), (kept, cached) = runs
    assert [f.tokens.tolist() for f in plain] == [f.tokens.tolist() for f in kept]
    assert [f.nfe for f in plain] == [f.nfe for f in kept] and not kept[-1].masked.any()
    assert len(uncached.logits) == len(cached.logits)
    for ours, theirs in zip(cached.logits, uncached.logits, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert sum(r * n for r, n in cached.shapes) < sum(r * n for r, n in uncached.shapes)


@pytest.mark.parametrize(("block_len", "cache"), [(4, None), (0, "dual")])
def test_a_row_with_nothing_to_be_guided_by_is_cached_as_it_is_alone(
    engine: str, block_len: int, cache: str | None
) -> None:
    """Rows enter in some steps and not in others, so that guided ones come and go beside a row without a prompt."""
    denoiser = denoiser_of(engine, "tiny", block_len)
    rules = Sampler(steps=60, cfg_scale=1.5, cache=cache, block_len=4)
    both = canvas(2, 30)
    both[0] = MASK
    together = list(stream(denoiser, both, sampler=rules, seed=5))[-1]
    alone = list(stream(denoiser, both[:1], sampler=dataclasses.replace(rules, cfg_scale=0.0), seed=5))[-1]
    assert np.array_equal(together.tokens[0], alone.tokens[0])
    np.testing.assert_allclose(together.confidence[0], alone.confidence[0], atol=1e-5)


def test_a_pass_computes_the_block_and_once_what_was_written_before(engine: str) -> None:
    spy = Spy(denoiser_of(engine, "tiny", 4))
    list(stream(spy, canvas(2, 12, 0), sampler=sampler("uniform-order", k=2)))
    assert [n for _, n in spy.shapes] == [4, 4, 8, 4, 8, 4]  # the last block's tokens are read with the next block


@pytest.mark.parametrize(
    ("cache", "refresh", "widths"),
    [
        ("dual", None, [12, 4, 4, 4, 12, 4, 4, 4, 12, 4, 4, 4]),
        ("prefix", None, [12, 12, 12, 12, 12, 8, 8, 8, 12, 4, 4, 4]),
        ("dual", 2, [12, 4, 12, 4] * 3),
        ("none", None, [12] * 12),
    ],
)
def test_approximate_caches_compute_what_they_say(engine: str, cache: str, refresh: int | None, widths: list) -> None:
    spy = Spy(denoiser_of(engine, "tiny", 0))
    rules = Sampler(order="confidence", count="one", block_len=4, cache=cache, cache_refresh=refresh)
    frames = list(stream(spy, canvas(2, 12, 0), sampler=rules))
    assert [n for _, n in spy.shapes] == widths and frames[-1].nfe == 12 and not frames[-1].masked.any()


@pytest.mark.parametrize("model_type", ["tiny", "timed", "smdm"])
@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_that_is_always_refreshed_is_no_approximation(engine: str, model_type: str, cache: str) -> None:
    """Rows of several lengths, over several windows, guided; conditioned on the time or not."""
    denoiser, lengths = denoiser_of(engine, model_type, 0), np.array([30, 7, 17])
    rules = Sampler(steps=9, block_len=4, cfg_scale=1.0)
    plain, kept = [
        list(stream(denoiser, canvas(3, 30), lengths=lengths, sampler=r, seed=2))[-1]
        for r in (rules, dataclasses.replace(rules, cache=cache, cache_refresh=1))
    ]
    assert np.array_equal(plain.tokens, kept.tokens) and plain.nfe == kept.nfe
    np.testing.assert_allclose(plain.confidence, kept.confidence, atol=1e-4)


def test_the_stale_part_is_what_the_last_full_pass_saw(engine: str) -> None:
    """The dual cache by hand: the block's own keys are new, all others those of the block's first pass."""
    denoiser = denoiser_of(engine, "tiny", 0)
    store, xp = denoiser.empty_cache(1, LENGTH), denoiser.xp
    first = canvas(1, LENGTH)
    positions = np.arange(LENGTH)[None]
    every = np.ones((1, LENGTH, LENGTH), dtype=bool)
    full, _ = denoiser.forward(first, positions=positions, attention=every, cache=store.at(np.array([0])))
    np.testing.assert_allclose(xp.to_numpy(full), xp.to_numpy(denoiser.forward(first)[0]), atol=1e-5)
    then = first.copy()
    then[0, 4], then[0, 10] = 7, 7  # the second lies outside the block, and is not seen
    some, _ = denoiser.forward(
        then[:, 4:8], positions=positions[:, 4:8], attention=every[:, :4], cache=store.at(np.array([0]))
    )
    outside = first.copy()
    outside[0, 4] = 7
    again, _ = denoiser.forward(
        outside[:, 4:8], positions=positions[:, 4:8], attention=every[:, :4], cache=store.at(np.array([0]))
    )
    np.testing.assert_allclose(xp.to_numpy(some), xp.to_numpy(again), atol=1e-6)
    fresh = xp.to_numpy(denoiser.forward(outside)[0])[:, 4:8]
    assert np.abs(xp.to_numpy(some) - fresh).max() > 1e-3  # it is an approximation


def test_a_cache_that_does_not_fit_is_refused() -> None:
    function = FunctionDenoiser(lambda x: np.zeros((*x.shape, 11)), 11, 12)
    with pytest.raises(ConfigError, match="cache=dual: this denoiser keeps no keys and values"):
        stream(function, canvas(1, 12), sampler=Sampler(cache="dual"))
    with pytest.raises(ConfigError, match="cache=exact is not for this denoiser: prefix or dual is"):
        stream(denoiser_of("torch", "tiny", 0), canvas(1, 12), sampler=Sampler(cache="exact"))
    with pytest.raises(ConfigError, match="cache=dual is not for this denoiser: exact is"):
        stream(denoiser_of("torch", "tiny", 4), canvas(1, 12), sampler=Sampler(cache="dual"))
    with pytest.raises(ConfigError, match=r"unknown cache 'duel' \(did you mean 'dual'\?\)"):
        Sampler(cache="duel")
    with pytest.raises(ConfigError, match="block_len=5: the denoiser's blocks have 4 tokens"):
        stream(denoiser_of("torch", "tiny", 4), canvas(1, 12), sampler=Sampler(block_len=5))


def test_a_cache_takes_keys_and_values_of_rows_of_which_nothing_is_wanted(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # on MLX a share for each
    denoiser, rows = denoiser_of(engine, "tiny", 0), np.arange(4)
    tokens, positions = canvas(4, 12), np.broadcast_to(np.arange(12), (4, 12))
    cache = denoiser.empty_cache(4, 12)
    denoiser.forward(tokens, positions=positions, rows=np.array([0]), cache=cache.at(rows))
    found, _ = denoiser.forward(tokens[2:, :4], positions=positions[2:, :4], cache=cache.at(rows[2:]))
    whole, to_numpy = denoiser.forward(tokens)[0], denoiser.xp.to_numpy
    np.testing.assert_allclose(to_numpy(found), to_numpy(whole)[2:, :4], atol=1e-5)
