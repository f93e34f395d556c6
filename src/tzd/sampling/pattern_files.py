"""Patterns of cells in files: plaintext (`.cells`) and Golly's run lengths (`.rle`), for Conway's rule."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tzd.corpus.files import read_text
from tzd.errors import UserError

ENDINGS = (".cells", ".rle")
LONGEST_SIDE = 256  # of a pattern, as of a board
_LARGEST_FILE = 1 << 20  # bytes: comments and a cell per byte leave it far below
_LONGEST_HEADER = 200  # characters
_HEADER = re.compile(r"x\s*=\s*(\d{1,9})\s*,\s*y\s*=\s*(\d{1,9})\s*(?:,\s*rule\s*=\s*(.*?)\s*)?", re.ASCII)
_ITEM = re.compile(r"([0-9]*)([bo$!])|\s+")
_CONWAY = {"b3/s23", "23/3", "life", "conway's life"}


def read_pattern(path: str | Path) -> np.ndarray:
    """The cells of a file, (h, w) bool.

    Raises:
        UserError: the file cannot be read, holds something else, another rule than Conway's, or too many cells.
    """
    path = Path(path).expanduser()
    if path.exists() and not path.is_file():
        raise UserError(f"cannot read {path}: it is no file")  # a pipe or a device might never end
    if path.exists() and path.stat().st_size > _LARGEST_FILE:
        raise UserError(f"{path} has more than {_LARGEST_FILE >> 20} MB: this is no pattern for a board")
    text = read_text(path)
    return (read_rle if path.suffix.lower() == ".rle" else read_cells)(text, str(path))


def read_cells(text: str, what: str) -> np.ndarray:
    """Cells of a plaintext: `.` is dead, `O` or `*` alive, lines that begin with `!` are comments.

    Args:
        text: the file's.
        what: its name, for messages.

    Returns:
        (h, w) bool; short lines end in dead cells.

    Raises:
        UserError: a sign that is none of these, or too many of them.
    """
    rows: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("!"):
            continue
        row = line.rstrip()
        if wrong := re.search(r"[^.O*]", row):
            raise _error(what, number, f"{wrong[0]!r} is no cell: '.' is dead, 'O' alive, '!' begins a comment")
        rows.append((number, row))
    while rows and not rows[-1][1]:
        rows.pop()
    height, width = len(rows), max((len(row) for _, row in rows), default=0)
    if max(height, width) > LONGEST_SIDE:
        raise _error(what, rows[-1][0], f"{height} lines of {width} cells are more than {LONGEST_SIDE} a side")
    if not width:
        raise UserError(f"{what} holds no cells")
    return np.array([[cell != "." for cell in row.ljust(width, ".")] for _, row in rows])


def read_rle(text: str, what: str) -> np.ndarray:
    """Cells by run lengths: a line `x = …, y = …, rule = B3/S23`, then counts of `b` (dead), `o` and `$`, and a `!`.

    Lines that begin with `#` are comments.

    Args:
        text: the file's.
        what: its name, for messages.

    Returns:
        (y, x) bool.

    Raises:
        UserError: no such line, another rule, a run beyond x or y, or a sign that means nothing.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise UserError(f"{what} has no line 'x = WIDTH, y = HEIGHT', with which cells begin")
    width, height = _size(*lines[0], what)
    cells, row, column = np.zeros((height, width), dtype=bool), 0, 0
    for number, line in lines[1:]:
        at = 0
        while at < len(line):
            item = _ITEM.match(line, at)
            if item is None:
                raise _error(
                    what, number, f"{line[at]!r} in column {at + 1} is none of b, o, $, ! with a count before it"
                )
            at, (count, tag) = item.end(), item.groups()
            if tag is None:
                continue
            if tag == "!":
                return cells
            if len(count) > 9 or not (run := int(count or 1)):
                raise _error(what, number, f"a run of {count[:12]} is not one of 1 to {LONGEST_SIDE}")
            if tag == "$":
                row, column = row + run, 0
                continue
            if row >= height or column + run > width:
                raise _error(what, number, f"a cell lies outside x = {width}, y = {height}")
            cells[row, column : column + run] = tag == "o"
            column += run
    raise _error(what, lines[-1][0], "the cells do not end with '!': the file is not whole")


def _size(number: int, line: str, what: str) -> tuple[int, int]:
    """Width and height, of the line that says them."""
    header = _HEADER.fullmatch(line.strip()) if len(line) <= _LONGEST_HEADER else None
    if header is None:
        raise _error(what, number, "cells begin with a line 'x = WIDTH, y = HEIGHT, rule = B3/S23'")
    width, height, rule = int(header[1]), int(header[2]), header[3]
    if rule is not None and rule.lower() not in _CONWAY:
        raise _error(what, number, f"the rule {rule[:40]!r} is not Conway's, B3/S23, the only one here")
    if not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
        raise _error(what, number, f"x = {width}, y = {height}: a pattern has 1 to {LONGEST_SIDE} cells a side")
    return width, height


def _error(what: str, number: int, message: str) -> UserError:
    return UserError(f"{what}, line {number}: {message}")
