"""One token per character, by table look-up; what `ascii` and `char` share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from tzd.corpus.tokenizer import FILE, check_tokens, unknown_character

_UTF32 = "utf-32-le"  # one code point in four bytes; "surrogatepass": what is no character must not pass unseen


@dataclass(frozen=True)
class CharacterTokenizer:
    """A `Tokenizer` whose i-th token is the i-th of some characters.

    Attributes:
        kind: ascii or char.
        characters: the vocabulary, each character once.
    """

    kind: str
    characters: str
    mask_id: ClassVar[int | None] = None
    eos_id: ClassVar[int | None] = None

    @property
    def vocab_size(self) -> int:
        """Number of characters, V."""
        return len(self.characters)

    @cached_property
    def _codes(self) -> np.ndarray:
        """(V,) code point of each token."""
        return np.frombuffer(self.characters.encode(_UTF32, "surrogatepass"), np.uint32)

    @cached_property
    def _ids(self) -> np.ndarray:
        """Token of each code point, -1 where there is none: of all of ASCII, and to one past the largest known."""
        ids = np.full(max(int(self._codes.max()), 127) + 2, -1, np.int32)
        ids[self._codes] = np.arange(self.vocab_size)
        return ids

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer.encode`."""
        if text.isascii():  # a quarter of the memory, which tells for large texts
            codes = np.frombuffer(text.encode("ascii"), np.uint8)
        else:
            codes = np.frombuffer(text.encode(_UTF32, "surrogatepass"), np.uint32)
            codes = np.minimum(codes, len(self._ids) - 1)
        tokens = self._ids[codes]
        if tokens.size and tokens.min() < 0:
            raise unknown_character(text, int(tokens.argmin()), self.kind)
        return tokens

    def decode(self, tokens: np.ndarray) -> str:
        """See `Tokenizer.decode`."""
        return self._codes[check_tokens(tokens, self.vocab_size)].tobytes().decode(_UTF32, "surrogatepass")

    def pieces(self, tokens: np.ndarray) -> list[str]:
        """See `Tokenizer.pieces`."""
        return list(self.decode(tokens))

    def describe(self) -> dict[str, Any]:
        """See `Tokenizer.describe`."""
        return {"kind": self.kind, "vocab_size": self.vocab_size}

    def files(self) -> dict[str, bytes]:
        """See `Tokenizer.files`; none for `ascii`, which always has the same characters."""
        if self.kind == "ascii":
            return {}
        return {FILE: json.dumps({"kind": self.kind, "characters": self.characters}).encode()}
