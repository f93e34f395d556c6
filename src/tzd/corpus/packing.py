"""Documents as tokens, one after another, with an end between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tzd.corpus.documents import Piece
from tzd.corpus.tokenizer import Tokenizer
from tzd.corpus.tokens import token_dtype
from tzd.errors import CorpusError


class Packed(NamedTuple):
    """The tokens of pieces.

    Attributes:
        tokens: (N,) of the vocabulary's type.
        token_ends: (P,) int64, how many tokens there are up to the end of each piece.
        character_ends: (P,) int64, how many characters likewise, line breaks between documents included.
        ends: (P,) bool, whether a document ends with the piece.
    """

    tokens: np.ndarray
    token_ends: np.ndarray
    character_ends: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Packer:
    """Turns pieces of documents into tokens; each piece is tokenized by itself.

    A document ends in the tokenizer's end-of-text token, or, where it has none, in a line break.

    Attributes:
        tokenizer: text -> ids.
    """

    tokenizer: Tokenizer

    def __call__(self, pieces: Iterable[Piece]) -> Packed:
        """The tokens of pieces.

        Raises:
            CorpusError: a character is outside the vocabulary.
        """
        rows, characters, ends = [], [], []
        end = self.tokenizer.eos_id
        for piece in pieces:
            broken = not piece.ends or end is not None or piece.text.endswith("\n")
            text = piece.text if broken else f"{piece.text}\n"
            try:
                tokens = self.tokenizer.encode(text)
            except CorpusError as error:
                raise CorpusError(f"{piece.where}: {error}") from error
            rows.append(np.append(tokens, np.int32(end)) if piece.ends and end is not None else tokens)
            characters.append(len(text))
            ends.append(piece.ends)
        return Packed(
            np.concatenate([np.zeros(0, np.int32), *rows]).astype(token_dtype(self.tokenizer.vocab_size)),
            np.cumsum([len(row) for row in rows], dtype=np.int64),
            np.cumsum(characters, dtype=np.int64),
            np.array(ends, bool),
        )
