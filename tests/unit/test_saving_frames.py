from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from argparse import Namespace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from tzd.cli.showing import settle, show
from tzd.errors import MissingExtraError, TzdError, UserError
from tzd.viewers import animation
from tzd.viewers.animation import HOLD, ffmpeg
from tzd.viewers.looks import THEMES
from tzd.viewers.panel import Panel
from tzd.viewers.raster import Raster
from tzd.viewers.reveal import write_reveal
from tzd.viewers.save import check_ending, save
from viewed import PANEL, alone, blinking, denoising


def gif(path):
    """Its pictures, RGB, and how long each stays, milliseconds."""
    with Image.open(path) as image:
        pictures, times = [], []
        for i in range(image.n_frames):
            image.seek(i)
            pictures.append(np.asarray(image.convert("RGB")))
            times.append(image.info["duration"])
        assert image.info["loop"] == 0
        return pictures, times


@pytest.mark.parametrize("theme", THEMES)
def test_a_gif_shows_every_moment_as_it_is_drawn_and_for_as_long_as_asked(tmp_path, theme):
    moments = list(alone(denoising(given=3)))
    last = save([PANEL], iter(moments), tmp_path / "x.gif", speed=3, theme=theme)
    assert last is moments[-1]
    pictures, times = gif(tmp_path / "x.gif")
    raster = Raster([PANEL], moments[0], theme)
    for picture, moment in zip(pictures, moments, strict=True):
        assert np.array_equal(picture, raster.palette[raster.draw([moment])])
    assert times == [330, 340, 330, 330, 340, 330, 330 + 1000 * HOLD]


def test_a_gif_that_is_told_no_speed_takes_eight_seconds_and_a_hold(tmp_path):
    save([PANEL], alone(denoising(64, 63)), tmp_path / "x.gif")
    pictures, times = gif(tmp_path / "x.gif")
    assert len(pictures) == 64 and sum(times) == 8000 + 1000 * HOLD


def test_a_gif_of_a_long_game_shows_three_generations_a_second_and_every_moment(tmp_path):
    moments = list(alone(blinking(61)))
    save([Panel("Life", PANEL.pieces, 5)], iter(moments), tmp_path / "x.gif")
    pictures, times = gif(tmp_path / "x.gif")
    assert len(pictures) == len(moments) == 122
    assert sum(times) == 20_000 + 1000 * HOLD


def test_more_moments_than_a_gif_can_show_are_drawn_together_and_none_of_their_cells_is_lost(tmp_path):
    moments = list(alone(denoising(120, 120)))
    save([PANEL], iter(moments), tmp_path / "x.gif", speed=100)
    pictures, times = gif(tmp_path / "x.gif")
    assert len(pictures) == 30 and set(times[:-1]) <= {40, 50}
    assert sum(times) == 1210 + 1000 * HOLD
    raster = Raster([PANEL], moments[0], "dark")
    assert np.array_equal(pictures[0], raster.palette[raster.draw(moments[:1])])
    assert np.array_equal(pictures[-1], raster.palette[raster.draw(moments[117:])])


def test_ten_seconds_of_256_characters_are_a_gif_of_less_than_two_megabytes(tmp_path):
    save([PANEL], alone(denoising(256, 249)), tmp_path / "x.gif", speed=25)
    _, times = gif(tmp_path / "x.gif")
    assert sum(times) == 10_000 + 1000 * HOLD
    assert (tmp_path / "x.gif").stat().st_size < 500_000  # a quarter of what is promised


