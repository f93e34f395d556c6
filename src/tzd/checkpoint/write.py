"""Writing a checkpoint: the whole folder or none of it."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tzd.checkpoint.durable import (
    clear_litter,
    held,
    one_line_errors,
    replace_folder,
    sync,
    temporary_name,
    write_bytes,
)
from tzd.checkpoint.eight_bits import to_eight_bits
from tzd.checkpoint.layout import (
    CHECKSUMS,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    STATE_ARRAYS,
    STATE_TREE,
    WEIGHTS,
    is_plain_name,
    sha256,
    to_json,
)
from tzd.checkpoint.read import as_float32
from tzd.checkpoint.tree import flatten
from tzd.errors import UserError

DTYPES = ("float32", "int8")  # of stored weights
_BLOCK = 4096  # bytes of a disk that go to one file
_NUMBER = re.compile(r"\(os error (\d+)\)")  # the system's, where safetensors passes it on


def write_checkpoint(
    folder: Path,
    *,
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    files: Mapping[str, bytes] = MappingProxyType({}),
    training_state: Any | None = None,
    dtype: str = "float32",
) -> Path:
    """Writes a checkpoint folder, atomically; an earlier checkpoint of that name is replaced.

    Args:
        folder: the folder to make. One that holds anything but a checkpoint of ours is not touched.
        config: plain JSON data; `format` and `format_version` are added.
        weights: canonical name -> array.
        files: further files, by name (`tokenizer.json`).
        training_state: what training needs to go on, as `tzd.checkpoint.tree.flatten` takes it.
        dtype: of the stored weights: one of `DTYPES`; int8 is for matrices, whose numbers must be finite.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something else.
        TzdError: it cannot be written; nothing is left behind, and an earlier checkpoint is as it was.
    """
    texts = {CONFIG: to_json({**config, "format": FORMAT, "format_version": FORMAT_VERSION})}
    stored = {name: np.asarray(as_float32(np.asarray(w)), order="C") for name, w in weights.items()}
    tables = {WEIGHTS: to_eight_bits(stored) if dtype == "int8" else stored}
    if training_state is not None:
        tree, tables[STATE_ARRAYS] = flatten(training_state)
        texts[STATE_TREE] = to_json(tree)
    for name, data in files.items():
        if name in (*texts, *tables, CHECKSUMS) or not is_plain_name(name):
            raise ValueError(f"a checkpoint cannot hold a further file of the name '{name}'")
        texts[name] = data

    target = Path(folder).resolve()
    with one_line_errors(folder, _size(texts, tables)):
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_litter(target.parent, glob.escape(target.name))
        _refuse_strangers(target)
        new = temporary_name(target)
        new.mkdir()
        try:
            with held(new):
                _fill(new, texts, tables)
                replace_folder(new, target)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return folder


def _refuse_strangers(folder: Path) -> None:
    """UserError if replacing the folder would delete what no checkpoint of ours holds."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; a checkpoint is a folder: choose another name")
    present = {path.name for path in folder.iterdir()}
    try:
        ours = {CHECKSUMS, *json.loads((folder / CHECKSUMS).read_bytes())}
    except (FileNotFoundError, ValueError, TypeError):
        ours = set()
    if strangers := sorted(present - ours):
        raise UserError(
            f"{folder} exists and holds {strangers[0]}, which replacing it would delete: choose another folder"
        )


def _size(texts: Mapping[str, bytes], tables: Mapping[str, dict[str, np.ndarray]]) -> int:
    """Bytes of a checkpoint on the disk, or nearly."""
    sizes = [len(data) for data in texts.values()]
    sizes += [sum(array.nbytes for array in arrays.values()) for arrays in tables.values()]
    return sum(-(-size // _BLOCK) * _BLOCK for size in [*sizes, _BLOCK])


def _fill(folder: Path, texts: Mapping[str, bytes], tables: Mapping[str, dict[str, np.ndarray]]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    for name, data in texts.items():
        write_bytes(folder / name, data)
    for name, arrays in tables.items():
        try:
            save_file(arrays, folder / name)
        except SafetensorError as error:  # its own kind, also for a full disk
            number = _NUMBER.search(str(error))
            if number is None:
                raise OSError(str(error)) from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        shutil.copymode(folder / CONFIG, folder / name)  # the library makes it unreadable for others
        sync(folder / name)
    checksums = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_bytes(folder / CHECKSUMS, to_json(checksums))
    sync(folder)
