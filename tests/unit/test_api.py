"""The public face, on models whose answers are known."""

import math

import numpy as np
import pytest

import tzd
from tzd.config import TokenizerSettings
from tzd.corpus import Corpus, Tokenizer, make_tokenizer
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import ConfigError, UserError

V, L = 4, 12


def certain(text: np.ndarray) -> tzd.Model:
    """A model that is sure of one text."""

    def logits(tokens: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.where(np.arange(V) == text[: tokens.shape[1], None], 30.0, 0.0), (*tokens.shape, V))

    return tzd.from_function(logits, vocab_size=V, seq_len=L)


TEXT = np.arange(L) % V


def test_from_function_makes_a_model_with_mask_one_past_the_vocabulary() -> None:
    model = certain(TEXT)
    assert (model.mask_id, model.engine, model.tokenizer) == (V, "numpy", None)
    assert model.logits(np.full((2, 3), V)).shape == (2, 3, V)
    assert model.logits(np.full(3, V)).shape == (1, 3, V)


@pytest.mark.parametrize("name", list(tzd.samplers()))
def test_every_sampler_writes_what_a_certain_model_knows(name: str) -> None:
    out = tzd.sample(certain(TEXT), length=L, sampler=name, batch_size=3, seed=5)
    np.testing.assert_array_equal(out.tokens, np.repeat(TEXT[None], 3, axis=0))
    assert out.tokens.dtype == np.int32
    assert 1 <= out.nfe <= 128
    assert out.text == []


def test_a_prompt_of_tokens_is_kept_and_length_counts_new_tokens() -> None:
    prompt = np.array([[3, 3], [2, 1]])
    out = tzd.sample(certain(TEXT), length=5, prompt=prompt, sampler="first-hitting")
    np.testing.assert_array_equal(out.tokens[:, :2], prompt)
    np.testing.assert_array_equal(out.tokens[:, 2:], np.repeat(TEXT[None, 2:7], 2, axis=0))
    assert out.nfe == 5


def test_stream_ends_in_what_sample_returns() -> None:
    model = tzd.from_function(lambda x: np.zeros((*x.shape, V)), vocab_size=V, seq_len=L)
    *_, last = tzd.stream(model, length=9, seed=3, steps=4)
    out = tzd.sample(model, length=9, seed=3, steps=4)
    np.testing.assert_array_equal(last.tokens, out.tokens)
    assert last.nfe == out.nfe <= 4
    assert (tzd.sample(model, length=9, seed=4, steps=4).tokens != out.tokens).any()


def test_nelbo_of_tokens() -> None:
    uniform = tzd.from_function(lambda x: np.zeros((*x.shape, V)), vocab_size=V, seq_len=L)
    bound = tzd.nelbo(uniform, np.zeros(30, int))
    assert (bound.tokens, bound.sequences) == (30, 3)
    assert bound.nats_per_token == pytest.approx(math.log(V))
    assert bound.bits_per_char is None
    assert tzd.nelbo(certain(TEXT), TEXT[None]).nats_per_token == pytest.approx(0.0, abs=1e-9)


JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたか頓と見当がつかぬ。" * 9


def tokenizer(kind: str) -> Tokenizer:
    settings = TokenizerSettings(kind, vocab_size=300 if kind == "bpe" else None)
    return make_tokenizer(settings, Corpus.from_text("neko", JAPANESE))


def uniform_with(tokenizer: Tokenizer, context_len: int = 0, seq_len: int = 8) -> tzd.Model:
    """A model without preferences; its windows of 8 bytes end within characters of 3."""
    size = tokenizer.vocab_size
    logits = FunctionDenoiser(lambda x: np.zeros((*x.shape, size)), size, seq_len, size, context_len=context_len)
    return tzd.Model(logits, tokenizer)


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_bits_per_char_counts_a_character_once_that_two_windows_share(kind: str) -> None:
    model = uniform_with(tokenizer(kind))
    tokens = model.encode(JAPANESE)
    bits = len(tokens) * math.log2(model.denoiser.vocab_size) / len(JAPANESE)
    for given in (JAPANESE, tokens):
        bound = tzd.nelbo(model, given)
        assert bound.bits_per_char == pytest.approx(bits)
        assert bound.nats_per_token * bound.tokens / len(JAPANESE) / math.log(2) == pytest.approx(bits)


def test_bits_per_char_with_a_context_counts_only_what_is_scored() -> None:
    bound = tzd.nelbo(uniform_with(tokenizer("byte"), context_len=3), "abcdefgh" * 4)
    assert bound.tokens == 4 * 5
    assert bound.bits_per_char == pytest.approx(8)