def test_a_gif_has_one_palette_and_later_pictures_are_rectangles_of_what_changed(tmp_path):
    save([PANEL], alone(denoising(256, 20)), tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as image:
        areas = []
        for i in range(image.n_frames):
            image.seek(i)
            assert i == 0 or image.tile[0][1][0] > 0 or image.tile[0][1][1] > 0
            areas.append(np.prod(np.subtract(image.tile[0][1][2:], image.tile[0][1][:2])))
        assert max(areas[1:]) < areas[0]
    data = (tmp_path / "x.gif").read_bytes()
    assert data.count(bytes(THEMES["dark"].ground) + bytes(2)) <= data[:1000].count(bytes(THEMES["dark"].ground)) + 1


def test_a_gif_of_life_says_generation_and_living_cells_and_shows_two_panels_alike(tmp_path):
    board = Panel("Life", PANEL.pieces, 5)
    moments = list(zip(blinking(), blinking(), strict=True))
    save([board, board], iter(moments), tmp_path / "x.gif", theme="light")
    pictures, _ = gif(tmp_path / "x.gif")
    layout = Raster([board, board], moments[0], "light")._layout
    (y, left), (_, right) = layout.cells(0), layout.cells(1)
    height, width = layout.blocks[0].shape
    for picture in pictures:
        assert np.array_equal(
            picture[y : y + height, left : left + width], picture[y : y + height, right : right + width]
        )


@pytest.fixture
def program():
    try:
        return ffmpeg()
    except MissingExtraError:
        pytest.skip("there is no ffmpeg")


def test_an_mp4_has_even_sides_every_picture_and_its_colours(tmp_path, program):
    moments = list(alone(denoising(given=3)))
    assert save([PANEL], iter(moments), tmp_path / "x.mp4", speed=5) is moments[-1]
    raster = Raster([PANEL], moments[0], "dark")
    height, width = (side + side % 2 for side in raster.shape)
    command = [program, "-loglevel", "error", "-i", tmp_path / "x.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    pictures = np.frombuffer(raw, dtype=np.uint8).reshape(-1, height, width, 3)
    assert len(pictures) == 7 + 5 * HOLD
    for picture, moment in zip(pictures, moments, strict=False):
        drawn = raster.palette[raster.draw([moment])].astype(int)
        assert np.abs(picture[: raster.shape[0], : raster.shape[1]] - drawn).mean() < 4
    says = subprocess.run([program, "-i", tmp_path / "x.mp4"], check=False, capture_output=True, text=True).stderr
    assert "yuv420p" in says and "h264" in says


def test_an_mp4_without_ffmpeg_names_the_extra_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(
        MissingExtraError,
        match=(
            "writing an MP4 needs the extra 'video': uv sync "
            r"--extra video \(or pip install "
            r"'tinyzero-diffusion\[video\]'\)"
        ),
    ):
        check_ending(tmp_path / "x.mp4")
    monkeypatch.setattr(shutil, "which", lambda _: "/somewhere/ffmpeg")
    check_ending(tmp_path / "x.mp4")


def test_an_ffmpeg_that_fails_is_one_line_and_leaves_no_file(tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho one >&2\necho no such encoder >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(animation, "ffmpeg", lambda: str(script))
    with pytest.raises(TzdError, match="cannot make an MP4: no such encoder"):
        save([PANEL], alone(denoising()), tmp_path / "x.mp4")
    assert sorted(tmp_path.iterdir()) == [script]


def test_a_file_that_cannot_be_written_keeps_no_other_from_being_written(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "_mp4", Mock(side_effect=TzdError("no such encoder")))
    files = [tmp_path / name for name in ("x.html", "x.mp4", "x.gif")]
    args = Namespace(save=files, window=False, speed=None, theme=None, quiet=True, unsaved=[])
    assert not show(args, [PANEL], alone(denoising()))[0].masked.any()
    with pytest.raises(TzdError, match="no such encoder"):
        settle(args)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "x.gif", tmp_path / "x.html"]


@pytest.mark.parametrize("ending", [".gif", ".mp4", ".png", ".svg"])
def test_an_interrupt_leaves_what_was_there(tmp_path, program, ending):
    def interrupted():
        yield from list(alone(denoising()))[:3]
        raise KeyboardInterrupt

    path = tmp_path / f"x{ending}"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        save([PANEL], interrupted(), path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_pictures_are_made_leaves_no_file_and_no_program(tmp_path, program, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    draw, calls = Raster.draw, []

    def interrupted(self, run):
        calls.append(run)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(self, run)

    monkeypatch.setattr(Raster, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save([PANEL], alone(denoising()), tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir()) and [process.poll() is not None for process in started] == [True]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x.webm", "ends in .gif, .mp4, .html, .png, .svg or .pdf"),
        ("x", "ends in .gif"),
        ("nowhere/x.gif", "there is no folder .*nowhere; make it first"),
        ("folder.gif", "it is a folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_anything_is_drawn(tmp_path, name, says):
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(UserError, match=says):
        check_ending(tmp_path / name)
    with pytest.raises(UserError, match=says):
        save([PANEL], iter([]), tmp_path / name)


@pytest.mark.parametrize("name", ["x.gif", "x.mp4", "x.png"])
def test_a_single_moment_is_enough_and_none_is_said(tmp_path, program, name):
    moment = next(alone(denoising(1, 1)))
    assert save([PANEL], iter([moment]), tmp_path / name) is moment
    assert (tmp_path / name).stat().st_size > 500
    with pytest.raises(UserError, match=r"cannot write .+: there are no frames to show"):
        save([PANEL], iter([]), tmp_path / f"other-{name}")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["X.GIF", "x.PNG", "x.html", "x.svg", "x.pdf"])
def test_endings_are_known_in_capitals_too(tmp_path, name):
    check_ending(tmp_path / name)


def when(path, layout, columns):
    """The colours of the cells of one row, near their upper left corners."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    (y, x), (_, width) = layout.cells(0), layout.blocks[0].cell
    return [tuple(pixels[2 * y + 4, 2 * (x + column * width) + 4].tolist()) for column in range(columns)]


@pytest.mark.parametrize("theme", THEMES)
def test_a_picture_of_when_colours_each_cell_by_the_call_that_wrote_it_and_given_text_not_at_all(tmp_path, theme):
    from matplotlib import colormaps

    moments = list(alone(denoising(24, 6, given=4)))
    assert write_reveal([PANEL], iter(moments), tmp_path / "x.png", theme=theme) is moments[-1]
    from tzd.viewers.layout import Layout

    colours = when(tmp_path / "x.png", Layout.of([PANEL], moments[0], 0), 24)
    assert colours[:4] == [THEMES[theme].ground] * 4
    for column in range(4, 24):
        (call,) = [frame.nfe for (frame,) in moments if frame.revealed[0, column]]
        expected = 255 * np.array(colormaps["viridis"]((call - 1) / 5)[:3])
        assert np.abs(expected - colours[column]).max() <= 1


def test_a_picture_of_when_counts_lifes_generations(tmp_path):
    from matplotlib import colormaps

    from tzd.viewers.layout import Layout

    panel = Panel("Life", PANEL.pieces, 5)
    moments = list(alone(blinking(4)))
    write_reveal([panel], iter(moments), tmp_path / "x.png")
    layout = Layout.of([panel], moments[0], 0)
    with Image.open(tmp_path / "x.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    (y, x), (height, width) = layout.cells(0), layout.blocks[0].cell
    for row, column, generation in ((1, 2, 2), (2, 1, 3), (2, 2, 3)):
        expected = 255 * np.array(colormaps["viridis"]((generation - 2) / 1)[:3])
        assert np.abs(expected - pixels[2 * (y + row * height) + 4, 2 * (x + column * width) + 4]).max() <= 1
    assert tuple(pixels[2 * y + 4, 2 * x + 4]) == THEMES["dark"].ground


def test_what_is_blank_at_the_end_is_a_block_and_dollar_signs_are_no_mathematics(tmp_path):
    from tzd.viewers.layout import Layout

    panel = Panel("$x^2", ("$", "\x00", "中", *PANEL.pieces[3:]))
    moments = list(alone(denoising()))[:3]
    write_reveal([panel], iter(moments), tmp_path / "x.png")
    colours = when(tmp_path / "x.png", Layout.of([panel], moments[0], 0), 12)
    blank = moments[-1][0].masked[0]
    assert [colours[i] == THEMES["dark"].blank for i in range(12)] == blank[:12].tolist() or panel.width == 2


def test_vector_pictures_are_what_they_say(tmp_path):
    for name in ("x.svg", "x.pdf"):
        save([PANEL], alone(denoising()), tmp_path / name)
    assert ET.parse(tmp_path / "x.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize("ending", [".gif", ".mp4", ".html", ".png"])
def test_a_speed_that_nothing_can_show_is_said_before_anything_is_drawn(tmp_path, ending):
    for speed in (0, -1, 0.001, 1e9, np.nan, np.inf):
        with pytest.raises(UserError, match=r"speed must lie in 0\.01\.\.1000 frames a second"):
            save([PANEL], iter([]), tmp_path / f"x{ending}", speed=speed)


def test_the_slowest_gif_stays_for_as_long_as_it_was_told(tmp_path):
    save([PANEL], alone(denoising(8, 1)), tmp_path / "x.gif", speed=0.01)
    assert gif(tmp_path / "x.gif")[1] == [100_000, 100_000 + 1000 * HOLD]
