"""What a sampler and a canvas are refused with, word by word; what lies on a limit is not refused."""

import numpy as np
import pytest

from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError, TzdError, UserError
from tzd.sampling import Sampler, sampler, stream
from tzd.sampling.canvas import Canvas

V = 5
BLANK = np.full((2, 6), V)


def denoiser(function=lambda x: np.zeros((*x.shape, V)), **settings):
    return FunctionDenoiser(function, V, 4, **settings)


def write(tokens, rules=None, *, frozen=None, lengths=None, eos_id=None, forbidden=None, **settings):
    given = {"frozen": frozen, "lengths": lengths, "eos_id": eos_id, "banned": forbidden}
    return list(stream(denoiser(**settings), tokens, sampler=rules or Sampler(), **given))


SETTINGS = [  # ConfigError
    (lambda: Sampler(order="confidenc"), "unknown order 'confidenc' (did you mean 'confidence'?)"),
    (lambda: Sampler(count="quotas"), "unknown count 'quotas' (did you mean 'quota'?)"),
    (lambda: Sampler(remask="remdm"), "unknown remask 'remdm' (did you mean 'remdm-cap'?)"),
    (lambda: Sampler(schedule="sin"), "unknown schedule 'sin' (did you mean 'sine'?)"),
    (lambda: Sampler(cache="duall"), "unknown cache 'duall' (did you mean 'dual'?)"),
    (lambda: sampler("lada"), "unknown sampler 'lada' (did you mean 'llada'?)"),
    (lambda: sampler("llada", step=3), "sampler 'llada' has no setting 'step' (did you mean 'steps'?)"),
    (
        lambda: sampler("first-hitting", steps=3),
        (
            "sampler 'first-hitting' has no setting 'steps' (known: block_len, cache, cache_refresh, cfg_scale, "
            "last_temperature, overlap, prior, temperature, top_k_tokens, top_p)"
        ),
    ),
    (lambda: Sampler(steps=0), "steps must be at least 1, not 0"),
    (lambda: Sampler(block_len=0), "block_len must be at least 1, not 0"),
    (lambda: Sampler(top_k_tokens=0), "top_k_tokens must be at least 1, not 0"),
    (lambda: Sampler(k=0), "k must be at least 1, not 0"),
    (lambda: Sampler(kl_steps=0), "kl_steps must be at least 1, not 0"),
    (lambda: Sampler(cache_refresh=0), "cache_refresh must be at least 1, not 0"),
    (lambda: Sampler(stride=0), "stride must be positive, not 0"),
    (lambda: Sampler(overlap=-1), "overlap must not be negative, not -1"),
    (lambda: Sampler(cfg_scale=-0.5), "cfg_scale must not be negative, not -0.5"),
    (lambda: Sampler(order_temperature=-1.0), "order_temperature must not be negative, not -1.0"),
    (lambda: Sampler(gamma=-0.1), "gamma must not be negative, not -0.1"),
    (lambda: Sampler(eta=-0.1), "eta must not be negative, not -0.1"),
    (lambda: Sampler(steps=1_000_001), "steps must be at most 1000000, not 1000001"),
    (lambda: Sampler(stride=2_000_000), "stride must be at most 1000000, not 2000000"),
    (lambda: Sampler(overlap=1_000_001), "overlap must be at most 1000000, not 1000001"),
    (lambda: Sampler(cfg_scale=1e7), "cfg_scale must be at most 1000000, not 10000000.0"),
    (lambda: Sampler(order_temperature=1e7), "order_temperature must be at most 1000000, not 10000000.0"),
    (lambda: Sampler(eta=1e7), "eta must be at most 1000000, not 10000000.0"),
    (lambda: Sampler(schedule_power=0.0), "schedule_power must be positive, not 0.0"),
    (lambda: Sampler(factor=0.0), "factor must be positive, not 0.0"),
    (lambda: Sampler(kl_threshold=0.0), "kl_threshold must be positive, not 0.0"),
    (
        lambda: Sampler(temperature=1e-7),
        "temperature must be 0 (the likeliest token) or lie in 1e-06..1000000, not 1e-07",
    ),
    (
        lambda: Sampler(temperature=2e6),
        "temperature must be 0 (the likeliest token) or lie in 1e-06..1000000, not 2000000.0",
    ),
    (
        lambda: Sampler(last_temperature=0.0),
        "last_temperature must lie in 1e-06..1000000, and temperature above 0, not 0.0 and 1.0",
    ),
    (
        lambda: Sampler(temperature=0.0, last_temperature=0.5),
        "last_temperature must lie in 1e-06..1000000, and temperature above 0, not 0.5 and 0.0",
    ),
    (lambda: Sampler(prior=1.1), "prior must lie in [0, 1], not 1.1"),
    (lambda: Sampler(top_p=0.0), "top_p must lie in (0, 1], not 0.0"),
    (lambda: Sampler(top_p=1.1), "top_p must lie in (0, 1], not 1.1"),
    (lambda: Sampler(last_time=1.0), "last_time must lie in [0, 1), not 1.0"),
    (lambda: Sampler(confidence_threshold=1.1), "confidence_threshold must lie in [0, 1], not 1.1"),
    (lambda: Sampler(count="klass"), "count=klass needs a confidence_threshold"),
    (lambda: Sampler(overlap=1, stride=2), "overlap and stride say the same: give one of them"),
    (
        lambda: Sampler(remask="remdm-loop", t_on=0.1, t_off=0.2),
        "remask=remdm-loop needs 0 <= t_off <= t_on <= 1 and alpha_on between 0 and 1, not 0.2, 0.1 and 0.9",
    ),
    (
        lambda: Sampler(remask="remdm-loop", t_on=1.5),
        "remask=remdm-loop needs 0 <= t_off <= t_on <= 1 and alpha_on between 0 and 1, not 0.05, 1.5 and 0.9",
    ),
    (
        lambda: Sampler(remask="remdm-loop", alpha_on=0.0),
        "remask=remdm-loop needs 0 <= t_off <= t_on <= 1 and alpha_on between 0 and 1, not 0.05, 0.55 and 0.0",
    ),
    (
        lambda: Sampler(remask="p2", count="scheduled"),
        "remask=p2 needs one of the orders token-log-confidence, log-confidence, entropy, not random",
    ),
    (lambda: Sampler(remask="p2", order="entropy", count="quota"), "remask=p2 needs count=scheduled, not quota"),
    (lambda: Sampler(remask="renoise", legacy=True), "legacy is for decoders that take nothing back"),
]
RULES = [  # ConfigError
    (lambda: write(BLANK, Sampler(overlap=4)), "overlap=4 leaves nothing to write in the denoiser's window of 4"),
    (lambda: write(BLANK, Sampler(stride=5)), "stride=5 is longer than the denoiser's window of 4"),
    (
        lambda: write(BLANK, Sampler(block_len=3), block_len=2),
        "block_len=3: the denoiser's blocks have 2 tokens; leave it out",
    ),
    (
        lambda: write(BLANK, Sampler(steps=1, block_len=2)),
        "steps=1 cannot fill 2 blocks of block_len=2: ask for steps=2 at least, or longer blocks",
    ),
    (lambda: write(BLANK, Sampler(cache="dual")), "cache=dual: this denoiser keeps no keys and values; leave it out"),
    (
        lambda: write(BLANK, Sampler(cache="exact"), cacheable=True),
        "cache=exact is not for this denoiser: prefix or dual is, or none",
    ),
    (
        lambda: write(BLANK, Sampler(cache="prefix"), cacheable=True, block_len=2),
        "cache=prefix is not for this denoiser: exact is, or none",
    ),
    (
        lambda: write(BLANK, Sampler(prior=0.5), block_len=2),
        "prior is for denoisers that attend both ways; one of block diffusion always sees a text",
    ),
]
CANVASES = [  # UserError
    (
        lambda: Canvas.start(np.array([[1, V]]), None, None, mask_id=0, vocab_size=V),
        "token 5 at row 0, position 1 is not one of the 5 known",
    ),
    (lambda: write(np.array([V])), "a canvas is a non-empty (rows, length) array of token ids, not (1,) int64"),
    (lambda: write(np.array([[1.5]])), "a canvas is a non-empty (rows, length) array of token ids, not (1, 1) float64"),
    (
        lambda: write(np.zeros((0, 4), int)),
        "a canvas is a non-empty (rows, length) array of token ids, not (0, 4) int64",
    ),
    (lambda: write(np.array([[V, 0], [1, V + 1]])), "token 6 at row 1, position 1 is not one of the 5 known"),
    (lambda: write(np.array([[0, -1]])), "token -1 at row 0, position 1 is not one of the 5 known"),
    (lambda: write(BLANK, frozen=np.zeros((1, 3), bool)), "frozen must be (2, 6) truth values, not (1, 3) bool"),
    (lambda: write(BLANK, frozen=np.zeros((2, 6), int)), "frozen must be (2, 6) truth values, not (2, 6) int64"),
    (lambda: write(BLANK, lengths=np.array([0, 6])), "lengths must be 2 whole numbers in 1..6, not [0, 6]"),
    (lambda: write(BLANK, lengths=np.array([7, 6])), "lengths must be 2 whole numbers in 1..6, not [7, 6]"),
    (lambda: write(BLANK, lengths=np.array([6])), "lengths must be 2 whole numbers in 1..6, not [6]"),
    (lambda: write(BLANK, eos_id=[1, V]), "eos_id=[1, 5] is none of the 5 tokens"),
    (
        lambda: write(BLANK, forbidden=np.zeros(V - 1, bool)),
        "banned must be 5 truth values, one for each token, not (4,) bool",
    ),
    (
        lambda: write(BLANK, forbidden=np.zeros(V)),
        "banned must be 5 truth values, one for each token, not (5,) float64",
    ),
    (lambda: write(BLANK, forbidden=np.ones(V, bool)), "every token is banned: there is nothing to write with"),
]


