"""Tokenizers: text to ids and back, in a checkpoint and out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.config import TokenizerSettings
from tzd.corpus import Corpus, Tokenizer, load_tokenizer, make_tokenizer, token_array
from tzd.corpus.tokenizers._library import chunks
from tzd.errors import CheckpointError, ConfigError, CorpusError, TzdError

TEXT = "Grüße, world!\n  Let's see: naïve café, 3.14 — and 日本語 🙂.\n\n\tThe end, the end.\r\n" * 30
PLAIN = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n" * 30
CORPUS = Corpus.from_text("made-up", TEXT)
ENGLISH = Corpus.from_text("english", PLAIN)
SETTINGS = {
    "ascii": TokenizerSettings("ascii"),
    "char": TokenizerSettings("char"),
    "byte": TokenizerSettings("byte"),
    "bpe": TokenizerSettings("bpe", vocab_size=300),
}


def corpus_of(name: str) -> Corpus:
    return ENGLISH if name == "ascii" else CORPUS


@pytest.fixture(scope="module", params=list(SETTINGS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return make_tokenizer(SETTINGS[request.param], corpus_of(request.param))


def save(tokenizer: Tokenizer, folder: Path) -> dict[str, object]:
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return json.loads(json.dumps(tokenizer.describe()))


def test_decoding_gives_the_text_back(tokenizer: Tokenizer) -> None:
    text = corpus_of(tokenizer.kind).text
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32
    assert tokens.ndim == 1
    assert 0 <= tokens.min() <= tokens.max() < tokenizer.vocab_size
    assert tokenizer.decode(tokens) == text
    assert tokenizer.decode(tokens.astype(np.uint16)) == text


def test_nothing_is_no_tokens_and_no_tokens_are_nothing(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("")
    assert (tokens.shape, tokens.dtype) == ((0,), np.int32)
    assert tokenizer.decode(tokens) == ""
    assert tokenizer.pieces(tokens) == []


def test_each_token_has_one_piece_and_the_pieces_of_plain_text_join_to_it(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("The end")
    pieces = tokenizer.pieces(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == "The end"


def test_a_checkpoint_gives_the_same_tokenizer_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    again = load_tokenizer(save(tokenizer, tmp_path), tmp_path)
    text = corpus_of(tokenizer.kind).text
    assert (again.kind, again.vocab_size) == (tokenizer.kind, tokenizer.vocab_size)
    np.testing.assert_array_equal(again.encode(text), tokenizer.encode(text))
    assert again.files() == tokenizer.files()


def test_an_id_outside_the_vocabulary_is_named(tokenizer: Tokenizer) -> None:
    for bad in (tokenizer.vocab_size, -1):
        for method in (tokenizer.decode, tokenizer.pieces):
            with pytest.raises(CorpusError, match=f"token {bad} at offset 1 is no token of a vocabulary of"):
                method(np.array([0, bad]))


def test_half_of_a_surrogate_pair_is_an_error_that_says_where(tokenizer: Tokenizer) -> None:
    with pytest.raises(CorpusError, match=r"character '\\udc80' \(U\+DC80\) at offset 4 \(line 2, column 2\)"):
        tokenizer.encode("en\nd\udc80")


# --- each kind --------------------------------------------------------------------------------------------------


def test_ascii_ids_are_the_codes_of_the_characters() -> None:
    tokenizer = make_tokenizer(SETTINGS["ascii"], ENGLISH)
    assert tokenizer.vocab_size == 128
    assert tokenizer.encode("\x00A~\x7f").tolist() == [0, 65, 126, 127]
    assert tokenizer.describe() == {"kind": "ascii", "vocab_size": 128}


@pytest.mark.parametrize("character", ["é", "\x80", "🙂"])
def test_a_character_beyond_ascii_is_an_error_that_names_it_and_its_place(character: str) -> None:
    place = rf"character '.*' \(U\+{ord(character):04X}\) at offset 8 \(line 2, column 3\) is not in the vocabulary"
    with pytest.raises(CorpusError, match=place):
        make_tokenizer(SETTINGS["ascii"], ENGLISH).encode(f"first\nca{character}{character}")


def test_char_ids_are_the_sorted_characters_of_the_whole_corpus() -> None:
    corpus = Corpus.from_text("x", "ba" * 50 + "é")
    assert "é" not in corpus.splits["train"] + corpus.splits["validation"]
    tokenizer = make_tokenizer(SETTINGS["char"], corpus)
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode("aébb").tolist() == [0, 2, 1, 1]
    assert json.loads(tokenizer.files()["tokenizer.json"]) == {"kind": "char", "characters": "abé"}
    for unknown in ("c", "A", "ê", "🙂"):  # between, below and above the known ones
        with pytest.raises(CorpusError, match=rf"U\+{ord(unknown):04X}\) at offset 2 \(line 1, column 3\)"):
            tokenizer.encode(f"ab{unknown}")


@given(st.text())
def test_bytes_hold_any_text(text: str) -> None:
    tokenizer = make_tokenizer(SETTINGS["byte"], ENGLISH)
    assert tokenizer.encode(text).tolist() == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_that_are_no_utf8_become_the_replacement_character() -> None:
    tokenizer = make_tokenizer(SETTINGS["byte"], ENGLISH)
    assert tokenizer.decode(np.array([97, 0xC3, 98])) == "a\ufffdb"
    assert tokenizer.pieces(np.array([97, 0xC3, 0xA9])) == ["a", "\ufffd", "\ufffd"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bpe_holds_any_text(text: str) -> None:
    tokenizer = make_bpe()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def make_bpe(made: list[Tokenizer] = []) -> Tokenizer:  # noqa: B006 - trained once for every example
    if not made:
        made.append(make_tokenizer(SETTINGS["bpe"], CORPUS))
    return made[0]


def test_bpe_is_trained_on_the_training_split_alone_and_always_the_same() -> None:
    tokenizer = make_bpe()
    assert tokenizer.vocab_size == 300
    other = Corpus("x", {**CORPUS.splits, "validation": "zzzz" * 999, "test": "yyyy"}, "", None, "")
    assert make_tokenizer(SETTINGS["bpe"], other).files() == tokenizer.files()
    assert len(tokenizer.encode(TEXT)) < len(TEXT.encode())


def test_bpe_of_a_text_too_small_for_the_size_asked_has_fewer_tokens() -> None:
    tokenizer = make_tokenizer(TokenizerSettings("bpe", vocab_size=5000), Corpus.from_text("x", "ab " * 20))
    assert 256 <= tokenizer.vocab_size < 300


@given(st.lists(st.sampled_from(["a", "é", " ", "\n", "\t", "the", "'s", ".", "9", "\u3000"])).map("".join))
def test_a_text_in_parts_has_the_tokens_of_the_whole(text: str) -> None:
    tokenizer = make_bpe()
    parts = list(chunks(text, size=3))
    assert "".join(parts) == text
    assert [i for part in parts for i in tokenizer.encode(part).tolist()] == tokenizer.encode(text).tolist()


@pytest.fixture
def local_folder(tmp_path: Path) -> Path:
    """A folder as the hub holds one: a word-piece tokenizer that would add special tokens and truncate."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, processors

    words = ["[UNK]", "[CLS]", "▁the", "▁end", "▁of"]
    library = Library(models.WordLevel({word: i for i, word in enumerate(words)} | {"▁far": 9}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    library.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 1)])
    library.enable_truncation(2)
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return tmp_path


