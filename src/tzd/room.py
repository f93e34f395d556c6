"""Room on a disk: how much there is, and what to ask for where there is too little."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a full disk, or of a share of it


def more_room(path: Path, size: int, about: str = "") -> str:
    """What to ask for where `path` found no room: how much more, as far as that is known.

    Args:
        path: a file or folder that is not there.
        size: how many bytes it takes.
        about: what stands before numbers that are estimated.
    """
    missing = size - _free(path)
    if missing <= 0:
        return "make room for it"
    return f"make room for {about}{_bytes(missing)} more, as it takes {about}{_bytes(size)}"


def _free(path: Path) -> int:
    """Bytes that may still be written where `path` is to lie; more than there can be where the system does not say."""
    try:
        return shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.is_dir())).free
    except OSError:
        return sys.maxsize


def _bytes(count: int) -> str:
    """A number of bytes, rounded up."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 10 << power:
            return f"{-(-count >> power)} {unit}"
    return f"{count} bytes"
