"""The corpus's own characters, in the order of their code points, as in nanoGPT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tzd.config import TokenizerSettings
from tzd.corpus.corpus import Texts
from tzd.corpus.tokenizer import Kind
from tzd.corpus.tokenizers._characters import CharacterTokenizer
from tzd.untrusted import parse_json


def _make(settings: TokenizerSettings, corpus: Texts) -> CharacterTokenizer:
    return CharacterTokenizer("char", "".join(sorted(corpus.alphabet())))


def _load(description: Mapping[str, Any], content: bytes) -> CharacterTokenizer:
    data = parse_json(content)
    characters = data.get("characters") if isinstance(data, dict) and data.get("kind") == "char" else None
    if not isinstance(characters, str) or not characters or len(set(characters)) != len(characters):
        raise ValueError("it does not list the characters of a 'char' tokenizer, each once")
    return CharacterTokenizer("char", characters)


KIND = Kind(_make, _load, has_file=True)
