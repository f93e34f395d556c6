from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tzd.errors import UserError
from tzd.viewers.atlas import Atlas, code_of, has_glyph
from tzd.viewers.layout import LARGEST, Layout
from tzd.viewers.looks import THEMES
from tzd.viewers.panel import Panel
from tzd.viewers.raster import Raster, _status
from viewed import PANEL, alone, blinking, denoising


def luminance(colour: tuple[int, int, int]) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def rgb(raster: Raster, *run) -> np.ndarray:
    return raster.palette[raster.draw(list(run))]


def cell(raster: Raster, picture: np.ndarray, column: int, panel: int = 0) -> np.ndarray:
    """The pixels of a cell in the first row of a batch."""
    block = raster._layout.blocks[panel]
    (y, x), (height, width) = raster._layout.cells(panel), block.cell
    y, x = y + column // block.columns * height, x + column % block.columns * width
    return picture[y : y + height, x : x + width]


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_a_contrast_of_at_least_four_and_a_half_on_every_ground(theme):
    colours = THEMES[theme]
    for ink, ground in product((colours.faint, colours.text, *colours.levels), (colours.ground, colours.alive)):
        assert contrast(ink, ground) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_blanks_are_blocks_fresh_cells_inverse_and_others_text(theme):
    colours = THEMES[theme]
    moments = list(alone(denoising(given=4)))
    raster = Raster([PANEL], moments[0], theme)
    raster.draw(moments[:1])
    (frame,) = moments[1]
    picture = rgb(raster, moments[1])
    for column in range(24):
        pixels = cell(raster, picture, column)
        middle, corner = tuple(pixels[pixels.shape[0] // 2, 2]), tuple(pixels[0, 0])
        if frame.masked[0, column]:
            assert middle == colours.blank and corner == colours.ground
        elif frame.revealed[0, column]:
            level = int(np.searchsorted((0.3, 0.6, 0.9), frame.confidence[0, column], side="right"))
            assert corner == colours.levels[level]
        else:
            assert corner == colours.ground and colours.blank not in set(map(tuple, pixels.reshape(-1, 3)))


def test_confidence_is_the_colour_of_text_that_is_no_longer_fresh():
    first, *_, before, (last,) = alone(denoising())
    text = replace(last, tokens=np.zeros_like(last.tokens), revealed=np.zeros_like(last.revealed))
    raster = Raster([PANEL], first, "dark")
    picture = rgb(raster, first, before, (text,))
    for column in range(24):
        level = int(np.searchsorted((0.3, 0.6, 0.9), last.confidence[0, column], side="right"))
        drawn = set(map(tuple, cell(raster, picture, column).reshape(-1, 3)))
        others = {colour for i, colour in enumerate(THEMES["dark"].levels) if i != level}
        assert before[0].revealed[0, column] or (THEMES["dark"].levels[level] in drawn and not others & drawn)


def test_only_cells_that_changed_and_the_status_line_change():
    moments = list(alone(denoising(given=4)))
    raster = Raster([PANEL], moments[0], "light")
    pictures = [raster.draw([moment]) for moment in moments]
    for (before,), (after,), one, two in zip(moments, moments[1:], pictures, pictures[1:], strict=False):
        changed = one != two
        touched = before.revealed | after.revealed
        for column in np.flatnonzero(~touched[0]):
            assert not cell(raster, changed, column).any()
        for column in np.flatnonzero(after.revealed[0]):
            assert cell(raster, changed, column).any()
        top, left = raster._layout.cells(0)
        bottom, _ = raster._layout.status(0)
        assert not changed[:top].any() and not changed[:, :left].any() and not changed[bottom + 18 :].any()


def test_what_any_of_several_moments_wrote_is_fresh():
    moments = list(alone(denoising()))
    one, two = Raster([PANEL], moments[0], "dark"), Raster([PANEL], moments[0], "dark")
    for raster in (one, two):
        raster.draw(moments[:1])
    together = rgb(one, *moments[1:4])
    apart = [rgb(two, moment) for moment in moments[1:4]]
    written = moments[1][0].revealed | moments[2][0].revealed | moments[3][0].revealed
    for column in np.flatnonzero(written[0]):
        first = next(i for i in range(3) if moments[i + 1][0].revealed[0, column])
        assert np.array_equal(cell(one, together, column), cell(two, apart[first], column))


def test_a_run_that_is_over_has_just_written_nothing():
    short, long = list(denoising(steps=2)), list(denoising(steps=5, seed=1))
    moments = [(short[min(i, 2)], long[i]) for i in range(6)]
    raster = Raster([PANEL, PANEL], moments[0], "dark")
    pictures = [rgb(raster, *run) for run in (moments[:1], moments[1:2], moments[2:4], moments[4:5])]
    fresh = np.flatnonzero(short[2].revealed[0])
    corners = [{tuple(cell(raster, picture, column)[0, 0]) for column in fresh} for picture in pictures]
    assert THEMES["dark"].ground not in corners[2] and corners[3] == {THEMES["dark"].ground}


def test_no_figure_of_the_status_line_moves_another():
    (frame,) = next(alone(denoising(256)))
    said = [
        _status(PANEL, replace(frame, step=n, nfe=n, masked=np.arange(256)[None] < left))
        for n, left in ((0, 256), (12, 99), (162, 0))
    ]
    assert said[0] == "step 0      NFE 0      256 characters left"
    assert {(line.index("NFE"), line.index("characters")) for line in said} == {(12, 27)}
    generation, *_ = blinking()
    assert _status(PANEL, generation) == "generation 0       3 alive   NFE 0"


def test_living_cells_stand_on_a_ground_of_their_own():
    panel = Panel("Life", PANEL.pieces, 5)
    first, *_ = moments = list(alone(blinking()))
    raster = Raster([panel], first, "dark")
    raster.draw(moments[:1])
    raster.draw(moments[1:2])
    picture = rgb(raster, (replace(moments[1][0], revealed=np.zeros((1, 25), dtype=bool)),))
    for column in range(25):
        pixels = cell(raster, picture, column)
        assert pixels.shape[0] == pixels.shape[1]
        ground = THEMES["dark"].alive if column in (7, 12, 17) else THEMES["dark"].ground
        assert tuple(pixels[0, 0]) == ground


def test_columns_behind_a_rows_end_are_empty():
    (frame,) = next(alone(denoising(rows=2)))
    lengths = np.array([24, 10])
    behind = np.arange(24) >= lengths[:, None]
    frame = replace(frame, lengths=lengths, masked=frame.masked & ~behind)
    raster = Raster([PANEL], (frame,), "dark")
    picture = rgb(raster, (frame,))
    (y, x), (height, width) = raster._layout.cells(0), raster._layout.blocks[0].cell
    y += raster._layout.blocks[0].tops[1]
    assert (picture[y : y + height, x + 10 * width : x + 24 * width] == THEMES["dark"].ground).all()
    assert (picture[y : y + height, x : x + 10 * width] == THEMES["dark"].blank).any(-1).sum() > 500


@pytest.mark.parametrize("panels", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [8, 256, 1024])
def test_pictures_of_up_to_a_thousand_characters_fit_and_lie_in_each_other_nowhere(panels, length):
    shown = [PANEL] * panels
    moment = next(iter(denoising(length)))
    layout = Layout.of(shown, (moment,) * panels, 600)
    assert layout.shape[0] <= LARGEST[0] and layout.shape[1] <= LARGEST[1]
    covered = np.zeros(layout.shape, dtype=int)
    for i, (y, x) in enumerate(layout.corners):
        covered[y : y + layout.panel[0], x : x + layout.panel[1]] += 1
        (top, left), (height, width) = layout.cells(i), layout.blocks[i].shape
        assert y < top and top + height < layout.status(i)[0] < y + layout.panel[0] and x == left
        assert width <= layout.panel[1]
    assert covered.max() == 1 and not covered[layout.legend[0] :].any()


def test_rows_of_a_batch_that_do_not_fit_are_said_in_the_title():
    (frame,) = next(alone(denoising(256, rows=40)))
    layout = Layout.of([PANEL], (frame,), 600)
    assert 1 <= layout.blocks[0].rows <= 8
    assert layout.title(0, PANEL, frame) == f"letters ({layout.blocks[0].rows} of 40 texts)"
    assert layout.title(0, Panel("x" * 500, PANEL.pieces), frame).endswith("x… (" + layout.title(0, PANEL, frame)[9:])


def test_what_would_be_a_picture_of_gigabytes_is_refused():
    for length, columns in ((2**22, 1), (2**22, None), (8, 2**22)):
        (frame,) = next(alone(denoising(length)))
        with pytest.raises(UserError, match=r"too much for a picture: .* 16384 at most"):
            Raster([Panel("", PANEL.pieces, columns)], (frame,), "dark")


def test_numbers_that_no_run_reaches_are_cut_at_the_edge_of_the_picture():
    (frame,) = next(alone(denoising(8)))
    frame = replace(frame, step=2**53, nfe=2**53)
    raster = Raster([PANEL] * 5, (frame,) * 5, "dark")
    assert raster.draw([(frame,) * 5]).shape == raster.shape


def test_no_line_is_left_free_for_a_title_where_there_is_none():
    (frame,) = next(alone(denoising(256)))
    named, nameless = (Raster([Panel(title, PANEL.pieces)], (frame,), "dark").shape for title in ("x", ""))
    assert nameless[0] < named[0]


def test_a_character_that_the_font_lacks_is_drawn_as_its_code():
    assert has_glyph("⏎") and has_glyph("⇥") and not has_glyph("␀") and not has_glyph("中")
    assert (code_of("␀"), code_of("␛"), code_of("␡"), code_of("中")) == ("00", "1B", "7F", "4E2D")
    atlas = Atlas(24)
    drawn = [atlas.take(np.array(atlas.number(sign))) for sign in ("␀", "␛", " ", "a")]
    assert drawn[0].any() and drawn[1].any() and not drawn[2].any()
    assert not np.array_equal(drawn[0], drawn[1])


def test_pieces_of_words_take_cells_of_one_width_and_blanks_fill_them():
    panel = Panel("pieces", ("the", " of", "international", "\n", "中"))
    (frame,) = next(alone(denoising(8)))
    raster = Raster([panel], (frame,), "dark")
    pixels = cell(raster, rgb(raster, (frame,)), 0)
    assert panel.width == 8 and pixels.shape[1] == 8 * 15
    assert (pixels[pixels.shape[0] // 2, 3:-3] == THEMES["dark"].blank).all()


def test_there_are_never_more_colours_than_a_gif_has_beside_clear():
    for theme in THEMES:
        raster = Raster([PANEL], next(alone(denoising())), theme)
        assert len(raster.palette) < 256 and raster.palette.dtype == np.uint8
