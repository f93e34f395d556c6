"""Tables and times that engines are handed: angles, rows of the time embedding, positions at which the head runs."""

import math

import numpy as np
import pytest

from tzd.config import ObjectiveSettings
from tzd.diffusion.denoiser import FunctionDenoiser, masked_fraction, time_rows
from tzd.diffusion.objective import HEAD_ON_MASKED_FROM, Noised, Objective, head_rows
from tzd.diffusion.rotary import float32_angles, rotary_tables


@pytest.mark.parametrize(("length", "width", "base"), [(5, 2, 10.0), (300, 8, 10_000.0)])
def test_angles_are_position_times_a_frequency_for_each_pair(length, width, base):
    cos, sin = rotary_tables(length, width, base)
    rounded = float32_angles(length, width, base)
    assert cos.dtype == sin.dtype == rounded.dtype == np.float32
    assert cos.shape == sin.shape == rounded.shape == (length, width // 2)
    for p in (0, 1, length - 1):
        for i in range(width // 2):
            angle = p * base ** (-2 * i / width)
            assert (cos[p, i], sin[p, i]) == (np.float32(math.cos(angle)), np.float32(math.sin(angle)))
            step = np.float32(1) / np.float32(base ** float(np.float32(2 * i) / np.float32(width)))
            assert rounded[p, i] == np.float32(p) * step


def test_the_share_of_a_canvas_that_is_masked_counts_neither_prefix_nor_padding():
    tokens = np.array([[9, 1, 9, 9], [1, 1, 1, 1], [9, 9, 9, 9]])
    assert masked_fraction(tokens, 9, 0).tolist() == [0.75, 0.0, 1.0]
    assert masked_fraction(tokens, 9, 1).tolist() == [1.0, 0.0, 1.0]
    assert masked_fraction(tokens, 9, 4).tolist() == [1.0, 0.0, 1.0]
    inside = np.array([[True, True, True, False], [True] * 4, [False] * 4])
    assert masked_fraction(tokens, 9, 0, inside).tolist() == [2 / 3, 0.0, 0.0]
    assert masked_fraction(tokens, 9, 1, inside).tolist() == [1.0, 0.0, 0.0]


def test_a_time_is_in_the_row_that_was_trained_at_it():
    for steps in (1, 8, 128):
        trained = (np.arange(steps) + 1) / steps
        for t in (trained, trained.astype(np.float32), trained - 0.5 / steps):
            assert time_rows(t, steps).tolist() == list(range(steps))
            assert time_rows(t, steps).dtype == np.int32
    assert time_rows(np.array([0.0, 1.5]), 8).tolist() == [0, 7]
    assert time_rows(np.array([3, 5]), 8).tolist() == [3, 5]
    assert time_rows(np.array([3], np.int64), 8).dtype == np.int32


def test_the_head_runs_at_what_weighs_anything_and_fills_a_sixteenth_up():
    weight = np.zeros((4, 16))
    weight[1, 3], weight[2, 5], weight[3, 15] = 1.0, 0.5, 2.0
    assert head_rows(weight, HEAD_ON_MASKED_FROM - 1) is None
    assert head_rows(weight, HEAD_ON_MASKED_FROM).tolist() == [0, 19, 37, 63]  # 64 positions: parts of 4
    assert head_rows(weight, 2, always=True).tolist() == [0, 19, 37, 63]
    weight[0, :2] = 1.0
    assert head_rows(weight, HEAD_ON_MASKED_FROM).tolist() == [0, 1, 2, 3, 4, 19, 37, 63]
    assert head_rows(np.zeros((4, 16)), HEAD_ON_MASKED_FROM).tolist() == [0, 1, 2, 3]
    assert head_rows(np.ones((4, 16)), HEAD_ON_MASKED_FROM).tolist() == list(range(64))
    assert head_rows(np.zeros((3, 6)), HEAD_ON_MASKED_FROM).tolist() == [0, 1]  # 18 positions: parts of 2


def test_a_loss_is_asked_for_everywhere_or_where_the_head_runs():
    x_0, weight = np.arange(6).reshape(2, 3), np.arange(6, dtype=np.float32).reshape(2, 3)
    whole = Noised(x_0, x_0 + 10, weight, np.array([0.5, 1.0], np.float32))
    objective = Objective(ObjectiveSettings(name="nelbo"))
    asked = []

    def forward(*inputs):
        asked.append(inputs)
        return "logits"

    assert objective.loss(forward, whole, lambda *given: given)[0] == "logits"
    part = Noised(whole.x_0, whole.x_t, whole.weight, whole.t, np.array([1, 5]))
    logits, targets, weights = objective.loss(forward, part, lambda *given: given)
    assert (logits, targets.tolist(), weights.tolist()) == ("logits", [1, 5], [1.0, 5.0])
    assert [len(inputs) for inputs in asked] == [2, 3]
    assert asked[1][0] is whole.x_t and asked[1][1] is whole.t and asked[1][2].tolist() == [1, 5]
    row = whole.rows(1, 2, 0.5)
    assert (row.x_0.tolist(), row.x_t.tolist(), row.weight.tolist()) == ([[3, 4, 5]], [[13, 14, 15]], [[1.5, 2.0, 2.5]])
    assert (row.t.tolist(), row.head_rows, row.weight.dtype) == ([1.0], None, np.float32)


def test_only_block_diffusion_has_a_layout():
    assert Objective(ObjectiveSettings(name="nelbo", block_len=2)).layout(4) == {}
    layout = Objective(ObjectiveSettings(name="block", block_len=2)).layout(3)
    assert layout.keys() == {"positions", "attention"}
    assert layout["positions"].tolist() == [[0, 1, 2, 0, 1, 2]]
    rows = ["xx....", "xx....", "..xxx.", "...xx.", "...xx.", "...xxx"]
    assert ["".join(".x"[int(seen)] for seen in row) for row in layout["attention"][0]] == rows
    assert Objective(ObjectiveSettings(context_len=2)).maskable(np.zeros((2, 3))).tolist() == [[False, False, True]] * 2


def test_a_function_is_a_denoiser():
    denoiser = FunctionDenoiser(lambda x: np.eye(3)[x], 3, 4)
    assert (denoiser.mask_id, FunctionDenoiser(lambda x: x, 3, 4, mask_id=0).mask_id) == (3, 0)
    tokens = np.array([[0, 1], [2, 0]])
    assert denoiser.forward(tokens)[0].shape == (2, 2, 3)
    assert denoiser.forward(tokens, rows=np.array([2]))[0].tolist() == [[0, 0, 1]]
    with pytest.raises(NotImplementedError):
        denoiser.empty_cache(1, 2)
