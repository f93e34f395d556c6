"""text8: the first 10^8 characters of a cleaned English Wikipedia, in the field's splits of 90, 5 and 5 million."""

from __future__ import annotations

import zipfile

from tzd.corpus.corpus import Corpus, Source
from tzd.corpus.files import Lookup, PublishedFile

DESCRIPTION = "text8: 100,000,000 characters of Wikipedia, a to z and the space (a download of 31 MB)"
FILE = PublishedFile(
    name="text8.zip",
    url="https://mattmahoney.net/dc/text8.zip",
    sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
)


def _open(lookup: Lookup) -> Corpus:
    # The look-up has checked the file's hash: what the archive unpacks to is known.
    with zipfile.ZipFile(lookup.published(FILE)) as archive:
        return Corpus.from_text("text8", archive.read("text8").decode("ascii"), DESCRIPTION)


SOURCE = Source(DESCRIPTION, _open, FILE)
