"""Several runs of samplers, side by side at equal cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tzd.sampling import Frame


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
