from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from tzd.errors import UserError
from tzd.viewers.frontier import VARIED, Line, frontier, frontier_figure, plot_frontier, spread

REAL = {
    "sampler": "real text", "nfe": 0.0, "judge_nats_per_char": 1.25, "judge_nats_per_char_stderr": 0.01,
    "unigram_entropy": 2.9,
}  # fmt: skip


def row(sampler: str, nfe: float, nats: float, gap: float = 0.0, **more: Any) -> dict[str, Any]:
    return {**REAL, "sampler": sampler, "nfe": nfe, "judge_nats_per_char": nats, "unigram_entropy": 2.9 + gap, **more}


def line(name: str, nfe: list[float], nats: list[float], gaps: list[float]) -> Line:
    return Line(name, *map(np.array, (nfe, nats, [0.01] * len(nfe), gaps)))


def curves(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines if line.get_linestyle() == "-"]


def shaded(axes: Any) -> list[Any]:
    return [marks for marks in axes.collections if marks.get_array() is not None and marks.get_array().size]


def names(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts if text.arrow_patch is not None]


def test_the_frontier_is_what_nothing_cheaper_beats_among_the_varied() -> None:
    lines = [
        line("a", [8, 16, 32], [3.0, 2.0, 2.1], [0, 0, 0]),
        line("monotonous", [4, 16], [1.0, 1.0], [-0.3, -1.01 * VARIED]),
        line("b", [16, 64], [2.2, 1.5], [VARIED, -VARIED]),
    ]
    assert frontier(lines).tolist() == [[8, 3.0], [16, 2.0], [64, 1.5]]
    assert frontier(lines[1:2]).shape == (0, 2)


def test_the_frontier_goes_on_to_the_right_of_its_last_point() -> None:
    axes = frontier_figure([REAL, row("a", 8, 3.0), row("a", 16, 2.0)], "t").axes[0]
    (stairs,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert stairs.get_xdata() == pytest.approx([8, 16, axes.get_xlim()[1]])
    assert list(stairs.get_ydata()) == [3.0, 2.0, 2.0]


def test_each_sampler_is_a_line_through_its_points_the_cheapest_first() -> None:
    rows = [REAL, row("a", 16, 2.0), row("b", 8, 2.5, -0.4), row("a", 8, 3.0)]
    axes = frontier_figure(rows, "t").axes[0]
    assert ([8, 16], [3.0, 2.0]) in curves(axes)
    assert ([8], [2.5]) in curves(axes)
    points = np.concatenate([marks.get_offsets() for marks in shaded(axes)])
    assert sorted(map(tuple, points.tolist())) == [(8, 2.5), (8, 3.0), (16, 2.0)]


def test_variants_of_a_sampler_are_lines_of_their_own() -> None:
    rows = [REAL, row("a", 8, 2.0, variant="a"), row("a", 8, 1.9, variant="a temperature=0.8")]
    assert sorted(names(frontier_figure(rows, "t").axes[0])) == ["a", "a temperature=0.8"]


def test_a_bar_is_one_standard_error_each_way() -> None:
    axes = frontier_figure([REAL, row("a", 8, 2.0, judge_nats_per_char_stderr=0.25)], "t").axes[0]
    (bar,) = [segment for c in axes.collections if hasattr(c, "get_segments") for segment in c.get_segments()]
    assert np.array(bar).tolist() == [[8, 1.75], [8, 2.25]]


def test_real_text_is_a_line_at_its_verdict() -> None:
    axes = frontier_figure([REAL, row("a", 8, 2.0)], "t").axes[0]
    (dashed,) = [line for line in axes.lines if line.get_linestyle() != "-"]
    assert set(dashed.get_ydata()) == {1.25}


def test_text_as_varied_as_real_text_is_blue_whatever_the_range() -> None:
    for worst in (-0.1, -0.6):
        axes = frontier_figure([REAL, row("a", 8, 2.0, 0.02), row("b", 8, 2.0, worst)], "t").axes[0]
        colours = {round(gap, 3): to_hex(marks.to_rgba(gap)) for marks in shaded(axes) for gap in marks.get_array()}
        assert colours[0.02] == "#0080c6"
        assert colours[worst] != "#0080c6"


def test_what_is_off_the_scale_is_said_at_its_edge() -> None:
    rows = [
        REAL,
        *(row(f"s{i}", nfe, 1.5 + 1 / nfe, -0.2) for i in range(6) for nfe in (8, 64)),
        row("bad", 8, 9.0, -0.2),
    ]
    figure = frontier_figure(rows, "t")
    axes = figure.axes[0]
    top = axes.get_ylim()[1]
    assert top < 2
    assert [8.0, top] in [point for c in axes.collections for point in np.asarray(c.get_offsets()).tolist()]
    assert "off the scale" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_frontier_is_never_off_the_scale() -> None:
    rows = [REAL, row("cheap", 2, 9.0), *(row(f"s{i}", 64, 1.5, -0.3) for i in range(20))]
    assert frontier_figure(rows, "t").axes[0].get_ylim()[1] > 9


def test_the_emphasised_sampler_is_the_thickest_line() -> None:
    rows = [REAL, *(row(name, nfe, 2.0, -0.2) for name in "abc" for nfe in (8, 16))]
    axes = frontier_figure(rows, "t", emphasised="b").axes[0]
    widths = [line.get_linewidth() for line in axes.lines if list(line.get_xdata()) == [8, 16]]
    assert widths.index(max(widths)) == 1 and sorted(widths)[-2] < 1


def test_names_do_not_overlap_though_all_lines_end_in_one_point() -> None:
    figure = frontier_figure([REAL, *(row(f"sampler-{i}", 64, 2.0, -0.2) for i in range(22))], "t")
    figure.canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.arrow_patch is not None]
    heights = sorted((box.y0, box.y1) for box in (Text.get_window_extent(text) for text in texts))
    assert len(heights) == 22
    assert all(below[1] <= above[0] + 1 for below, above in pairwise(heights))
    assert heights[0][0] >= 0 and heights[-1][1] <= figure.bbox.height