def test_hf_takes_a_local_folder_and_reloads_without_it(local_folder: Path, tmp_path: Path) -> None:
    settings = TokenizerSettings("hf", pretrained_model_name_or_path=str(local_folder))
    tokenizer = make_tokenizer(settings, ENGLISH)
    assert tokenizer.encode("the end of the end").tolist() == [2, 3, 4, 2, 3]  # nothing added, nothing cut
    assert tokenizer.vocab_size == 10  # there are holes below the largest id
    assert tokenizer.decode(np.array([2, 3])) == "the end"
    assert tokenizer.pieces(np.array([2, 3, 3])) == [" the", " end", " end"]
    (tmp_path / "saved").mkdir()
    again = load_tokenizer(save(tokenizer, tmp_path / "saved"), tmp_path / "saved")
    assert again.encode("the end of the end").tolist() == [2, 3, 4, 2, 3]


def test_characters_are_tokenized_without_the_libraries_for_subwords() -> None:
    code = (
        "import sys; from tzd.config import TokenizerSettings; from tzd.corpus import *\n"
        "make_tokenizer(TokenizerSettings('char'), Corpus.from_text('x', 'text for all')).encode('text')\n"
        "print([m for m in ('tokenizers', 'transformers', 'pooch', 'torch', 'platformdirs') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


# --- settings and checkpoints that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TokenizerSettings("chars"), r"unknown tokenizer.name 'chars' \(did you mean 'char'\?\)"),
        (TokenizerSettings("bpe"), "tokenizer.name=bpe needs tokenizer.vocab_size"),
        (TokenizerSettings("bpe", vocab_size=255), r"tokenizer.vocab_size must lie in 256..1048576 for bpe, not 255"),
        (TokenizerSettings("char", vocab_size=99), "tokenizer.vocab_size belongs to tokenizer.name=bpe, not char"),
        (TokenizerSettings("hf"), "tokenizer.name=hf needs tokenizer.pretrained_model_name_or_path"),
        (TokenizerSettings("byte", None, "gpt2"), "pretrained_model_name_or_path belongs to tokenizer.name=hf"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: TokenizerSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_tokenizer(settings, ENGLISH)


@pytest.mark.parametrize(
    ("description", "content", "message"),
    [
        (
            {"kind": "word"},
            b"",
            (r"the tokenizer of .+ is of an unknown kind 'word' \(known: ascii, " r"bpe, byte, char, hf\)"),
        ),
        ({"vocab_size": 3}, b"", "unknown kind None"),
        ({"kind": ["char"]}, b"", "unknown kind"),
        (
            {"kind": "char", "vocab_size": 2},
            None,
            (r"cannot read .+ \(No such file or directory\); a " "'char' tokenizer needs it"),
        ),
        ({"kind": "char", "vocab_size": 2}, b'{"kind": "char", "chara', "tokenizer.json is damaged"),
        ({"kind": "char", "vocab_size": 2}, b"[" * 100_000, "tokenizer.json is damaged"),
        ({"kind": "char", "vocab_size": 2}, b'{"kind": "char", "characters": "aa"}', "each once"),
        ({"kind": "char", "vocab_size": 2}, b'{"kind": "char", "characters": 7}', "each once"),
        ({"kind": "char", "vocab_size": 2}, b"\xff", "tokenizer.json is damaged"),
        ({"kind": "char", "vocab_size": 2}, b'{"kind": "char", "characters": "abc"}', "that of another one"),
        ({"kind": "bpe", "vocab_size": 300}, b'{"kind": "char", "characters": "ab"}', "tokenizer.json is damaged"),
        ({"kind": "hf", "vocab_size": 0}, b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "it has no tokens"),
        ({"kind": "bpe", "vocab_size": 300}, b"\x00\xff", "tokenizer.json is damaged"),
        ({"kind": "ascii", "vocab_size": 127}, None, "that of another one"),
        ({"kind": "byte", "vocab_size": 256, "code": "x"}, None, "that of another one"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(
    description: dict[str, object], content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        load_tokenizer(description, tmp_path)
    assert "\n" not in str(error.value)


# --- token arrays -----------------------------------------------------------------------------------------------


def test_a_token_array_has_the_smallest_type_that_holds_the_vocabulary() -> None:
    assert token_array(CORPUS, make_tokenizer(SETTINGS["byte"], CORPUS), "test").dtype == np.uint8
    bpe = make_bpe()
    tokens = token_array(CORPUS, bpe, "validation")
    assert tokens.dtype == np.uint16
    np.testing.assert_array_equal(tokens, bpe.encode(CORPUS.splits["validation"]))


def test_an_unknown_character_of_a_corpus_names_its_split() -> None:
    with pytest.raises(CorpusError, match=r"^made-up, train split: character 'ü'"):
        token_array(CORPUS, make_tokenizer(SETTINGS["ascii"], ENGLISH), "train")
    with pytest.raises(
        CorpusError, match=(r"the corpus 'made-up' has no split 'valid' \(did you mean " r"'validation'\?\)")
    ):
        token_array(CORPUS, make_bpe(), "valid")


@pytest.fixture
def _all_texts_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.corpus.tokens.LARGE", 1)


@pytest.mark.usefixtures("_all_texts_are_large")
def test_a_large_text_is_tokenized_once_and_memory_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer(SETTINGS["char"], CORPUS)
    first = token_array(CORPUS, tokenizer, "train", tmp_path)
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    monkeypatch.setattr("tzd.corpus.tokens._encode", lambda *_: pytest.fail("tokenized again"))
    np.testing.assert_array_equal(token_array(CORPUS, tokenizer, "train", tmp_path), first)
    assert tokenizer.decode(np.asarray(first)) == CORPUS.splits["train"]
    monkeypatch.undo()
    monkeypatch.setattr("tzd.corpus.tokens.LARGE", 1)
    for other in (make_tokenizer(SETTINGS["char"], Corpus.from_text("y", TEXT + "Ω")), make_bpe()):
        token_array(CORPUS, other, "train", tmp_path)
    token_array(CORPUS, tokenizer, "test", tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.usefixtures("_all_texts_are_large")
@pytest.mark.parametrize("keep", [0, 60, -5])
def test_a_damaged_token_file_is_made_anew(keep: int, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(SETTINGS["char"], CORPUS)
    expected = np.array(token_array(CORPUS, tokenizer, "train", tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    np.testing.assert_array_equal(token_array(CORPUS, tokenizer, "train", tmp_path), expected)


@pytest.mark.usefixtures("_all_texts_are_large")
def test_a_token_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        TzdError,
        match=(r"cannot keep tokens in .+ \(No space left on device\); free " "some space, or set XDG_CACHE_HOME"),
    ):
        token_array(CORPUS, make_bpe(), "train", tmp_path)
    assert list(tmp_path.iterdir()) == []
