"""How frames follow each other: several runs side by side at equal cost, and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tzd.sampling import Frame

SECONDS = 8.0  # that a run takes, if it may
GENERATIONS = 3.0  # of a Game of Life that an eye can follow in a second


def in_step(runs: Sequence[Iterable[Frame]]) -> Iterator[tuple[Frame, ...]]:
    """Frames of several runs, drawn from them so that the one that has called its denoiser least goes on next.

    Args:
        runs: the frames of each; nothing is drawn ahead of what is shown.

    Yields:
        The frame of each run to be shown at a time; of a run that is over, its last one.
    """
    streams = [iter(run) for run in runs]
    shown = [next(stream) for stream in streams]
    yield tuple(shown)
    going = set(range(len(streams)))
    while going:
        least = min(shown[i].nfe for i in going)
        moved = False
        for i in [i for i in sorted(going) if shown[i].nfe == least]:
            frame = next(streams[i], None)
            if frame is None:
                going.remove(i)
            else:
                shown[i], moved = frame, True
        if moved:
            yield tuple(shown)


def pace(count: int, last: Sequence[Frame]) -> float:
    """Frames a second where nobody says how many: a run takes `SECONDS`, a long Game of Life as long as it needs.

    Args:
        count: of the moments.
        last: the last one.
    """
    generations = max(frame.generation or 0 for frame in last)
    return count / max(SECONDS, generations / GENERATIONS)
