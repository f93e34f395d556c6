"""What the page's buttons start: a form's values in, pictures and a line of status out, until it is over or stopped.

Each run is a generator. Closing it ends the sampler behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

from tzd.api import Model, finished, life
from tzd.sampling.patterns import LARGEST_SIDE, NAMES, SMALLEST_SIDE
from tzd.viewers.panel import Panel
from tzd.viewers.timeline import in_step
from tzd.web.asking import Asked, checked_text, choice, number, real
from tzd.web.limits import HOTTEST, LARGEST_SEED, Limits
from tzd.web.recordings import Recordings
from tzd.web.showing import views


class Runs:
    """A model's runs.

    Args:
        model: what writes; it has a tokenizer.
        limits: what is refused beyond.
        recordings: where finished runs are kept.
    """

    def __init__(self, model: Model, limits: Limits, recordings: Recordings) -> None:
        assert model.tokenizer is not None
        self.model, self.limits, self._recordings = model, limits, recordings
        self._panel = Panel.of(model.tokenizer)

    def write(self, text: Any, sampler: Any, *settings: Any) -> Iterator[tuple[str, ...]]:
        """One text. Yields the picture, the status, the finished text, and links to files of the run.

        Raises:
            UserError: what was asked for is refused.
        """
        asked = Asked.checked(self.limits, text, [sampler], *settings)
        (frames,) = asked.frames(self.model)
        for view in views([self._panel], ((frame,) for frame in frames)):
            if not view.done:
                yield *view.pictures, view.status, "", ""
        first, last = view.moments[0], view.moments[-1]
        (written,) = finished(self.model, iter([first[0], last[0]])).text
        yield *view.pictures, view.status, written, self._links([self._panel], view.moments)

    def compare(self, text: Any, one: Any, other: Any, *settings: Any) -> Iterator[tuple[str, ...]]:
        """Two samplers on the same text. Yields both pictures, the status, and links to files of the run.

        Raises:
            UserError: what was asked for is refused.
        """
        asked = Asked.checked(self.limits, text, [one, other], *settings)
        panels = [Panel(name, self._panel.pieces) for name in asked.samplers]
        for view in views(panels, in_step(asked.frames(self.model))):
            links = self._links(panels, view.moments) if view.done else ""
            yield *view.pictures, view.status, links

    def life(
        self, text: Any, pattern: Any, side: Any, generations: Any, steps: Any, temperature: Any, reseed: Any, seed: Any
    ) -> Iterator[tuple[str, ...]]:
        """A Game of Life on a text. Yields the picture, the status, and links to files of the run.

        Raises:
            UserError: what was asked for is refused.
        """
        limits, side = self.limits, number("the side of the board", side, SMALLEST_SIDE, self.largest_side)
        frames = life(
            self.model,
            text=checked_text(limits, text) or None,
            pattern=choice("pattern", pattern, NAMES),
            size=side,
            generations=number("the number of generations", generations, 1, limits.generations),
            steps=number("the number of steps", steps, 1, limits.steps),
            temperature=real("the temperature", temperature, 0.0, HOTTEST),
            reseed=reseed is True,
            seed=number("the seed", seed, 0, LARGEST_SEED),
        )
        panels = [Panel("", self._panel.pieces, columns=side)]
        for view in views(panels, ((frame,) for frame in frames)):
            links = self._links(panels, view.moments) if view.done else ""
            yield *view.pictures, view.status, links

    @property
    def largest_side(self) -> int:
        """Of a board: as many cells as a text may have, and lines that fit the model's window."""
        return min(isqrt(self.limits.length), self.model.denoiser.seq_len, LARGEST_SIDE)

    def _links(self, panels: list[Panel], moments: Any) -> str:
        """The run as files, which are drawn when they are asked for."""
        name = self._recordings.keep(panels, list(moments))
        texts = {".gif": "Download the GIF", ".html": "a page that plays it"}
        return (
            '<div class="tzd-links">'
            + " · ".join(
                f'<a href="run/{name}/{ending}" download="tzd{ending}">{text}</a>' for ending, text in texts.items()
            )
            + "</div>"
        )
