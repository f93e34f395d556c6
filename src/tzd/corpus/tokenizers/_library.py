"""A tokenizer of the `tokenizers` library, in its own file format; what `bpe` and `hf` share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.corpus.tokenizer import FILE, check_tokens, place, utf8
from tzd.errors import CorpusError

if TYPE_CHECKING:
    import tokenizers

_LARGEST = 1 << 21  # tokens of a vocabulary; the largest ones that there are have an eighth of that
_GROWTH = 1024  # times as long as it was may a text be made by replacements, one after another


@dataclass(frozen=True)
class LibraryTokenizer:
    """A `Tokenizer` that wraps one of the library's.

    Attributes:
        kind: bpe or hf.
        library: the library's own; it neither truncates nor pads.
        mask_id: see `Tokenizer.mask_id`.
        eos_id: see `Tokenizer.eos_id`.
    """

    kind: str
    library: tokenizers.Tokenizer
    mask_id: int | None = None
    eos_id: int | None = None

    def __post_init__(self) -> None:
        self.library.no_truncation()
        self.library.no_padding()
        if not self.library.get_vocab_size():
            raise ValueError("it has no tokens")
        if self.vocab_size > _LARGEST:
            raise ValueError(f"it has a token of the number {self.vocab_size - 1}, where {_LARGEST - 1} is the largest")
        for name, token in self._special().items():
            if type(token) is not int or not 0 <= token < self.vocab_size:
                raise ValueError(f"{name} must be one of its {self.vocab_size} tokens, not {token!r}")

    @cached_property
    def vocab_size(self) -> int:
        """One past the largest id, V: a published vocabulary can have holes."""
        return max(self.library.get_vocab().values()) + 1

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer.encode`; no special token is added, and the mask token is an error.

        Other special tokens are taken where the text names them, as chat templates do.
        """
        utf8(text, self.kind)
        # A long text is given in parts, for the library keeps a hundred bytes and more for every token of a part.
        # Other than `bpe`, a tokenizer may look across any boundary.
        parts = chunks(text) if self.kind == "bpe" else [text]
        with _no_panic():
            encoded = [self.library.encode(part, add_special_tokens=False) for part in parts]
        tokens = np.concatenate([np.asarray(part.ids, np.int32) for part in encoded] or [np.zeros(0, np.int32)])
        if self.mask_id is not None and (tokens == self.mask_id).any():
            mask = self.library.id_to_token(self.mask_id)
            where = place(text, max(0, text.find(mask)))
            raise CorpusError(
                f"the text holds the tokenizer's mask token {mask!r} at {where}, which would be taken for a blank;"
                " write it otherwise"
            )
        return tokens

    def decode(self, tokens: np.ndarray) -> str:
        """See `Tokenizer.decode`."""
        ids = check_tokens(tokens, self.vocab_size).tolist()
        with _no_panic():
            text: str = self.library.decode(ids, skip_special_tokens=False)
        return text

    def pieces(self, tokens: np.ndarray) -> list[str]:
        """See `Tokenizer.pieces`; a token that is part of a character is U+FFFD.

        Each is decoded behind another token, since some decoders strip the space that begins a text.
        """
        ids, inverse = np.unique(check_tokens(tokens, self.vocab_size), return_inverse=True)
        before = self.encode("a")[-1:]
        start = len(self.decode(before))
        texts = [self.decode(np.append(before, i))[start:] for i in ids]
        return [texts[i] for i in inverse]

    def describe(self) -> dict[str, Any]:
        """See `Tokenizer.describe`."""
        return {"kind": self.kind, "vocab_size": self.vocab_size, **self._special()}

    def _special(self) -> dict[str, int]:
        """The special tokens that there are, by the names of the attributes."""
        tokens = {"mask_id": self.mask_id, "eos_id": self.eos_id}
        return {name: token for name, token in tokens.items() if token is not None}

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the library would put before and behind a text, such as [CLS] and [SEP]."""
        with _no_panic():
            encoded = self.library.encode("a")
        added = np.asarray(encoded.special_tokens_mask, bool)
        first = int(np.argmin(added))  # the text's own tokens are not special
        last = len(added) - int(np.argmin(added[::-1]))
        return encoded.ids[:first], encoded.ids[last:]

    def files(self) -> dict[str, bytes]:
        """See `Tokenizer.files`."""
        return {FILE: self.library.to_str().encode()}


def chunks(text: str, size: int = 1 << 20) -> Iterator[str]:
    """A text in parts of at least `size` characters, cut where a word ends.

    A byte-level BPE never joins what stands before white space with the white space, so the parts have the tokens of
    the whole.
    """
    boundary, start = re.compile(r"(?<=\S)(?=\s)"), 0
    while start < len(text):
        cut = boundary.search(text, start + size)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def load_library(content: bytes) -> tokenizers.Tokenizer:
    """The library's tokenizer of its file; ValueError if it is none."""
    import tokenizers

    try:
        with _no_panic():
            library = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    except CorpusError as error:
        raise ValueError(f"no file of the tokenizers library ({error.__cause__})") from error
    except ValueError:
        raise
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"no file of the tokenizers library ({error})") from error
    for part in (library.normalizer, library.decoder):
        if part is not None and (growth := _growth(json.loads(part.__getstate__()))) > _GROWTH:
            raise ValueError(f"its replacements can make a text {growth:.3g} times as long, {_GROWTH} are allowed")
    return library


@contextmanager
def _no_panic() -> Iterator[None]:
    """Where the library gives up, as its regular expressions do, it raises what is not even an Exception."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ != "PanicException":
            raise
        raise CorpusError(f"the tokenizer gives up at this text ({error}); change the text, or its rules") from error


def _growth(rule: Any) -> float:
    """How many times as long a normalizer or decoder, as its JSON, can make a text."""
    growth = 1.0
    for part in rule.get("normalizers") or rule.get("decoders") or ():
        growth *= _growth(part)
    if rule.get("type") == "Replace":
        replaced = rule["pattern"].get("String")  # a regular expression may match nothing, before each character
        growth = max(1.0, len(rule["content"]) / len(replaced) if replaced else len(rule["content"]) + 1)
    return growth