def test_log_likelihood_of_tokens() -> None:
    uniform = tzd.from_function(lambda x: np.zeros((*x.shape, V)), vocab_size=V, seq_len=L)
    assert tzd.log_likelihood(uniform, np.array([1]), np.array([2, 3])) == pytest.approx(-2 * math.log(V))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"length": 0}, "length must be at least 1, not 0"),
        ({"length": -5}, "length must be at least 1, not -5"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"sampler": "lada"}, r"unknown sampler 'lada' \(did you mean 'llada'\?\)"),
        ({"stepz": 3}, r"has no setting 'stepz' \(did you mean 'steps'\?\)"),
        ({"prompt": np.array([[9]])}, r"the prompt has tokens outside 0..3"),
        (
            {"prompt": "text"},
            (
                "this model has no tokenizer: give and take tokens instead of text, or "
                r"put its tokenizer\.json beside the weights"
            ),
        ),
        ({"prompt": np.array([[0.0, 1.5]])}, r"whole numbers \(P,\), .*; a row cannot be float64 of shape \(2,\)"),
        ({"prompt": [[0.0, 1.0]]}, "a row cannot be float64"),
        ({"prompt": [0.0, 1.0]}, "a row cannot be float64"),
        ({"prompt": []}, r"a prompt is a text, .*, not \[\]"),
        ({"prompt": None}, "a prompt is a text, .*, not None"),
        ({"prompt": [None, None]}, "a row cannot be object"),
        ({"prompt": [[[0], [1, 2]]]}, r"a prompt is a text, .*, not \[\[0\], \[1, 2\]\]"),
        ({"prompt": np.zeros((1, 2, 3), int)}, r"a row cannot be int64 of shape \(2, 3\)"),
        ({"prompt": np.array(3)[None, None, None]}, r"a row cannot be int64 of shape \(1, 1\)"),
        ({"ban": 4}, r"ban=4 is none of the model's tokens, 0\.\.3"),
        ({"ban": -1}, "a token of ban must be at least 0, not -1"),
        ({"ban": 1.5}, r"a token of ban must be a whole number, not 1\.5"),
        ({"ban": range(4)}, "every token is banned"),
        ({"ban": "x"}, "no tokenizer"),
        ({"prompt": [[0, 9]]}, r"the prompt has tokens outside 0..3"),
        ({"length": 4.0}, r"length must be a whole number, not 4\.0"),
        ({"batch_size": 2.0}, r"batch_size must be a whole number, not 2\.0"),
        ({"batch_size": True}, "batch_size must be a whole number, not True"),
        ({"seed": None}, "seed must be a whole number, not None"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_an_impossible_request_is_one_clear_line(request_: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tzd.sample(certain(TEXT), **request_)
    assert "\n" not in str(caught.value)


def test_numbers_and_prompts_may_be_those_of_numpy_or_lists() -> None:
    out = tzd.sample(certain(TEXT), prompt=[[3, 3], [2, 1]], length=np.int64(5), seed=np.int64(7))
    np.testing.assert_array_equal(out.tokens[:, :2], [[3, 3], [2, 1]])
    same = tzd.sample(certain(TEXT), prompt=np.array([[3, 3], [2, 1]], np.uint8), length=5, seed=7)
    np.testing.assert_array_equal(out.tokens, same.tokens)


@pytest.mark.parametrize("length", [5, 3 * L])
def test_prompts_of_different_lengths_are_written_in_one_batch_as_one_by_one(length: int) -> None:
    """A model that goes on counting from what stands before; greedy, so that draws do not matter."""

    def logits(tokens: np.ndarray) -> np.ndarray:
        first = tokens[:, :1] + np.arange(tokens.shape[1])
        return 9.0 * (np.arange(V) == (first % V)[:, :, None])

    model = tzd.from_function(logits, vocab_size=V, seq_len=L)
    prompts = [[3], [1, 2, 3, 0], np.array([2, 3], np.uint8), []]
    request = {"length": length, "sampler": "llada", "temperature": 0}
    out = tzd.sample(model, prompt=prompts, **request)
    assert out.lengths.tolist() == [length + 1, length + 4, length + 2, length]
    assert out.tokens.shape == (4, length + 4)
    for row, (prompt, n) in enumerate(zip(prompts, out.lengths, strict=True)):
        assert (out.tokens[row, n:] == model.mask_id).all() and (out.tokens[row, :n] < V).all()
        if len(prompt):
            alone = tzd.sample(model, prompt=prompt, **request)
            assert out.tokens[row, :n].tolist() == alone.tokens[0].tolist()


def test_texts_of_different_lengths_go_on_in_one_batch_and_padding_is_no_text() -> None:
    model = uniform_with(tokenizer("byte"), seq_len=16)
    out = tzd.sample(model, prompt=["a", "abc", ""], length=4, ban=[*range(ord("z")), *range(ord("z") + 1, 256)])
    assert out.text == ["azzzz", "abczzzz", "zzzz"]
    assert out.answers == ["zzzz"] * 3


def test_what_is_banned_is_not_written_by_text_or_number() -> None:
    byte = uniform_with(tokenizer("byte"))
    wanted = {ord("a"), ord("b")}
    others = [chr(i) if 32 <= i < 127 else i for i in range(256) if i not in wanted]
    for out in (tzd.sample(byte, length=64, ban=others), tzd.infill(byte, "_" * 64, ban=others)):
        assert set(out.text[0]) == {"a", "b"}
    with pytest.raises(UserError, match="ban='ab' is 2 tokens, and only single tokens can be banned"):
        tzd.infill(byte, "_", ban=["ab"])


@pytest.mark.parametrize("seed", [None, -1, 0.5])
def test_a_seed_that_is_none_is_one_clear_line_in_measures_too(seed: object) -> None:
    model = certain(TEXT)
    for measure in (
        lambda: tzd.nelbo(model, TEXT, seed=seed),
        lambda: tzd.log_likelihood(model, TEXT, TEXT, seed=seed),
    ):
        with pytest.raises(UserError, match="seed must be"):
            measure()


def test_a_run_given_as_a_text_is_an_error_that_shows_the_list() -> None:
    with pytest.raises(
        UserError, match=("train takes a list of overrides, not a text: " r"\['model=tiny', 'seed=3'\]")
    ):
        tzd.train("model=tiny seed=3")


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"unknown engine 'troch' \(did you mean 'torch'\?\)"):
        tzd.train({"engine": {"name": "troch"}})


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        tzd.sampel  # noqa: B018
