"""The tokens of a split as one array: in memory, or, where the text is large, tokenized once and memory-mapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from tzd.corpus.corpus import SPLITS, Corpus
from tzd.corpus.files import cache_folder
from tzd.corpus.tokenizer import Tokenizer
from tzd.errors import CorpusError, TzdError, nearest

LARGE = 16 << 20  # characters from which a split's tokens are kept in a file


def token_array(corpus: Corpus, tokenizer: Tokenizer, split: str, cache_dir: str | Path | None = None) -> np.ndarray:
    """The tokens of a split.

    Args:
        corpus: what is tokenized.
        tokenizer: by what.
        split: train, validation or test.
        cache_dir: where the tokens of a large text are kept; the user's cache if not given.

    Returns:
        (N,) uint8, uint16 or int32, the smallest that holds the vocabulary; memory-mapped and read-only if large.

    Raises:
        CorpusError: there is no such split, or a character is outside the vocabulary.
        TzdError: the cache cannot be written; nothing half-written is left there.
    """
    if split not in corpus.splits:
        raise CorpusError(f"the corpus '{corpus.name}' has no split '{split}'{nearest(split, SPLITS)}")
    if len(corpus.splits[split]) < LARGE:
        return _encode(corpus, tokenizer, split)
    folder = Path(cache_dir).expanduser() if cache_dir else cache_folder("tokens")
    path = folder / f"{corpus.name}-{split}-{_fingerprint(corpus, tokenizer)}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # there is none, or a damaged one
        return np.load(path, mmap_mode="r", allow_pickle=False)
    _write(path, _encode(corpus, tokenizer, split))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _encode(corpus: Corpus, tokenizer: Tokenizer, split: str) -> np.ndarray:
    try:
        tokens = tokenizer.encode(corpus.splits[split])
    except CorpusError as error:
        raise CorpusError(f"{corpus.name}, {split} split: {error}") from error
    return tokens.astype(token_dtype(tokenizer.vocab_size))


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds a vocabulary: uint8, uint16 or int32, the first byte the lowest."""
    return next(np.dtype(name) for name in ("|u1", "<u2", "<i4") if vocab_size - 1 <= np.iinfo(name).max)


def _fingerprint(corpus: Corpus, tokenizer: Tokenizer) -> str:
    """What decides the tokens: the corpus, and all that a tokenizer is."""
    digest = hashlib.sha256(corpus.sha256.encode())
    digest.update(json.dumps(tokenizer.describe(), sort_keys=True).encode())
    for name, content in sorted(tokenizer.files().items()):
        digest.update(name.encode() + content)
    return digest.hexdigest()[:32]


def _write(path: Path, tokens: np.ndarray) -> None:
    """Writes an array beside its target and renames it: other processes see all of it or nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, tokens, allow_pickle=False)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise TzdError(
            f"cannot keep tokens in {path.parent} ({error.strerror or error}); free some space, or set XDG_CACHE_HOME"
        ) from error
