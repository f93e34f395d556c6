"""The arrays of a `.npz`, which is a zip file of NumPy's own files: first what they are, then they themselves."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tzd.checkpoint.read import as_float32
from tzd.errors import CheckpointError, TzdError, first_line
from tzd.printable import printable

NPZ = ".npz"

_VERSION = (1, 0)  # of NumPy's format; in the next one a header alone may be gigabytes long
_DENSEST = 1032  # what a byte of a deflated file can become
_ROOM, _DENSE = 1 << 26, 20  # bytes that any file of weights may unpack to, and each byte of a large one
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others are unpacked without a limit


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file makes the libraries raise into a CheckpointError."""
    try:
        yield
    except TzdError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be read: {printable(reason)}; get the file again") from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Array names -> shapes, from the headers alone: nothing is unpacked.

    Raises:
        CheckpointError: the file is damaged, or holds something other than floating-point arrays of different names.
    """
    headers = read_headers(path)
    for name, (_, dtype) in headers.items():
        if dtype.kind != "f":
            raise CheckpointError(f"{path} holds {printable(name)} as {dtype}; weights are floating-point numbers")
    size, held = path.stat().st_size, sum(math.prod(shape) * dtype.itemsize for shape, dtype in headers.values())
    if held > _ROOM + _DENSE * size:
        raise CheckpointError(f"{path} has {size} bytes and unpacks to {held}: weights cannot be packed so small")
    return {name: shape for name, (shape, _) in headers.items()}


def read_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Array names -> shapes and types; nothing is unpacked, and each array's file is as long as these say.

    Raises:
        CheckpointError: the file is damaged, names an array twice, or holds Python objects.
    """
    with _one_line_errors(path):
        return _read_headers(path)


def _read_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no {NPZ} file, or was cut short; get the file again")
    headers: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    with zipfile.ZipFile(path) as file:
        if sum(member.compress_size for member in file.infolist()) > path.stat().st_size:
            raise CheckpointError(f"{path} is damaged: it is shorter than its parts; get the file again")
        for member in file.infolist():
            name = member.filename.removesuffix(".npy")
            if name in headers:
                raise CheckpointError(f"{path} holds {printable(name)} twice; get the file again")
            if member.compress_type not in _PACKED:
                raise CheckpointError(f"{path} holds {printable(name)} packed in a way that is not read")
            dense = _DENSEST if member.compress_type == zipfile.ZIP_DEFLATED else 1
            if member.file_size > dense * member.compress_size:
                raise CheckpointError(f"{path} is damaged: {printable(name)} is not as long as it says")
            with file.open(member) as data:
                if np.lib.format.read_magic(data) != _VERSION:
                    raise CheckpointError(f"{path} holds {printable(name)} in a format of NumPy's that is not read")
                shape, _, dtype = np.lib.format.read_array_header_1_0(data)
                size = member.file_size - data.tell()
            if dtype.hasobject:
                raise CheckpointError(f"{path} cannot be read: it holds Python objects, which are never unpickled")
            if math.prod(shape) * dtype.itemsize != size:
                raise CheckpointError(f"{path} is damaged: {printable(name)} is not as long as it says")
            headers[name] = shape, dtype
    return headers


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Array names -> float32 arrays, of a file that `read_shapes` took.

    Raises:
        CheckpointError: the file is damaged.
    """
    return {name: as_float32(array) for name, array in read_exact(path).items()}


def read_exact(path: Path) -> dict[str, np.ndarray]:
    """Array names -> arrays as they are, of a file whose headers have been looked at.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _one_line_errors(path), zipfile.ZipFile(path) as file:
        return {name.removesuffix(".npy"): _read_array(file, name) for name in file.namelist()}


def _read_array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(name) as data:
        return np.asarray(np.lib.format.read_array(data, allow_pickle=False))
