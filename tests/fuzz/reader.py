"""What all readers under test have in common: a valid folder, ways to spoil it, and the call that reads it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.mutators import File, Files, Mutator, by_ending, exchanged

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        name: what it reads.
        valid: makes the folders that it accepts, by name.
        read: reads such a folder, and uses what it got.
        share: of all inputs, in thousandths.
        formats: mutators for files of an ending, beside those for bytes.
        repair: makes checksums right again, so that what lies behind them is reached.
        names: whether its refusals name the file.
        heavy: whether what it imports takes seconds.
    """

    name: str
    valid: Callable[[], Mapping[str, Files]]
    read: Read
    share: int
    formats: Mapping[str, Mutator] = field(default_factory=dict)
    repair: Callable[[Files], Files] | None = None
    names: bool = True
    heavy: bool = False

    @property
    def templates(self) -> Mapping[str, Files]:
        """The valid folders, made once."""
        return _templates(self)

    def __hash__(self) -> int:
        return hash(self.name)

    def hostile(self, rng: random.Random, outside: Path) -> Files:
        """A spoilt folder."""
        files = dict(self.templates[rng.choice(list(self.templates))])
        for _ in range(rng.choice((1, 1, 1, 2))):
            name = rng.choice(list(files))
            if rng.random() < 0.04:
                put = exchanged(rng, outside)
                if put is None:
                    del files[name]
                else:
                    files[name] = put
            else:
                files[name] = self._spoilt(rng, name, files[name])
            if not files:
                break
        if self.repair is not None and rng.random() < 0.8:
            files = self.repair(files)
        return files

    def _spoilt(self, rng: random.Random, name: str, content: File) -> File:
        if not isinstance(content, bytes):
            return content
        own = self.formats.get(Path(name).suffix)
        if own is not None and rng.random() < 0.7:
            try:
                return own(rng, content)
            except Exception:  # spoilt before, such that it cannot be taken apart any more
                pass
        return rng.choice(by_ending(name))(rng, content)


@cache
def _templates(reader: Reader) -> Mapping[str, Files]:
    return reader.valid()


def files_in(folder: Path) -> Files:
    """The files of a folder that was written for this."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
