"""Writes that survive: whatever is interrupted, a name holds either what it held before or what it was to hold.

Everything is made under a temporary name beside its place (`.NAME.PID.tmp`), brought to the disk, and renamed.
Who writes or trains holds an advisory lock, which the system takes back when the process dies, however it dies:
there is no guessing from process numbers, and a lock or temporary that nobody holds is litter.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tzd.errors import TzdError
from tzd.room import FULL, more_room


@contextmanager
def one_line_errors(what: Path, size: int = 0) -> Iterator[None]:
    """Turns whatever the system says while `what` is written into a TzdError that names it.

    Args:
        what: a file or folder.
        size: how many bytes it takes, as far as that is known; of a full disk, the message then says what is missing.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename is not None and Path(error.filename) != what:
            reason += f" ({error.filename})"
        raise TzdError(f"cannot write {what}: {reason}; {_mend(error, what, size)}") from error


def _mend(error: OSError, what: Path, size: int) -> str:
    if error.errno == errno.EFBIG:
        return "raise the limit on the size of a file (ulimit -f), or choose another folder"
    if error.errno not in FULL:
        return "choose a folder that is there and that you may write to"
    return f"{more_room(what, size)}, or choose another folder"


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file and brings it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def append_bytes(path: Path, data: bytes) -> None:
    """Appends to a file, or makes it; what did not fit is taken back.

    Raises:
        TzdError: it cannot be written; the file is as it was.
    """
    with one_line_errors(path, len(data)), path.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            rest = data
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(before)
            raise


def sync(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Where `path` is made before it is renamed into place: a hidden sibling."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file atomically, or makes it.

    Raises:
        TzdError: it cannot be written; the file is as it was.
    """
    temporary = temporary_name(path)
    with one_line_errors(path, len(data)):
        temporary.unlink(missing_ok=True)
        try:
            temporary.touch(exist_ok=False)
            with held(temporary):  # so that nobody takes it for litter
                write_bytes(temporary, data)
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def replace_folder(new: Path, folder: Path) -> None:
    """Renames `new` to `folder`, in place of what is there.

    A folder cannot be replaced in one stroke, so the old one steps aside as `.NAME.old`; `clear_litter` puts it
    back if the process dies in between.
    """
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
        sync(folder.parent)
    except BaseException:
        if folder.exists():
            folder.rename(new)
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Removes a folder such that no half of it is ever seen under its name."""
    temporary = temporary_name(folder)
    with one_line_errors(folder):
        folder.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def clear_litter(parent: Path, name: str = "*") -> None:
    """Removes what dead writers left in `parent`, and puts back what they had moved aside.

    Args:
        parent: a folder.
        name: pattern of the names whose litter is meant.
    """
    for temporary in parent.glob(f".{name}.*.tmp"):
        with held(temporary) as free:
            if free and temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            elif free:
                temporary.unlink(missing_ok=True)
    for old in parent.glob(f".{name}.old"):
        folder = old.with_name(old.name[1 : -len(".old")])
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Holds an advisory lock on an existing file or folder. Yields whether it was free to take."""
    if sys.platform == "win32":  # has no such locks, and what is open there cannot be renamed
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        yield _take(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    import fcntl  # not on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: better to go on than never to start
        return True
    return True
