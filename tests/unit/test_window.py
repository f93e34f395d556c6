from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tzd.errors import UserError
from tzd.viewers.window import check_screen, window
from viewed import PANEL, alone, denoising

TESTS = Path(__file__).parents[1]
SCREEN = ["xvfb-run", "-a", "-s", "-screen 0 1280x1024x24"]


def run_on_a_screen(code: str) -> str:
    if shutil.which("xvfb-run") is None:
        pytest.skip("there is no Xvfb")
    pytest.importorskip("tkinter")
    begin = "from viewed import *\nfrom tzd.viewers.window import window\nfrom matplotlib import pyplot\n"
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [*SCREEN, sys.executable, "-c", begin + code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_screen_a_user_is_told_what_else_there_is(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "figure", lambda: (_ for _ in ()).throw(RuntimeError("no display")))
    with pytest.raises(UserError, match="--save FILE, or watch in the terminal"):
        window([PANEL], alone(denoising()))


def test_a_backend_that_only_draws_files_is_no_screen():
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    with pytest.raises(UserError, match="there is no screen"):
        check_screen()
    assert not pyplot.get_fignums()


def test_a_window_shows_each_moment_and_passes_it_on():
    says = run_on_a_screen("""
import numpy as np
from PIL import Image
from tzd.viewers.raster import Raster
moments = list(alone(denoising(256, 5)))
raster = Raster([PANEL], moments[0], "light")
pictures = [Image.fromarray(raster.palette[raster.draw([moment])]) for moment in moments]
for i, moment in enumerate(window([PANEL], iter(moments), 200.0, "light")):
    assert moment is moments[i]
    drawn = np.asarray(pyplot.gcf().canvas.buffer_rgba())[..., :3].astype(float)
    height, width, _ = drawn.shape  # as large as the screen's pixels make it
    apart = [np.abs(drawn - np.asarray(picture.resize((width, height)))).mean() for picture in pictures]
    print(abs(width / raster.shape[1] - height / raster.shape[0]) < 0.02 and np.argmin(apart) == i and apart[i] < 8)
    if i == 5:
        pyplot.get_current_fig_manager().window.after(200, pyplot.close, pyplot.gcf())
print(len(pyplot.get_fignums()))
""")
    assert says.split() == ["True"] * 6 + ["0"]


def test_closing_the_window_ends_it_and_so_does_leaving_the_loop():
    says = run_on_a_screen("""
seen = 0
for _ in window([PANEL], alone(denoising(64, 64)), 50.0):
    seen += 1
    if seen == 5:
        shown = pyplot.get_current_fig_manager().window
        shown.after(1, lambda: shown.tk.eval(shown.protocol("WM_DELETE_WINDOW")))
print(seen < 20, len(pyplot.get_fignums()))
shown = window([PANEL], alone(denoising(64, 64)))
next(shown)
shown.close()
print(len(pyplot.get_fignums()))
""")
    assert says.split() == ["True", "0", "0"]
