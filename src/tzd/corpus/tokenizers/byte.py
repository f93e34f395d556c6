"""The 256 bytes of UTF-8: it holds any text; what a model writes that is no UTF-8 becomes U+FFFD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tzd.corpus.tokenizer import Kind, check_tokens, utf8


@dataclass(frozen=True)
class ByteTokenizer:
    """A `Tokenizer` whose tokens are bytes."""

    kind: ClassVar[str] = "byte"
    vocab_size: ClassVar[int] = 256
    mask_id: ClassVar[int | None] = None
    eos_id: ClassVar[int | None] = None

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer.encode`."""
        return np.frombuffer(utf8(text, self.kind), np.uint8).astype(np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """See `Tokenizer.decode`."""
        return self._bytes(tokens).decode("utf-8", "replace")

    def pieces(self, tokens: np.ndarray) -> list[str]:
        """See `Tokenizer.pieces`; a byte that is no character by itself is U+FFFD."""
        return list(self._bytes(tokens).decode("ascii", "replace"))  # one U+FFFD for every byte beyond ASCII

    def _bytes(self, tokens: np.ndarray) -> bytes:
        return check_tokens(tokens, self.vocab_size).astype(np.uint8).tobytes()

    def describe(self) -> dict[str, Any]:
        """See `Tokenizer.describe`."""
        return {"kind": self.kind, "vocab_size": self.vocab_size}

    def files(self) -> dict[str, bytes]:
        """See `Tokenizer.files`."""
        return {}


_TOKENIZER = ByteTokenizer()

KIND = Kind(make=lambda settings, corpus: _TOKENIZER, load=lambda description, content: _TOKENIZER)
