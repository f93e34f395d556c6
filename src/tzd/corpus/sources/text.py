"""The user's own text: a file, several separated by commas, a folder, or a glob."""

from __future__ import annotations

import glob
from pathlib import Path

from tzd.corpus.corpus import Corpus, Source
from tzd.corpus.files import Lookup, read_text
from tzd.errors import CorpusError

DESCRIPTION = "your own text: a file, several separated by commas, a folder of .txt and .md, or a glob"
SUFFIXES = (".txt", ".md")


def _open(lookup: Lookup) -> Corpus:
    if not lookup.path:
        raise CorpusError("the corpus 'text' needs a path: data.path=FILE, FOLDER, GLOB or FILE,FILE (--data)")
    whole = lookup.find(lookup.path)
    items = [str(lookup.path)] if whole else [item.strip() for item in str(lookup.path).split(",") if item.strip()]
    # A file that two items name counts once: its second copy could land in another split than its first.
    files = dict.fromkeys(file.resolve() for item in items for file in files_of(item, lookup))
    text = "\n".join(read_text(file) for file in files)
    return Corpus.from_text("text", text, f"{lookup.path}, {len(files)} file{'s' if len(files) > 1 else ''}")


def files_of(item: str, lookup: Lookup, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files that one item names, sorted: a file, those of a folder that have one of the suffixes, or a glob's.

    Raises:
        CorpusError: there are none.
    """
    found = lookup.find(item)
    if found is None and any(sign in item for sign in "*?["):
        pattern = str(Path(item).expanduser())  # may be absolute, which Path.glob does not take
        matches = sorted(Path(match) for match in glob.iglob(pattern, recursive=True))  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
    elif found is None:
        raise lookup.missing(item)
    elif found.is_dir():
        files = sorted(file for file in found.rglob("*") if file.name.lower().endswith(suffixes) and file.is_file())
    else:
        return [found]
    if not files:
        kinds = " or ".join(suffixes)
        raise CorpusError(f"{item} holds no text: no {kinds} file in the folder, no match of the glob")
    return files


SOURCE = Source(DESCRIPTION, _open)
