"""The 128 codes of ASCII, as in Tiny Diffusion: a character's token is its code. Anything else is an error."""

from __future__ import annotations

from tzd.corpus.tokenizer import Kind
from tzd.corpus.tokenizers._characters import CharacterTokenizer

_TOKENIZER = CharacterTokenizer("ascii", bytes(range(128)).decode("ascii"))

KIND = Kind(make=lambda settings, corpus: _TOKENIZER, load=lambda description, content: _TOKENIZER)
