"""From texts to windows: named corpora, tokenizers, splits, and the order of windows."""

from tzd.corpus.corpus import PARTS, SPLITS, Corpus, Source
from tzd.corpus.files import Lookup
from tzd.corpus.registry import corpora, find_corpus, open_corpus, resolve_file
from tzd.corpus.sources.markov import MarkovSource
from tzd.corpus.tokenizer import Tokenizer, describe_file, load_tokenizer, make_tokenizer
from tzd.corpus.tokens import token_array
from tzd.corpus.windows import Batch, Windows, evaluation_windows

__all__ = [
    "PARTS",
    "SPLITS",
    "Batch",
    "Corpus",
    "Lookup",
    "MarkovSource",
    "Source",
    "Tokenizer",
    "Windows",
    "corpora",
    "describe_file",
    "evaluation_windows",
    "find_corpus",
    "load_tokenizer",
    "make_tokenizer",
    "open_corpus",
    "resolve_file",
    "token_array",
]
