"""A tokenizer of the `tokenizers` library, in its own file format; what `bpe` and `hf` share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.corpus.tokenizer import FILE, check_tokens, utf8

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class LibraryTokenizer:
    """A `Tokenizer` that wraps one of the library's.

    Attributes:
        kind: bpe or hf.
        library: the library's own; it neither truncates nor pads.
    """

    kind: str
    library: tokenizers.Tokenizer

    def __post_init__(self) -> None:
        self.library.no_truncation()
        self.library.no_padding()
        if not self.library.get_vocab_size():
            raise ValueError("it has no tokens")

    @cached_property
    def vocab_size(self) -> int:
        """One past the largest id, V: a published vocabulary can have holes."""
        return max(self.library.get_vocab().values()) + 1

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer.encode`; no special token is added."""
        utf8(text, self.kind)
        # A long text is given in parts, for the library keeps a hundred bytes and more for every token of a part.
        # Other than `bpe`, a tokenizer may look across any boundary.
        parts = chunks(text) if self.kind == "bpe" else [text]
        encoded = [self.library.encode(part, add_special_tokens=False).ids for part in parts]
        return np.concatenate([np.asarray(ids, np.int32) for ids in encoded] or [np.zeros(0, np.int32)])

    def decode(self, tokens: np.ndarray) -> str:
        """See `Tokenizer.decode`."""
        ids = check_tokens(tokens, self.vocab_size).tolist()
        return self.library.decode(ids, skip_special_tokens=False)

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
        return {"kind": self.kind, "vocab_size": self.vocab_size}

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
        return tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    except ValueError:
        raise
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"no file of the tokenizers library ({error})") from error