@pytest.mark.parametrize(("attempt", "message"), SETTINGS + RULES)
def test_a_sampler_that_cannot_be_is_refused_in_these_words(attempt, message):
    with pytest.raises(ConfigError) as error:
        attempt()
    assert str(error.value) == message


@pytest.mark.parametrize(("attempt", "message"), CANVASES)
def test_a_canvas_that_cannot_be_filled_is_refused_in_these_words(attempt, message):
    with pytest.raises(UserError) as error:
        attempt()
    assert str(error.value) == message


@pytest.mark.parametrize("prior", [0.0, 0.5])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_end_in_these_words(value, prior):
    message = "the denoiser's logits are not finite: its weights are damaged, or its precision too low"
    with pytest.raises(TzdError) as error:
        write(BLANK, Sampler(prior=prior), function=lambda x: np.full((*x.shape, V), value))
    assert str(error.value) == message


@pytest.mark.parametrize(
    "settings",
    [
        *({name: 1} for name in ("steps", "block_len", "top_k_tokens", "k", "kl_steps", "cache_refresh")),
        *({name: 1_000_000} for name in ("steps", "block_len", "stride", "overlap", "cfg_scale", "eta")),
        *({name: 0} for name in ("overlap", "cfg_scale", "order_temperature", "gamma", "eta", "temperature", "prior")),
        *({name: 1e-300} for name in ("stride", "schedule_power", "factor", "kl_threshold", "top_p")),
        *({name: 1e-6} for name in ("temperature", "last_temperature")),
        *({name: 1e6} for name in ("temperature", "last_temperature", "order_temperature")),
        {"prior": 1.0},
        {"top_p": 1.0},
        {"last_time": 0.0},
        {"confidence_threshold": 0.0},
        {"confidence_threshold": 1.0},
        {"remask": "remdm-loop", "t_off": 0.0, "t_on": 1.0},
        {"remask": "remdm-loop", "t_off": 0.5, "t_on": 0.5},
        {"t_off": 2.0, "alpha_on": 3.0},
        {"remask": "p2", "order": "log-confidence", "count": "scheduled"},
    ],
    ids=str,
)
def test_what_lies_on_a_limit_is_allowed(settings):
    assert {name: getattr(Sampler(**settings), name) for name in settings} == settings


def test_a_canvas_without_any_margin_is_allowed():
    assert len(write(np.array([[V]]), Sampler(steps=1))) == 2
    assert write(BLANK, lengths=np.array([1, 6]), eos_id=[0, V - 1])[-1].lengths.tolist() == [1, 6]
    assert not write(BLANK, Sampler(overlap=3))[-1].masked.any()
    assert not write(BLANK, Sampler(stride=4))[-1].masked.any()
    assert not write(BLANK, Sampler(steps=2, block_len=2))[-1].masked.any()
    assert not write(BLANK, Sampler(block_len=2), block_len=2)[-1].masked.any()
    assert (write(BLANK, forbidden=np.arange(V) > 0)[-1].tokens == 0).all()
