"""A run that was saved: replayed, shared and drawn anywhere, without the model.

The file is a `.npz` of plain numbers, and one array that is JSON. It may come from anybody: its headers are looked at
before anything is unpacked, and every number before it is used.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tzd.checkpoint import npz
from tzd.checkpoint.durable import replace_file
from tzd.errors import CheckpointError, UserError
from tzd.printable import printable
from tzd.sampling import Frame
from tzd.untrusted import parse_json
from tzd.viewers.film import BLANK, Change, Film
from tzd.viewers.html import ROWS, player_html
from tzd.viewers.panel import Panel
from tzd.viewers.save import check_folder, save

VERSION = 1  # of the format
_MARK = "tzd_trace"  # the array that holds the version; no weights are called so
_TYPES: dict[str, tuple[str, int]] = {  # type and number of dimensions of every array
    _MARK: ("int64", 0),
    "shape": ("int64", 1),  # B, T
    "lengths": ("int64", 1),  # (B,)
    "step": ("int64", 1),  # (F,) of each frame, as are the next three
    "nfe": ("int64", 1),
    "generation": ("int64", 1),  # -1 where there is none
    "changes": ("int64", 1),  # how many cells change
    "cell": ("int32", 1),  # (N,) flat index in (B, T), frame by frame in ascending order
    "token": ("int32", 1),  # (N,) -1 where the cell is blank
    "confidence": ("float32", 1),  # (N,)
    "flags": ("uint8", 1),  # (N,) 1: revealed, 2: alive
    "json": ("uint8", 1),  # title, columns, pieces, mask_id, lives, about
}
_LARGEST, _LONGEST = 2**28, 2**24  # bytes that a file may unpack to; of its json
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_LINE, _TALLEST, _CONTROLS = 80, 720, 230  # of a player in a notebook: cells of a line; pixels
_CELLS, _FRAMES = 2**22, 2**16  # of a frame; of a run


@dataclass(frozen=True, eq=False)
class Trace:
    """A sampler's run.

    Attributes:
        panel: what its frames do not say themselves.
        frames: one for each step; they can be iterated over any number of times.
        about: what it was made with, as plain JSON: sampler, settings, seed, model, version, text.
    """

    panel: Panel
    frames: Collection[Frame] = field(repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Reads a trace; see `read_trace`."""
        return read_trace(Path(path))

    @property
    def text(self) -> list[str]:
        """The finished texts: those that were saved with it, or the last frame's tokens side by side."""
        said, last = self.about.get("text"), self._last
        if isinstance(said, list) and len(said) == len(last.tokens) and all(isinstance(text, str) for text in said):
            return list(said)
        cells = self.panel.cells(last)
        known = [*self.panel.pieces, "", ""]
        return ["".join(known[cell] for cell in row) for row in cells.tolist()]

    @property
    def _last(self) -> Frame:
        return deque(self.frames, maxlen=1)[0]  # they are made one by one, and may not all fit into memory

    def _repr_html_(self) -> str:
        """A player in a notebook, in a frame of its own that can reach nothing else."""
        page, (last,) = player_html([self.panel], ((frame,) for frame in self.frames))
        rows, width = last.tokens[:ROWS].shape
        lines = rows * -(-width * self.panel.width // (self.panel.columns or _LINE))
        height = min(_TALLEST, _CONTROLS + 24 * lines)
        style = f"width:100%;height:{height}px;border:0;border-radius:8px"
        return f'<iframe sandbox="allow-scripts" style="{style}" title="A run" srcdoc="{escape(page)}"></iframe>'

    def save(self, path: str | Path, *, speed: float | None = None, theme: str | None = None) -> Path:
        """Writes it: `.npz` to be loaded again, or a picture, an animation or a page.

        Args:
            path: .npz, or an ending that `tzd.viewers.save.save` takes.
            speed: frames a second of an animation.
            theme: "dark" or "light"; if None, dark, and a page as its reader's system is set.

        Raises:
            UserError: the ending is none of these, something else is there, or the run is longer than a trace can be.
            TzdError: it cannot be written; what was there is as it was.
        """
        path = Path(path)
        if path.suffix == npz.NPZ:
            check_ending(path)
            replace_file(path, _packed(self, path))
        else:
            save([self.panel], ((frame,) for frame in self.frames), path, speed=speed, theme=theme)
        return path


def check_ending(path: Path) -> None:
    """Says before anything heavy is done whether a trace can be written there.

    Raises:
        UserError: another ending, no such folder, or a file that is something else.
    """
    if path.suffix != npz.NPZ:
        raise UserError(f"cannot write {path}: a trace ends in {npz.NPZ}")
    check_folder(path)
    if path.exists() and not is_trace(path):  # weights end alike
        raise UserError(f"cannot write {path}: it exists, and is no trace; choose another name")


def is_trace(path: str | Path) -> bool:
    """Whether a file is a trace, rather than weights or anything else; a damaged one may be none."""
    if not Path(path).is_file():  # a pipe might never end
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return f"{_MARK}.npy" in file.namelist()
    except Exception:  # no such file, no zip file, or a damaged one
        return False


def read_trace(path: str | Path) -> Trace:
    """A trace from a file.

    Raises:
        CheckpointError: there is none, it is damaged, larger than any run, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no trace {path}: give a file that --save-trace wrote")
    _check_headers(path)
    arrays = npz.read_exact(path)
    _check_numbers(path, arrays)
    said = _read_json(path, arrays["json"].tobytes())
    _check_tokens(path, arrays, said)
    ends = np.cumsum(arrays["changes"])[:-1]
    cells, tokens, confidence, flags = (
        np.split(arrays[name], ends) for name in ("cell", "token", "confidence", "flags")
    )
    changes = [
        Change(step, nfe, None if generation < 0 else generation, *change)
        for step, nfe, generation, *change in zip(
            *(arrays[name].tolist() for name in ("step", "nfe", "generation")),
            cells, tokens, confidence, flags, strict=True,
        )
    ]  # fmt: skip
    film = Film(arrays["lengths"], int(arrays["shape"][1]), said["mask_id"], said["lives"], changes)
    panel = Panel(said["title"], said["pieces"], said["columns"])
    return Trace(panel, film, said["about"])


def _packed(trace: Trace, path: Path) -> bytes:
    film = trace.frames if isinstance(trace.frames, Film) else Film.of(trace.frames)
    changes, panel = film.changes, trace.panel
    used = np.concatenate([change.tokens[change.tokens != film.mask_id] for change in changes])
    unknown = int(used.max(initial=BLANK)) + 1 - len(panel.pieces)  # a head may be wider than its tokenizer
    said = {
        "title": panel.title,
        "columns": panel.columns,
        "mask_id": film.mask_id,
        "lives": film.lives,
        "pieces": [*panel.pieces, *[_UNKNOWN] * unknown],
        "about": dict(trace.about),
    }
    arrays: dict[str, Any] = {
        _MARK: VERSION,
        "shape": (len(film.lengths), film.width),
        "lengths": film.lengths,
        "step": [change.step for change in changes],
        "nfe": [change.nfe for change in changes],
        "generation": [-1 if change.generation is None else change.generation for change in changes],
        "changes": [len(change.cells) for change in changes],
        "cell": np.concatenate([change.cells for change in changes]),
        "token": np.concatenate([change.tokens for change in changes]),
        "confidence": np.concatenate([change.confidence for change in changes]),
        "flags": np.concatenate([change.flags for change in changes]),
        "json": np.frombuffer(json.dumps(said, default=_plain).encode(), np.uint8),
    }
    packed = io.BytesIO()
    typed: dict[str, Any] = {name: np.asarray(arrays[name], kind) for name, (kind, _) in _TYPES.items()}
    excess = _excess({name: (array.shape, array.dtype) for name, array in typed.items()})
    if excess:
        raise UserError(f"cannot write {path}: {excess}; keep a shorter run")
    np.savez_compressed(packed, **typed)
    return packed.getvalue()


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers of NumPy's, and whatever else a setting was."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _require(holds: Any, path: Path, what: str) -> None:
    if not holds:
        raise CheckpointError(f"{path} is a damaged trace: {what}; get the file again")


def _check_headers(path: Path) -> None:
    """Sees to it that what is about to be unpacked is what a trace holds, and fits into memory."""
    headers = npz.read_headers(path)
    if _MARK not in headers:
        raise CheckpointError(f"{path} is no trace: give a file that --save-trace wrote")
    missing, foreign = sorted(_TYPES.keys() - headers), sorted(map(printable, headers.keys() - _TYPES))
    if missing or foreign:  # of a newer format, or damaged: the version may only be read where it has its type
        what = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(foreign[:3])}"
        raise CheckpointError(f"{path} {what}: it is damaged, or of a newer format; get it again, or update tzd")
    for name, (kind, dimensions) in _TYPES.items():
        shape, dtype = headers[name]
        _require(dtype == np.dtype(kind) and len(shape) == dimensions, path, f"{name} is {dtype} of shape {shape}")
    for like, names in (("changes", ("step", "nfe", "generation")), ("cell", ("token", "confidence", "flags"))):
        for name in names:
            _require(headers[name][0] == headers[like][0], path, f"{name} and {like} differ in length")
    excess = _excess(headers)
    _require(not excess, path, excess)
    _require(headers["changes"][0][0] >= 1, path, "it has no frames")


def _excess(headers: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> str:
    """What of a trace would be too large to be read; empty if nothing."""
    size = sum(dtype.itemsize * math.prod(shape) for shape, dtype in headers.values())
    for what, number, most in (
        ("frames", headers["changes"][0][0], _FRAMES),
        ("bytes of json", headers["json"][0][0], _LONGEST),
        ("bytes", size, _LARGEST),
    ):
        if number > most:
            return f"{number} {what}, where a trace has {most} at most"
    return ""


def _check_numbers(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Sees to it that every number lies in its range."""
    version = int(arrays[_MARK])
    if version != VERSION:
        raise CheckpointError(f"{path} has format {version}, this version of tzd reads {VERSION}: update tzd")
    _require(arrays["shape"].shape == (2,), path, "its shape has no two numbers")
    rows, width = arrays["shape"].tolist()
    _require(rows >= 1 and width >= 1 and rows * width <= _CELLS, path, f"a canvas of ({rows}, {width})")
    lengths = arrays["lengths"]
    fits = lengths.shape == (rows,) and _within(lengths, 1, width)
    _require(fits, path, "its lengths do not fit the canvas")
    for name in ("step", "nfe"):
        rises = _within(arrays[name], 0, 2**53) and (np.diff(arrays[name]) >= 0).all()
        _require(rises, path, f"{name} goes backwards")
    _require(_within(arrays["generation"], -1, 2**53), path, "a generation below 0")
    changes, cell = arrays["changes"], arrays["cell"]
    counted = _within(changes, 0, len(cell)) and changes.sum() == len(cell)
    _require(counted, path, "it counts other changes than it holds")
    place = np.repeat(np.arange(len(changes)) * rows * width, changes) + cell
    _require(_within(cell, 0, rows * width - 1) and (np.diff(place) > 0).all(), path, "cells outside their order")
    certain = arrays["confidence"]
    _require(np.isfinite(certain).all() and _within(certain, 0, 1.01), path, "confidences outside 0..1")
    _require(_within(arrays["flags"], 0, 3), path, "flags that nothing means")


def _within(values: np.ndarray, least: float, most: float) -> bool:
    return not values.size or bool(values.min() >= least and values.max() <= most)


def _read_json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        said = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is a damaged trace: its json is none; get the file again") from error
    kinds: dict[str, Any] = {
        "title": str, "columns": int | None, "mask_id": int, "lives": bool, "pieces": list, "about": dict,
    }  # fmt: skip
    _require(isinstance(said, dict) and said.keys() == kinds.keys(), path, "its json has other keys")
    for key, kind in kinds.items():
        right = isinstance(said[key], kind) and (kind is bool or not isinstance(said[key], bool))
        _require(right, path, f"its {key} is of type {type(said[key]).__name__}")
    _require(said["columns"] is None or 1 <= said["columns"] <= _CELLS, path, f"{said['columns']} columns")
    _require(
        all(isinstance(piece, str) for piece in said["pieces"]) and said["pieces"], path, "pieces that are no texts"
    )
    _require(BLANK <= said["mask_id"] < 2**31, path, f"mask_id {said['mask_id']}")
    return said


def _check_tokens(path: Path, arrays: Mapping[str, np.ndarray], said: Mapping[str, Any]) -> None:
    tokens, known = arrays["token"], len(said["pieces"])
    wrong = (tokens < BLANK) | ((tokens >= known) & (tokens != said["mask_id"]))
    _require(not wrong.any(), path, f"tokens outside 0..{known - 1}")
