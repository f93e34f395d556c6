"""`tzd life` and `game_of_life_mlx.py`: what they print and write, and what is wrong with their flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import TEXT, Run

from networks import CONFIG, checkpoint
from tzd.sampling.life import step

ROOT = Path(__file__).parents[2]
GAME = ["--size", "6x30", "--iterations", "3", "--pattern", "glider"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of windows of 32 characters."""
    return checkpoint(
        tmp_path_factory.mktemp("model") / "small", replace(CONFIG, vocab_size=128, mask_id=-1, block_size=32)
    )


@pytest.fixture
def life(tzd: Run, trained: Path, tmp_path: Path) -> Run:
    """The command on the small model, in a folder that holds a text."""
    (tmp_path / "fox.txt").write_text(TEXT)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return tzd("life", trained, *arguments)

    return run


def test_without_a_terminal_the_last_board_is_printed_and_how_the_game_went(life: Run):
    result = life(*GAME, "--data", "fox.txt")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.ljust(30) for line in lines[:1] + lines[-1:]] == [TEXT[:30], TEXT[150:180]]
    assert len(lines) == 6
    assert "\x1b" not in result.stdout
    assert result.stderr == "generation 3: 5 of 180 cells live; it repeats every 120 generations (9 denoiser passes)\n"


def test_the_object_at_the_end_says_what_lives_and_what_it_took(life: Run):
    result = life(*GAME, "--data", "fox.txt", "--json", "--quiet", "--steps", 2)
    out = json.loads(result.stdout.splitlines()[-1])
    alive = np.zeros((6, 30), dtype=bool)
    alive[1:4, 13:16] = [[0, 1, 0], [0, 0, 1], [1, 1, 1]]
    for _ in range(3):
        alive = step(alive)
    assert np.array_equal(np.array(out["alive"]), alive)
    assert (out["generation"], out["nfe"], out["period"], len(out["tokens"])) == (3, 6, 120, 180)
    assert out["text"][:30] == TEXT[:30]


def test_a_seed_gives_the_same_board_again(life: Run):
    boards = [life("--size", "5x20", "--iterations", "2", "--seed", seed).stdout for seed in (1, 1, 2)]
    assert boards[0] == boards[1] != boards[2]
    assert len(boards[0].splitlines()) == 5


def test_a_dead_board_is_said_and_begins_anew_if_asked(life: Run, tmp_path: Path):
    (tmp_path / "two.cells").write_text("OO\n")
    flags = ["--size", "6x8", "--pattern", "two.cells", "--data", "fox.txt", "--iterations", "5"]
    assert life(*flags).stderr.endswith(
        "generation 1: 0 of 48 cells live; nothing lives any more (0 denoiser passes)\n"
    )
    assert "generation 5" in life(*flags, "--reseed", "--density", "0.5").stderr
    still = ["--size", "6x8", "--pattern", "block", "--data", "fox.txt", "--no-wrap", "--iterations", 1, "--steps", 1]
    assert life(*still).stderr == "generation 1: 4 of 48 cells live; nothing changes any more (1 denoiser pass)\n"


def test_an_endless_game_ends_with_the_last_cell(life: Run, tmp_path: Path):
    (tmp_path / "two.rle").write_text("x = 2, y = 1\n2o!")
    result = life("--size", "6x8", "--pattern", "two.rle", "--data", "fox.txt", "--endless")
    assert result.returncode == 0
    assert "nothing lives any more" in result.stderr


def test_a_picture_of_the_game_is_written_without_a_display(life: Run, tmp_path: Path):
    from PIL import Image

    result = life(*GAME, "--data", "fox.txt", "--save", "game.gif", "--interval", "100")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    with Image.open(tmp_path / "game.gif") as picture:
        assert picture.n_frames > 3


def test_the_ports_script_plays_with_its_defaults(trained: Path, tmp_path: Path):
    pytest.importorskip("mlx.core")
    (tmp_path / "tiny_shakespeare.txt").write_text(TEXT)
    words = [sys.executable, str(ROOT / "game_of_life_mlx.py"), "--weights", str(trained), "--temperature", "0.9"]
    result = subprocess.run(
        [*words, "--iterations", "1", "--interval", "50"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TZD_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 32
    assert "of 1024 cells live" in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--size 4x33",
            ("the model's window of 32 tokens is shorter than a line of the board, 33: give a size of 4x32 at most"),
        ),
        ("--size large", "'large' is no size: lines x columns, such as 32x48"),
        ("--size 2", "a side of the board must be at least 3"),
        ("--size 8 --pattern gosper-gun", "'gosper-gun' has 9 lines of 36 cells, more than a board of 8x8"),
        ("--size 8 --pattern gilder", "unknown pattern 'gilder' (did you mean 'glider'?)"),
        (
            "--size 8 --pattern none.rle",
            ("cannot read none.rle: No such file or directory; a file that you may read is needed"),
        ),
        ("--size 8 --pattern wrong.rle", "wrong.rle, line 2: 'z' in column 3 is none of b, o, $, !"),
        ("--size 8 --data none.txt", "there is no corpus 'none.txt'"),
        ("--size 8 --data greek.txt", "greek.txt: "),
        ("--size 8 --iterations -1", "--iterations must be at least 0, not -1"),
        ("--size 8 --interval 0", "--interval must be above 0 milliseconds, not 0"),
        ("--size 8 --interval nan", "--interval must be above 0"),
        ("--size 8 --interval 5 --speed 5", "--interval and --speed say the same: give one of them"),
        ("--size 8 --endless --save x.gif", ("--endless never gets to writing a file: give --iterations with --save")),
        ("--size 8 --save x.bmp", "x.bmp"),
        ("--size 8 --save none/x.gif", "none"),
        ("--size 8 --density 2", "density must lie in [0, 1], not 2"),
        ("--size 8 --sampler nonesuch", "unknown sampler 'nonesuch'"),
        ("--size 8 --seed -1", "seed must be at least 0"),
        ("--sized 8", "tzd life has no argument '--sized' (did you mean '--size'?)"),
    ],
)
def test_what_cannot_be_played_is_one_line_and_writes_nothing(life: Run, tmp_path: Path, flags: str, message: str):
    (tmp_path / "wrong.rle").write_text("x = 3, y = 1\nobz!")
    (tmp_path / "greek.txt").write_text("λόγος")
    before = sorted(tmp_path.iterdir())
    result = life(*flags.split())
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_interval_is_said_before_a_model_is_looked_for(tzd: Run):
    assert "--interval" in tzd("life", "nowhere", "--interval", "-1").stderr
