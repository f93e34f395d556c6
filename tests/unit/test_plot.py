from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tzd.cli import main
from tzd.errors import UserError
from tzd.loggers.csv import CsvLogger
from tzd.viewers.figure import COLOURS, INK
from tzd.viewers.plot import MOST_RUNS, find_runs, plot_runs, runs_figure, smoothed

STEPS = list(range(10, 60, 10))


def record(folder: Path, *, steps: list[int] = STEPS, validated: bool = True, bits: float = 1.5) -> Path:
    folder.mkdir(parents=True)
    logger = CsvLogger(folder, None)
    for step in steps:
        at = {"step": step, "tokens": 100 * step, "seconds": 6.0 * step}
        logger.log({**at, "loss": 3 - step / 50, "lr": step / 1e4, "tokens_per_second": 2000.0 + step})
        if validated:
            nats = 2 - step / 100
            logger.log({**at, "val_nats_per_token": nats, "val_stderr": 0.1, "val_bits_per_char": bits * nats})
    logger.close()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return record(tmp_path / "a_run$1$")


def contrast(colour: str, ground: str) -> float:
    """WCAG 2's ratio of two colours' luminances."""

    def luminance(name: str) -> float:
        rgb = np.array(to_rgb(name))
        return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))

    darker, brighter = sorted((luminance(colour), luminance(ground)))
    return (brighter + 0.05) / (darker + 0.05)


def test_each_axes_holds_what_the_run_recorded(run: Path) -> None:
    loss, validation, rate, speed = runs_figure([run]).axes
    for axes, values in (
        (loss, [3 - step / 50 for step in STEPS]),
        (validation, [1.5 * (2 - step / 100) for step in STEPS]),
        (rate, [step / 1e4 for step in STEPS]),
        (speed, [2000.0 + step for step in STEPS]),
    ):
        (line,) = axes.lines
        assert line.get_xdata().tolist() == STEPS
        assert line.get_ydata() == pytest.approx(values)
    assert validation.get_ylabel() == "validation NELBO\n(bits per character)"


@pytest.mark.parametrize(("x", "scale"), [("tokens", 100), ("minutes", 0.1)])
def test_runs_are_drawn_over_what_was_asked_for(run: Path, x: str, scale: float) -> None:
    for axes in runs_figure([run], x=x).axes:
        assert axes.lines[0].get_xdata() == pytest.approx(scale * np.array(STEPS))


def test_the_band_is_one_standard_error_in_the_unit_of_the_axis(run: Path) -> None:
    (band,) = runs_figure([run]).axes[1].collections
    corners = band.get_paths()[0].vertices
    at_ten = corners[corners[:, 0] == 10][:, 1]
    assert (at_ten.min(), at_ten.max()) == pytest.approx((1.5 * 1.8, 1.5 * 2.0))  # 1.9 ± 0.1 nats, 1.5 bits a nat


def test_a_run_that_knows_no_characters_is_drawn_in_nats(tmp_path: Path) -> None:
    runs = [record(tmp_path / "a"), record(tmp_path / "b", bits=float("nan"))]
    validation = runs_figure(runs).axes[1]
    assert "nats per token" in validation.get_ylabel()
    for line in validation.lines:
        assert line.get_ydata() == pytest.approx([2 - step / 100 for step in STEPS])


def test_noise_is_averaged_and_stays_faint_behind(run: Path) -> None:
    faint, line = runs_figure([run], smoothing=3).axes[0].lines
    assert faint.get_ydata() == pytest.approx([3 - step / 50 for step in STEPS])
    assert line.get_ydata() == pytest.approx(faint.get_ydata())  # a straight line stays one, its ends included
    assert faint.get_alpha() < 0.5 and line.get_alpha() is None
    assert smoothed(np.array([0.0, 3.0, 0.0, 3.0]), 3) == pytest.approx([0, 1, 2, 3])
    assert smoothed(np.array([0.0, 3.0, 6.0]), 10**30) == pytest.approx([0, 3, 6])


def test_a_validation_is_never_smoothed(run: Path) -> None:
    (line,) = runs_figure([run], smoothing=3).axes[1].lines
    assert line.get_ydata() == pytest.approx([1.5 * (2 - step / 100) for step in STEPS])


def test_several_runs_share_axes_and_differ_in_colour_and_mark(tmp_path: Path) -> None:
    figure = runs_figure([record(tmp_path / "a"), record(tmp_path / "b", steps=[10, 20])])
    first, second = figure.axes[1].lines
    assert first.get_color() != second.get_color() and first.get_marker() != second.get_marker()
    assert second.get_xdata().tolist() == [10, 20]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a: 2.250 at best", "b: 2.700 at best"]


