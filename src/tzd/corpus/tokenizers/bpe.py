"""Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019), trained on the training split."""

from __future__ import annotations

from collections.abc import Iterator

from tzd.config import TokenizerSettings
from tzd.corpus.corpus import Texts
from tzd.corpus.tokenizer import Kind, utf8
from tzd.corpus.tokenizers._library import LibraryTokenizer, chunks, load_library
from tzd.mapping import require


def _make(settings: TokenizerSettings, corpus: Texts) -> LibraryTokenizer:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    size = settings.vocab_size or 0
    require(256 <= size <= 1 << 20, f"tokenizer.vocab_size must lie in 256..{1 << 20} for bpe, not {size}")
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()  # all 256 bytes: nothing is ever unknown
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(_parts(corpus), trainer)
    return LibraryTokenizer("bpe", library)


def _parts(corpus: Texts) -> Iterator[str]:
    for text in corpus.training_texts():
        utf8(text, "bpe")
        yield from chunks(text)


KIND = Kind(
    make=_make,
    load=lambda description, content: LibraryTokenizer("bpe", load_library(content)),
    setting="vocab_size",
    has_file=True,
)
