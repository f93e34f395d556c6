"""Tiny Shakespeare, about 1.1 million characters of plays, split as nanoGPT does, the held-out tenth halved."""

from __future__ import annotations

from tzd.corpus.corpus import Corpus, Source
from tzd.corpus.files import Lookup, PublishedFile, read_text

DESCRIPTION = "Tiny Shakespeare: 1,115,394 characters of plays, 65 distinct"
FILE = PublishedFile(
    name="tiny_shakespeare.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)


def _open(lookup: Lookup) -> Corpus:
    return Corpus.from_text("shakespeare", read_text(lookup.published(FILE)), DESCRIPTION)


SOURCE = Source(DESCRIPTION, _open, FILE)
