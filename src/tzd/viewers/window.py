"""Moments live, in a window on the screen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.errors import UserError
from tzd.viewers.raster import Raster

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

_SHARE = 4  # at most one part in so many of the time goes into drawing, unless a speed is asked for
_DPI = 100
_POLL = 0.02  # seconds between looks at what mouse and keyboard say
_NO_SCREEN = "there is no screen for a window here: write a file with --save FILE, or watch in the terminal"


def window(
    panels: Sequence[Panel],
    moments: Iterable[tuple[Frame, ...]],
    speed: float | None = None,
    theme: str = "dark",
) -> Iterator[tuple[Frame, ...]]:
    """Shows moments as they come; the last one stays until the window is closed, which also ends it before.

    Args:
        panels: what is shown.
        moments: a frame for each panel, one after the other.
        speed: moments a second; as fast as they come if None.
        theme: "dark" or "light".

    Returns:
        The same moments, up to the one at which the window was closed.

    Raises:
        UserError: there is no screen on which a window could be opened.
    """
    check_screen()
    return _pass(panels, moments, 0 if speed is None else 1 / speed, theme)


def check_screen() -> None:
    """UserError unless a window can be opened here."""
    from matplotlib import pyplot

    try:
        figure = pyplot.figure()
    except Exception as error:  # whatever the toolkit raises: they have no class in common
        raise UserError(_NO_SCREEN) from error
    framework = figure.canvas.required_interactive_framework
    pyplot.close(figure)
    if framework is None:
        raise UserError(_NO_SCREEN)


def _pass(
    panels: Sequence[Panel], moments: Iterable[tuple[Frame, ...]], interval: float, theme: str
) -> Iterator[tuple[Frame, ...]]:
    shown: _Window | None = None
    unseen: list[tuple[Frame, ...]] = []
    try:
        for moment in moments:
            shown = shown or _Window(Raster(panels, moment, theme))
            unseen.append(moment)
            if interval or time.monotonic() >= shown.drawn + (_SHARE - 1) * shown.cost:
                shown.draw(unseen)
                unseen = []
            yield moment
            if not shown.wait(shown.drawn + interval):
                return
        if shown and unseen:
            shown.draw(unseen)
        while shown and shown.wait(time.monotonic() + 1):
            pass
    finally:
        if shown:
            shown.close()


class _Window:
    """A window with nothing in it but a picture.

    Attributes:
        drawn: when it was drawn last, by `time.monotonic`.
        cost: seconds that this took.
    """

    def __init__(self, raster: Raster) -> None:
        from matplotlib import pyplot

        self.drawn = self.cost = 0.0
        self._raster = raster
        self._open = True
        height, width = raster.shape
        ground = tuple(value / 255 for value in raster.ground)
        with pyplot.rc_context({"toolbar": "None"}):
            self._figure: Any = pyplot.figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=ground)
        axes = self._figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        self._image = axes.imshow(np.zeros((height, width, 4), dtype=np.uint8))
        self._colours = np.insert(raster.palette, 3, 255, axis=1)  # opaque; what it draws the fastest
        self._figure.canvas.mpl_connect("close_event", self._closed)
        self._figure.canvas.manager.set_window_title("tzd")

    def draw(self, run: Sequence[tuple[Frame, ...]]) -> None:
        """Shows the last of some moments."""
        begun = time.monotonic()
        self._image.set_data(self._colours[self._raster.draw(run)])
        self._figure.canvas.draw()
        if not self.drawn:
            self._figure.show()
        self._figure.canvas.flush_events()
        self.drawn = time.monotonic()
        self.cost = self.drawn - begun

    def wait(self, until: float) -> bool:
        """Lets the window live until a time, or at least for a moment. Returns whether it is still open."""
        while self._open:
            self._figure.canvas.flush_events()
            left = until - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, _POLL))
        return self._open

    def close(self) -> None:
        """Closes it, if that is still to be done."""
        from matplotlib import pyplot

        if self._open:
            pyplot.close(self._figure)

    def _closed(self, _: object) -> None:
        self._open = False
