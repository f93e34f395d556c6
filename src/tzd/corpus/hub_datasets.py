"""Datasets of Hugging Face's library: from the hub, a folder, or a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tzd.config import DataSettings
from tzd.errors import CorpusError, MissingExtraError, first_line

READERS = {  # of the library, by the ending of a file's name
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "text",
}


def load_splits(settings: DataSettings, *, streaming: bool, progress: bool = False) -> Mapping[str, Any]:
    """The splits of the dataset that `data.dataset` and `data.subset` name.

    Args:
        settings: the group `data`.
        streaming: whether rows are read as they are asked for, and nothing is kept on the disk.
        progress: whether a download shows how far it is.

    Returns:
        The library's own dataset of each split; "train" is one of them.

    Raises:
        CorpusError: there is no such dataset, or it has no split "train".
        MissingExtraError: the library is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"data.dataset={settings.dataset}", "datasets") from error
    if "torch" not in sys.modules:
        datasets.config.TORCH_AVAILABLE = False  # or a stream would import it, to be a class of its DataLoader's too
    if not progress:
        datasets.disable_progress_bars()
    path = Path(str(settings.dataset)).expanduser()
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    reader = READERS.get(name.suffix.lower())
    try:
        if path.is_file() and reader:
            loaded = datasets.load_dataset(reader, data_files=str(path), streaming=streaming)
        else:
            where = str(path) if path.exists() else settings.dataset
            loaded = datasets.load_dataset(where, settings.subset, streaming=streaming)
    except Exception as error:  # the library raises what its dozen readers raise
        raise CorpusError(
            f"data.dataset={settings.dataset} cannot be had ({first_line(error)}); give a name on the hub (and"
            f" data.subset, where it has several), a folder, or a file that ends in {', '.join(READERS)}"
        ) from error
    if "train" not in loaded:
        raise CorpusError(
            f"data.dataset={settings.dataset} has no split 'train', only {', '.join(loaded)}: give one that has"
        )
    return loaded
