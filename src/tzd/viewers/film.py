"""The frames of one run, kept as what changes from each to the next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tzd.errors import UserError
from tzd.sampling import Frame

BLANK = -1  # instead of a token
REVEALED, ALIVE = 1, 2  # flags


@dataclass(frozen=True, eq=False)
class Change:
    """What distinguishes a frame from the one before; the first one, from an empty canvas.

    Attributes:
        step: see `Frame`, as are the next two.
        nfe: denoiser calls so far.
        generation: of a Game of Life.
        cells: (N,) int32, the flat indices of what changes, in ascending order.
        tokens: (N,) int32, `BLANK` where there is none.
        confidence: (N,) float32.
        flags: (N,) uint8, `REVEALED` + `ALIVE`.
    """

    step: int
    nfe: int
    generation: int | None
    cells: np.ndarray
    tokens: np.ndarray
    confidence: np.ndarray
    flags: np.ndarray


@dataclass(eq=False)
class Film(Collection[Frame]):
    """Frames that take the room of their changes; each iteration makes them anew, as they were.

    Attributes:
        lengths: (B,) int64, see `Frame`.
        width: T.
        mask_id: token at the blanks.
        lives: whether the frames say what is alive.
        changes: one for each frame.
    """

    lengths: np.ndarray
    width: int
    mask_id: int
    lives: bool
    changes: list[Change]

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> Film:
        """The film of frames."""
        recorder = Recorder()
        for _ in recorder.record(frames):
            pass
        return recorder.film

    def __len__(self) -> int:
        return len(self.changes)

    def __contains__(self, frame: object) -> bool:
        return False  # frames are made anew, and compare by identity

    def __iter__(self) -> Iterator[Frame]:
        shape = (len(self.lengths), self.width)
        tokens = np.full(shape, BLANK, np.int32)
        confidence, alive = np.zeros(shape, np.float32), np.zeros(shape, bool)
        for change in self.changes:
            revealed = np.zeros(shape, bool)
            tokens.flat[change.cells] = change.tokens
            confidence.flat[change.cells] = change.confidence
            alive.flat[change.cells] = (change.flags & ALIVE) > 0
            revealed.flat[change.cells] = (change.flags & REVEALED) > 0
            masked = tokens == BLANK
            yield Frame(
                change.step,
                np.where(masked, np.int32(self.mask_id), tokens),
                masked,
                revealed,
                confidence.copy(),
                change.nfe,
                self.lengths.copy(),
                alive.copy() if self.lives else None,
                change.generation,
            )


class Recorder:
    """Makes a film of frames as they pass."""

    def __init__(self) -> None:
        self._film: Film | None = None
        self._tokens = self._confidence = self._alive = np.zeros((0, 0))  # (B, T), of the frame before

    @property
    def film(self) -> Film:
        """What has been recorded so far; UserError if nothing has."""
        if self._film is None:
            raise UserError("there are no frames to record: the run had been iterated over before, or never began")
        return self._film

    def record(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yields the same frames."""
        for frame in frames:
            self.add(frame)
            yield frame

    def add(self, frame: Frame) -> Change:
        """Records a frame. Returns what changes with it."""
        if self._film is None:
            self._begin(frame)
        film = self.film
        if frame.masked.shape != self._tokens.shape:
            raise UserError(f"frames of one run have one shape, not {self._tokens.shape} and {frame.masked.shape}")
        if film.mask_id == BLANK and frame.masked.any():
            film.mask_id = int(frame.tokens[frame.masked][0])
        tokens = np.where(frame.masked, BLANK, frame.tokens)
        alive = np.zeros_like(frame.masked) if frame.alive is None else frame.alive
        changed = (tokens != self._tokens) | (frame.confidence != self._confidence) | (alive != self._alive)
        cells = np.flatnonzero(changed | frame.revealed)
        flags = REVEALED * frame.revealed.flat[cells] + ALIVE * alive.flat[cells]
        change = Change(
            frame.step,
            frame.nfe,
            frame.generation,
            cells.astype(np.int32),
            tokens.flat[cells].astype(np.int32),
            frame.confidence.flat[cells].astype(np.float32),
            flags.astype(np.uint8),
        )
        film.changes.append(change)
        self._tokens, self._confidence, self._alive = tokens, frame.confidence.copy(), alive.copy()
        return change

    def _begin(self, frame: Frame) -> None:
        shape = frame.masked.shape
        self._tokens = np.full(shape, BLANK, np.int64)
        self._confidence, self._alive = np.zeros(shape, np.float32), np.zeros(shape, bool)
        self._film = Film(frame.lengths.astype(np.int64), shape[1], BLANK, frame.alive is not None, [])
