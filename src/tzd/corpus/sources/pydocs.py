"""The prose of Python's language reference, which every CPython carries: English that needs no download."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping

from tzd.corpus.corpus import Corpus, Source
from tzd.corpus.files import Lookup
from tzd.errors import TzdError

DESCRIPTION = "the prose of Python's own language reference, as this Python carries it"
PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})
SHORTEST = 40  # characters; what is shorter is a heading, a signature or a cross-reference
LETTERS = 0.85  # share of letters and spaces; what has fewer is code, grammar or a table


def prose(topics: Mapping[str, str]) -> str:
    """The paragraphs of English among the topics, in the order of their names, in ASCII, a blank line between.

    The topics overlap (a fifth of them is said twice). Each paragraph is kept once, where it first stands, or the
    validation split would hold what training has seen.
    """
    paragraphs: dict[str, None] = {}
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name].translate(PLAIN)):
            paragraph = " ".join(block.split())
            if _is_prose(paragraph):
                paragraphs.setdefault(paragraph)
    return "\n\n".join(paragraphs) + "\n"


def _is_prose(paragraph: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    return len(paragraph) >= SHORTEST and letters >= LETTERS * len(paragraph) and paragraph.isascii()


def _open(lookup: Lookup) -> Corpus:
    lookup.refuse_path("pydocs")
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise TzdError(
            "this Python carries no language reference (module pydoc_data.topics); use another corpus, or the Python "
            "of python.org or uv"
        ) from error
    return Corpus.from_text("pydocs", prose(topics), f"{DESCRIPTION} ({platform.python_version()})")


SOURCE = Source(DESCRIPTION, _open)