def test_a_name_is_shown_as_it_is(run: Path) -> None:
    (legend,) = runs_figure([run]).legends
    (text,) = legend.get_texts()
    assert text.get_text() == "a_run$1$: 2.250 at best"
    assert not text.get_parse_math()


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (legend,) = runs_figure([record(tmp_path / "a" / "r"), record(tmp_path / "b" / "r")]).legends
    assert [text.get_text().split(":")[0][-3:] for text in legend.get_texts()] == ["a/r", "b/r"]


def test_a_name_of_sixty_characters_stays_in_the_picture(tmp_path: Path) -> None:
    figure = runs_figure([record(tmp_path / (letter * 60)) for letter in "mWx"])
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y0 >= max(axes.get_window_extent().y1 for axes in figure.axes)


def test_ink_and_colours_stand_out_from_a_light_and_a_dark_page() -> None:
    for ground in ("#ffffff", "#0d1117"):
        assert contrast(INK, ground) > 4.2
        assert all(contrast(colour, ground) > 3 for colour in COLOURS)


def test_a_picture_has_no_ground_of_its_own(run: Path) -> None:
    from PIL import Image

    picture = Image.open(plot_runs([run], run / "plot.png"))
    assert picture.getpixel((1, 1))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_a_file_is_what_its_ending_says(run: Path, ending: str, start: bytes) -> None:
    assert plot_runs([run], run / f"plot{ending}").read_bytes().startswith(start)


def test_a_run_without_validation_says_so_in_its_place(tmp_path: Path) -> None:
    figure = runs_figure([record(tmp_path / "a", validated=False)])
    assert [text.get_text() for text in figure.axes[1].texts] == ["nothing recorded"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a"]


def test_a_run_of_one_step_is_a_point(tmp_path: Path) -> None:
    figure = runs_figure([record(tmp_path / "a", steps=[1])])
    assert all(axes.lines[0].get_marker() == "o" for axes in figure.axes)


def test_a_short_run_has_no_ticks_at_half_a_step(tmp_path: Path) -> None:
    for axes in runs_figure([record(tmp_path / "a", steps=[0, 1, 2])]).axes:
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_a_run_that_is_going_on_is_drawn_without_its_torn_line(run: Path) -> None:
    with (run / "metrics.csv").open("a") as file:
        file.write("60,1.0,6000,3")
    assert runs_figure([run]).axes[0].lines[0].get_xdata().tolist() == STEPS


def test_a_folder_stands_for_the_runs_in_it(tmp_path: Path) -> None:
    runs = [record(tmp_path / name) for name in ("b", "a")]
    (tmp_path / "c").mkdir()
    assert find_runs(tmp_path) == sorted(runs)
    assert find_runs(runs[0]) == [runs[0]]


def test_a_sign_that_the_font_lacks_is_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plot_runs([record(tmp_path / "走")], tmp_path / "a.png").exists()


def test_what_cannot_be_drawn_is_one_line_and_writes_nothing(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    with pytest.raises(UserError, match=r"out\.txt: a picture ends in \.png, \.svg, \.pdf"):
        plot_runs([run], tmp_path / "out.txt")
    with pytest.raises(UserError, match=r"cannot read .*metrics\.csv: No such file or directory; give a run folder"):
        plot_runs(find_runs(tmp_path / "none"), out)
    with pytest.raises(UserError, match="has recorded nothing yet: wait for its first step"):
        plot_runs([record(tmp_path / "new", steps=[])], out)
    with pytest.raises(UserError, match=f"too many for one picture: name {MOST_RUNS} at most"):
        plot_runs([run] * (MOST_RUNS + 1), out)
    assert not list(tmp_path.glob("out.*"))


def test_the_command_says_where_the_picture_is(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "b")
    assert main(["plot", str(run), "--x", "minutes"]) == 0
    assert main(["plot", str(run), "b", "--smooth", "2"]) == 0
    assert main(["plot", ".", "--out", "all.svg"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(run / "plot.png"), "plot.png", "all.svg"]
    assert all(Path(name).exists() for name in (run / "plot.png", "plot.png", "all.svg"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--smooth", "0"], "--smooth must be at least 1, not 0"),
        (["--out", "a.gif"], "cannot write a.gif: a picture ends in .png, .svg, .pdf"),
        (["--out", "nowhere/a.png"], "cannot write nowhere/a.png: No such file or directory"),
        (["--x", "hours"], "invalid choice: 'hours'"),
    ],
)
def test_a_wrong_flag_is_one_line(
    run: Path, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(run), *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_with_control_characters_in_its_name_cannot_move_the_terminal(tmp_path: Path, capsys) -> None:
    run = record(tmp_path / "a\x1b[2J")
    assert main(["plot", str(run)]) == 0
    assert (run / "plot.png").exists()
    assert "\x1b" not in capsys.readouterr().out
