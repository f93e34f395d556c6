"""What every sampler promises of its frames, whatever its rules and the engine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tzd.sampling import Frame, Sampler


def assert_promises_kept(frames: Sequence[Frame], canvas: np.ndarray, mask_id: int, rules: Sampler) -> None:
    """Fails unless the frames fill that canvas, and nothing but its blanks, at a denoiser pass each."""
    given, first, last = canvas != mask_id, frames[0], frames[-1]
    assert (first.step, first.nfe, first.revealed.any()) == (0, 0, False)
    assert np.array_equal(first.tokens, canvas)
    assert not last.masked.any()
    assert not (last.tokens == mask_id).any()
    assert last.nfe == len(frames) - 1
    for earlier, frame in itertools.pairwise(frames):
        assert np.array_equal(frame.tokens[given], canvas[given])
        assert np.array_equal(frame.masked, frame.tokens == mask_id)
        assert frame.tokens.dtype == np.int32
        assert frame.confidence.dtype == np.float32
        assert frame.nfe == earlier.nfe + 1
        assert frame.step > earlier.step
        assert frame.revealed.any() or rules.remask == "p2"  # a pass is made for something; p2 may let all be
        assert not (frame.revealed & frame.masked).any()
        assert (frame.confidence[frame.masked] == 0).all()
        assert (frame.confidence[~frame.masked] > 0).all()
        assert (frame.confidence[given] == 1).all()
        if rules.remask is None:
            assert np.array_equal(frame.revealed, earlier.masked & ~frame.masked)