def test_a_name_on_the_frontier_is_left_out_where_another_stands() -> None:
    rows = [REAL, row("a", 8, 2.02), row("b", 8.5, 2.0), row("c", 64, 1.8), row("d", 512, 3.0)]
    axes = frontier_figure(rows, "t").axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text() in "abcd" and not text.arrow_patch] == ["a", "c"]
    assert sorted(names(axes)) == ["a", "b", "c", "d"]


def test_places_are_apart_in_order_and_where_wanted_if_they_can_be() -> None:
    assert spread(np.array([0.9, 0.1, 0.5]), 0.2) == pytest.approx([0.9, 0.1, 0.5])
    assert spread(np.array([0.5, 0.5, 0.5]), 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert spread(np.array([1.0, 1.0, 0.0]), 0.1) == pytest.approx([0.9, 1.0, 0.0])
    assert spread(np.array([0.5] * 5), 0.9) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert spread(np.zeros(0), 0.1).shape == (0,)


def test_ticks_are_at_powers_of_two_or_where_the_only_point_is() -> None:
    assert frontier_figure([REAL, row("a", 8, 2.0), row("a", 60, 1.8)], "t").axes[0].get_xticks().tolist() == [
        8,
        16,
        32,
        64,
    ]
    assert frontier_figure([REAL, row("a", 23, 2.0)], "t").axes[0].get_xticks().tolist() == [23]


@pytest.mark.parametrize(
    "points",
    [
        [],
        [row("a", 8, 2.0)],
        [row("a", 8, 1.25), row("b", 8, 1.25), row("a", 8, 1.25)],
        [row("a", 1, 2.0, judge_nats_per_char_stderr=None)],
    ],
)
def test_few_or_equal_points_are_drawn(points: list[dict[str, Any]], tmp_path: Path) -> None:
    assert plot_frontier([REAL, *points], tmp_path / "a.png", "t").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a judge"):
        plot_frontier([{**REAL, "judge_nats_per_char": None}], tmp_path / "a.png", "t")
    with pytest.raises(UserError, match=r"ends in \.png"):
        plot_frontier([REAL], tmp_path / "a.gif", "t")
    assert list(tmp_path.iterdir()) == []
