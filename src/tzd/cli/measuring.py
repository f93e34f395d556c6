"""What the commands that measure a model share: real text, windows of it, the judge, the table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.corpus import SPLITS, corpora, evaluation_windows, open_corpus, resolve_file
from tzd.corpus.files import read_text
from tzd.errors import CorpusError, UserError, nearest

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.evaluation.estimate import Estimate

COLUMNS = {  # column -> what the table calls it
    "nfe": "NFE",
    "characters_per_second": "chars/s",
    "judge_nats_per_char": "judge",
    "unigram_entropy": "entropy",
    "repeated_within": "8-grams again",
    "repeated_across": "elsewhere",
    "distinct_2": "distinct-2",
    "copied": "copied",
    "infill_accuracy": "infill",
}


@dataclass(frozen=True)
class RealText:
    """Text that people wrote.

    Attributes:
        what: what it is, in words.
        text: what a model is held against.
        training: the training split beside it; None for a file.
    """

    what: str
    text: str
    training: str | None = None


def real_text(data: str, *, split: str | None = None, data_dir: str | None = None, path: str | None = None) -> RealText:
    """A split of a corpus by name, or a file, which is taken whole.

    Args:
        data: the corpus, or the file.
        split: of a corpus by name, one of `tzd.corpus.PARTS`; validation if None.
        data_dir: looked into first.
        path: the file of the corpus `text`.

    Raises:
        UserError: there is no such text.
    """
    known = [name for name in corpora() if name != "text" or path is not None]
    progress = sys.stderr.isatty()
    if data in known:
        split = split or "validation"
        corpus = open_corpus(data, path=path, data_dir=data_dir, progress=progress)
        what = f"{split} split of {data}" if split in SPLITS else f"{split} text of {data}"
        return RealText(what, corpus.part(split), corpus.splits["train"])
    try:
        file = resolve_file(data, data_dir=data_dir, progress=progress)
    except CorpusError as error:
        raise UserError(f"there is no corpus '{data}'{nearest(data, known)}, and {error}") from error
    if file.is_dir():
        raise UserError(f"{file} is a folder; --data takes one file of it, or a corpus by name")
    if split is not None:
        raise UserError(f"--split is for a named corpus; {file} is a file, and scored whole")
    text = read_text(file)
    if not text:
        raise UserError(f"{file} is empty: there is nothing to read")
    return RealText(str(file), text)


def text_of(model: Model, data: str | None, *, split: str | None = None, data_dir: str | None = None) -> RealText:
    """The text that is named; the held-out part of what the model was trained on, if none is."""
    if data is not None:
        return real_text(data, split=split, data_dir=data_dir)
    settings: Mapping[str, Any] = (model.provenance or {}).get("run", {}).get("data", {})
    if settings.get("name") is None or (settings["name"] == "text" and settings.get("path") is None):
        raise UserError("nothing says which text the model was trained on: name the corpus (--data)")
    return real_text(settings["name"], split=split, data_dir=data_dir, path=settings.get("path"))


def windows_of(model: Model, real: RealText, length: int | None, limit: int) -> np.ndarray:
    """At most `limit` windows, spread over a text: (N, L) tokens; L is the model's if no length is given.

    Raises:
        UserError: the text is too short for one.
    """
    length = length or model.denoiser.seq_len
    windows = evaluation_windows(model.encode(real.text), length, limit)[0]
    if windows.shape[1] < length:
        raise UserError(f"{real.what} has fewer than {length} tokens: set a shorter --length")
    return windows


def verdict_of(path: str, engine: str | None) -> Callable[[Sequence[str]], Estimate]:
    """What the judge at `path` says of texts.

    Raises:
        UserError: it is not autoregressive.
    """
    from tzd import load
    from tzd.evaluation.frontier import judge_of
    from tzd.evaluation.judge import check_judge

    judge = load(path, engine=engine)
    check_judge(judge.denoiser)
    return judge_of(judge.denoiser, judge.encode)


def print_head(columns: Sequence[str] = tuple(COLUMNS)) -> None:
    """The names of the columns."""
    print_row(COLUMNS, "", columns)


def print_row(row: Mapping[str, Any], label: str, columns: Sequence[str] = tuple(COLUMNS)) -> None:
    """A row of `tzd.evaluation.frontier.to_rows`, each number with its standard error."""
    cells = []
    for name in columns:
        value, error = row[name], row.get(f"{name}_stderr")
        if isinstance(value, str):
            cells.append(value)
        elif value is None:
            cells.append("–")
        elif f"{name}_stderr" not in row:
            cells.append(f"{value:,.0f}" if value else "–")
        else:
            cells.append(f"{value:.3f}" + ("" if error is None else f" ±{error:.3f}"))
    print(f"{label:<34}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
