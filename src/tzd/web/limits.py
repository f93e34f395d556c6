"""How much of the machine a page may take, whatever a browser asks for."""

from __future__ import annotations

from dataclasses import dataclass

from tzd.errors import UserError

LARGEST_SEED = 2**31 - 1
HOTTEST = 2.0  # temperature that can be asked for
MESSAGE = 16_384  # bytes of a request, beside those of its texts
WIDEST_CHARACTER = 12  # bytes of JSON


@dataclass(frozen=True)
class Limits:
    """What is refused beyond. One text is written at a time by each run.

    Attributes:
        length: new tokens of a text, and characters of what it begins with.
        steps: denoising steps.
        generations: of a Game of Life.
        concurrency: runs that compute at once.
        queue: runs that may wait.
    """

    length: int = 1024
    steps: int = 256
    generations: int = 100
    concurrency: int = 2
    queue: int = 8

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("steps", 1), ("generations", 1), ("concurrency", 1), ("queue", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"{name} must be at least {least}, not {value}")

    @property
    def message(self) -> int:
        """Bytes of the largest request."""
        return MESSAGE + 2 * WIDEST_CHARACTER * self.length
