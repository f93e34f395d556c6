from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tzd.sampling import Frame
from tzd.viewers.timeline import in_step, pace


def run(costs: list[int]) -> list[Frame]:
    """Frames of a run of which each step calls the denoiser that often."""
    nothing = np.zeros((1, 1), dtype=bool)
    calls = np.cumsum([0, *costs])
    return [
        Frame(
            step, np.zeros((1, 1), np.int32), nothing, nothing, np.ones((1, 1), np.float32), int(nfe), np.ones(1, int)
        )
        for step, nfe in enumerate(calls)
    ]


@pytest.mark.parametrize("costs", [([1] * 8, [1] * 3), ([1] * 6, [2] * 3), ([1, 0, 1, 1], [1, 1, 0, 0, 1], [1] * 9)])
def test_runs_that_go_on_have_called_their_denoisers_alike(costs: tuple[list[int], ...]):
    runs = [run(each) for each in costs]
    most = max(map(max, costs))
    for moment in in_step(runs):
        going = [frame.nfe for frame, frames in zip(moment, runs, strict=True) if frame is not frames[-1]]
        assert max(going, default=0) - min(going, default=0) <= most


def test_every_frame_of_every_run_is_shown_once_and_in_order():
    runs = [run([1] * 5), run([2, 2, 1]), run([0, 1, 0, 3])]
    moments = list(in_step(runs))
    for i, frames in enumerate(runs):
        seen = list(dict.fromkeys(moment[i] for moment in moments))
        assert seen == frames
        assert moments[-1][i] is frames[-1]


def test_nothing_is_drawn_from_a_run_ahead_of_what_is_shown():
    drawn = 0

    def counted():
        nonlocal drawn
        for frame in run([1] * 5):
            drawn += 1
            yield frame

    for count, _ in enumerate(in_step([counted(), iter(run([1] * 5))]), 1):
        assert drawn == count


def test_a_run_takes_eight_seconds_and_a_long_game_longer():
    (frame,) = run([])
    short, long = (replace(frame, generation=generation) for generation in (20, 60))
    assert pace(160, [frame]) == 20
    assert pace(160, [frame, short]) == 20
    assert pace(160, [frame, short, long]) == 8
