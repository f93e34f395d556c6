"""The named corpora: every module in `tzd.corpus.sources` is one, under its own name."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import tzd.corpus.sources
from tzd.corpus.corpus import Corpus, Source
from tzd.corpus.files import Lookup
from tzd.errors import ConfigError, nearest


def corpora() -> dict[str, Source]:
    """The named corpora."""
    package = tzd.corpus.sources
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return {name: importlib.import_module(f"{package.__name__}.{name}").SOURCE for name in names}


def find_corpus(name: str) -> Source:
    """A named corpus, unopened; ConfigError if there is none of that name."""
    known = corpora()
    if name not in known:
        raise ConfigError(f"unknown corpus '{name}'{nearest(name, known)}")
    return known[name]


def open_corpus(
    name: str,
    *,
    path: str | Path | None = None,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> Corpus:
    """Opens a named corpus.

    It is looked up in this order: `path`, `data_dir`, `$TZD_DATA_DIR`, `./data`, the user's cache, a download.

    Args:
        name: shakespeare, pydocs, text, text8, markov, or another that `corpora` lists.
        path: for `text`: a file, several separated by commas, a folder or a glob; for a published corpus: its file.
        data_dir: folder in which to look first.
        download: whether a published corpus that is nowhere may be downloaded.
        progress: whether a download shows a progress bar.

    Raises:
        ConfigError: there is no such corpus.
        CorpusError: its text is missing, empty, too short, not UTF-8, or not the published one.
        TzdError: the download failed.
    """
    return find_corpus(name).open(Lookup(path, data_dir, download, progress))


def resolve_file(
    path: str | Path, *, data_dir: str | Path | None = None, download: bool = True, progress: bool = False
) -> Path:
    """The file that a path means; a published one (`data/tiny_shakespeare.txt`) is downloaded if it is nowhere.

    Args:
        path: a path; if nothing is there, its namesake in the folders of the look-up, where a leading `data/` stands
            for each of them.
        data_dir: folder in which to look first.
        download: whether a published file may be downloaded.
        progress: whether a download shows a progress bar.

    Raises:
        CorpusError: there is no such file.
        TzdError: the download failed.
    """
    lookup = Lookup(None, data_dir, download, progress)
    found = lookup.find(path)
    if found is not None:
        return found
    published = [source.file for source in corpora().values() if source.file]
    file = next((file for file in published if Path(path) in (Path(file.name), Path("data", file.name))), None)
    if file is None:
        raise lookup.missing(path)
    return lookup.published(file)
