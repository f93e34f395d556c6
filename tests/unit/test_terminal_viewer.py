from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tzd.sampling import Frame
from tzd.viewers.looks import ALIVE, FRESH
from tzd.viewers.panel import MASK, Panel
from tzd.viewers.terminal import Grid, Screen, can_show, in_place, styles, watch

TEXT = "First Citizen:\nBefore we proceed any further,\thear me speak.\n"


class Characters:
    """128 codes, or the pieces given."""

    def __init__(self, pieces: list[str] | None = None) -> None:
        self.known = pieces or [chr(code) for code in range(128)]
        self.vocab_size = len(self.known)

    def pieces(self, tokens: np.ndarray) -> list[str]:
        return [self.known[token] for token in tokens]


def frame(tokens: np.ndarray, masked: np.ndarray, revealed: np.ndarray | None = None, step: int = 0, nfe: int = 0):
    masked = np.atleast_2d(masked)
    tokens = np.where(masked, 10**6, np.atleast_2d(tokens))  # [MASK] may lie far outside the tokenizer's range
    revealed = np.zeros_like(masked) if revealed is None else np.atleast_2d(revealed)
    confidence = np.where(masked, 0.0, 1.0).astype(np.float32)
    return Frame(
        step=step,
        tokens=tokens,
        masked=masked,
        revealed=revealed,
        confidence=confidence,
        nfe=nfe,
        lengths=np.full(len(tokens), tokens.shape[1]),
    )


def denoising(text: str = TEXT, seed: int = 0) -> list[Frame]:
    tokens, rng = np.array([[ord(c) for c in text]]), np.random.default_rng(seed)
    masked = np.ones(tokens.shape, dtype=bool)
    frames = [frame(tokens, masked)]
    while masked.any():
        revealed = masked & (rng.random(tokens.shape) < 0.3)
        masked = masked & ~revealed
        frames.append(frame(tokens, masked, revealed, step=len(frames), nfe=len(frames)))
    return frames


def grid_of(known: Characters | None = None, **panel) -> Grid:
    return Grid(Panel.of(known or Characters(), **panel), styles())


def lines(grid: Grid, shown, columns: int = 30, rows: int = 20) -> list[str]:
    grid.take(shown)
    return [line.plain for line in grid.draw(columns, rows)]


def terminal(width: int = 40, height: int = 12, **options) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, **options)


def test_no_character_moves_between_the_first_frame_and_the_last():
    grid, frames = grid_of(), denoising()
    final = "".join(lines(grid, frames[-1])[:-1])
    for shown in frames:
        cells = "".join(lines(grid, shown)[:-1])
        assert len(cells) == len(TEXT)
        assert all(cell in (MASK, last) for cell, last in zip(cells, final, strict=True))
        assert [cell == MASK for cell in cells] == shown.masked[0].tolist()


def test_line_breaks_and_tabs_are_signs():
    text = "".join(lines(grid_of(), denoising()[-1])[:-1])
    assert text == TEXT.replace("\n", "⏎").replace("\t", "⇥")


def test_the_status_counts_steps_calls_and_what_is_left():
    status = lines(grid_of(), denoising()[1], columns=80)[-1]
    assert status.startswith("step 1 · NFE 1 · ") and status.endswith(" characters left")
    assert int(status.split(" · ")[2].split()[0]) == denoising()[1].masked.sum()


@pytest.mark.parametrize("columns", [20, 33, 80])
def test_pieces_of_any_width_get_cells_of_one_width(columns: int):
    pieces = ["a", "日本", " the", "antidisestablishment", "\n"]
    grid = grid_of(Characters(pieces))
    tokens = np.array([[0, 1, 2, 3, 4] * 7])
    masked = np.zeros(tokens.shape, dtype=bool)
    masked[0, ::3] = True
    full = lines(grid, frame(tokens, masked), columns=columns)[:-1]
    per_line = columns // grid.panel.width
    assert [cell_len(line) for line in full[:-1]] == [per_line * grid.panel.width] * (len(full) - 1)
    assert len(full) == -(-tokens.size // per_line)


def test_what_is_behind_the_end_of_a_row_is_blank():
    given = frame(np.array([[97, 98, 99, 100], [97, 98, 10**6, 10**6]]), np.zeros((2, 4), dtype=bool))
    given = replace(given, lengths=np.array([4, 2]))
    assert [line.rstrip() for line in lines(grid_of(), given)[:3]] == ["abcd", "", "ab"]


def test_no_control_character_reaches_the_terminal():
    codes = np.arange(128)[None]
    console = terminal(width=200, no_color=True)
    list(watch([frame(codes, np.zeros_like(codes, dtype=bool))], Characters(), console))
    drawn = console.file.getvalue()
    assert "␛" in drawn and "\x07" not in drawn and "\x00" not in drawn


def test_frames_pass_through_unchanged():
    frames = denoising()
    assert list(watch(frames, Characters(), terminal())) == frames
    assert list(watch(iter(frames), Characters(), Console(file=io.StringIO()))) == frames


@pytest.mark.parametrize(
    "console",
    [
        Console(file=io.StringIO()),
        terminal(width=19),
        terminal(height=3),
        terminal(_environ={"TERM": "dumb"}),
    ],
    ids=["no terminal", "too narrow", "too low", "dumb"],
)
def test_nothing_is_drawn_where_it_cannot_be_drawn_in_place(console: Console):
    assert not can_show(console)
    list(watch(denoising(), Characters(), console))
    assert console.file.getvalue() == ""


def test_the_last_frame_is_drawn_however_fast_the_frames_come():
    console = terminal(width=100, no_color=True)
    list(watch(denoising(), Characters(), console))
    assert "0 characters left" in console.file.getvalue()


def unsure() -> list[Frame]:
    """A is given; then B is revealed without confidence and C with; D stays masked."""
    tokens = np.array([[65, 66, 67, 68]])
    first = frame(tokens, np.array([[False, True, True, True]]))
    second = frame(tokens, np.array([[False, False, False, True]]), np.array([[False, True, True, False]]))
    second.confidence[0, 1:3] = 0.1, 0.95
    return [first, second, frame(tokens, np.zeros((1, 4), dtype=bool))]


def test_no_color_means_no_colour_codes():
    codes = [f"\x1b[{code}m" for code in range(31, 38)]
    for no_color in (False, True):
        console = terminal(color_system="standard", no_color=no_color)
        first, second, last = unsure()
        last.confidence[:] = second.confidence[:]
        list(watch([first, last], Characters(), console))
        assert any(code in console.file.getvalue() for code in codes) is not no_color


def test_styles_tell_masks_given_tokens_and_confidence_apart():
    grid = grid_of()
    first, second, _ = unsure()
    third = replace(second, revealed=np.array([[False, False, True, False]]))
    lines(grid, first)
    lines(grid, second)
    grid.take(third)
    line = grid.draw(40, 10)[0]
    assert {line.plain[span.start]: str(span.style) for span in line.spans} == {
        "A": "bold", "B": "red", "C": "bold reverse", MASK: "dim",
    }  # fmt: skip


@pytest.mark.parametrize("rows", [4, 7, 10, 23])
def test_a_canvas_larger_than_the_screen_is_cut_to_it_around_the_first_mask(rows: int):
    tokens = np.full((1, 600), ord("x"))
    for masked_from in (0, 300, 599):
        masked = np.arange(600)[None] >= masked_from
        shown = lines(grid_of(), frame(tokens, masked), columns=30, rows=rows)
        assert len(shown) <= rows
        assert any(MASK in line for line in shown)


def test_as_many_samples_are_shown_as_fit():
    tokens = np.full((5, 60), ord("x"))
    masked = np.ones(tokens.shape, dtype=bool)
    shown = lines(grid_of(), frame(tokens, masked), columns=100, rows=6)
    assert len(shown) <= 6
    assert shown[-1].endswith("3 of 5 samples shown")


def board(height: int, width: int, generation: int = 3) -> Frame:
    """Letters of the alphabet; the first column lives, and its first cell is blank."""
    cells = np.arange(height * width)
    masked, alive = np.zeros((2, 1, height * width), dtype=bool)
    masked[0, 0], alive[0, ::width] = True, True
    return replace(frame(65 + cells % 26, masked), alive=alive, generation=generation)


def screen(*panels: Panel, **options) -> Screen:
    return Screen(panels or [Panel.of(Characters())], **options)


def drawn(shown: Screen, moment: tuple[Frame, ...], columns: int, rows: int) -> list[str]:
    shown.take(moment)
    lines = [line.plain for line in shown.draw(columns, rows)]
    assert len(lines) <= rows
    assert all(cell_len(line) <= columns for line in lines)
    return lines


def titled(*titles: str) -> list[Panel]:
    return [Panel.of(Characters(), title) for title in titles]


def test_panels_stand_side_by_side_where_they_fit_and_below_each_other_where_not():
    wide = drawn(screen(*titled("left", "right")), (denoising()[-1],) * 2, 80, 24)
    assert wide[0].split() == ["left", "right"]
    narrow = drawn(screen(*titled("left", "right")), (denoising()[-1],) * 2, 40, 24)
    assert narrow[0] == "left" and narrow.index("right") > 1
    text = TEXT.replace("\n", "⏎").replace("\t", "⇥")
    first = wide[0].index("right")
    assert "".join(line[: first - 3] for line in wide[1:3]).rstrip() == text
    assert "".join(line[first:] for line in wide[1:3]) == text
    assert "".join(narrow[1:3]) == text


def test_each_panel_has_its_own_status():
    moment = (denoising()[0], denoising()[2])
    status = drawn(screen(*titled("a", "b")), moment, 100, 24)[3]
    assert "step 0 · NFE 0" in status and "step 2 · NFE 2" in status


def test_panels_for_which_there_is_no_room_are_counted():
    lines = drawn(screen(*titled("a", "b", "c")), (denoising()[-1],) * 3, 40, 9)
    assert lines[-1] == "1 more in a larger terminal"
    assert {"a", "b"} < set(lines) and "c" not in lines
    assert drawn(screen(*titled("a", "b", "c")), (denoising()[-1],) * 3, 20, 9)[-1] == "1 more hidden"


def test_nothing_moves_in_panels_either():
    frames, shown = denoising(), screen(*titled("a", "b"))
    for last, moment in zip(frames[1:], frames[:-1], strict=True):
        before, after = (drawn(shown, (each, frames[0]), 80, 24) for each in (moment, last))
        assert [line.count(MASK) for line in before[4:]] == [line.count(MASK) for line in after[4:]]
        assert all(a in (MASK, b) for a, b in zip("".join(before[1:3]), "".join(after[1:3]), strict=True))


def test_a_board_has_its_own_columns_whatever_the_terminal_has():
    lines = drawn(screen(Panel.of(Characters(), columns=8)), (board(4, 8),), 80, 24)
    assert lines[:4] == [MASK + "BCDEFGH", "IJKLMNOP", "QRSTUVWX", "YZABCDEF"]
    assert lines[4] == "generation 3 · 4 alive · step 0 · NFE 0 · 1 characters left"


def test_a_board_that_does_not_fit_is_cropped_and_says_so():
    lines = drawn(screen(Panel.of(Characters(), columns=64)), (board(32, 64),), 60, 10)
    assert [line[:3] for line in lines[:2]] == [MASK + "BC", "MNO"]
    assert {len(line) for line in lines[:9]} == {60}
    assert lines[-1] == "NFE 0 · 1 left · 60×9 of 64×32 shown"


def test_living_cells_are_told_apart_with_colours_and_without():
    for coloured in (True, False):
        shown = screen(Panel.of(Characters(), columns=8), coloured=coloured)
        shown.take((board(4, 8),))
        second = shown.draw(80, 24)[1]
        living, dead = (second.spans[i].style for i in (0, 1))
        assert second.plain[second.spans[0].start : second.spans[0].end] == "I"
        assert (living.bgcolor is not None) == coloured != bool(living.underline)
        assert dead.bgcolor is None and not dead.underline


def test_without_colours_blanks_new_and_living_cells_are_still_told_apart():
    plain = styles(coloured=False)
    blank, given, new, living = plain[0], plain[1], plain[FRESH + 5], plain[ALIVE + 5]
    attributes = {str(replaced.without_color) for replaced in (blank, given, new, living, plain[5])}
    assert len(attributes) == 5
    assert new.reverse and living.underline


def test_a_legend_says_what_the_colours_mean_where_there_is_room():
    assert drawn(screen(), (denoising()[0],), 80, 24)[-1].split("  ") == [
        MASK + " blank", "given", "0–30%", "30–60%", "60–90%", "90–100%", "new",
    ]  # fmt: skip
    for small in ((80, 8), (40, 24)):
        assert "given" not in drawn(screen(), (denoising()[0],), *small)[-1]
    assert "given" not in drawn(screen(coloured=False), (denoising()[0],), 80, 24)[-1]


class Clock:
    """Time that passes while one sleeps, and where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_with_a_speed_every_frame_is_drawn_and_none_early(monkeypatch: pytest.MonkeyPatch):
    clock, frames, console, times = Clock(), denoising(), terminal(width=100, no_color=True), []
    monkeypatch.setattr("tzd.viewers.terminal.time", clock)
    for i, _ in enumerate(in_place([Panel.of(Characters())], ((each,) for each in frames), speed=4, console=console)):
        times.append(clock.now)
        clock.now += 1.0 if i == 2 else 0.1  # what a sampler takes; once, it is late
    assert all(f"step {each.step} ·" in console.file.getvalue() for each in frames)
    waits = [later - earlier for earlier, later in pairwise([*times, clock.now])]
    assert waits == pytest.approx([1.0 if i == 2 else 0.25 for i in range(len(frames))])


def test_without_a_speed_frames_that_come_too_fast_are_left_out(monkeypatch: pytest.MonkeyPatch):
    clock, frames, console = Clock(), denoising(), terminal(width=100, no_color=True)
    monkeypatch.setattr("tzd.viewers.terminal.time", clock)
    for _ in in_place([Panel.of(Characters())], ((each,) for each in frames), console=console):
        clock.now += 0.02
    drawn = [f"step {each.step} ·" in console.file.getvalue() for each in frames]
    assert drawn[:4] == [True, False, True, False] and drawn[-1]


def test_what_skipped_frames_wrote_is_stressed_in_the_next_that_is_drawn():
    grid, frames = grid_of(), denoising()
    for each in frames[:3]:
        grid.take(each)
    drawn = grid.draw(len(TEXT), 10)[0]
    new = {i for span in drawn.spans if span.style.reverse for i in range(span.start, span.end)}
    assert new == set(np.flatnonzero(frames[1].revealed[0] | frames[2].revealed[0]))
    grid.take(frames[2])  # the same one again, while other runs go on
    assert not any(span.style.reverse for span in grid.draw(len(TEXT), 10)[0].spans)


def test_a_drawing_whose_terminal_becomes_narrower_is_erased_row_by_row():
    console = terminal(width=80, no_color=True)
    drawing = in_place([Panel.of(Characters())], ((each,) for each in denoising()), speed=1000, console=console)
    next(drawing)
    first = console.file.getvalue()
    wrapped = sum(-(-len(line) // 20) for line in (TEXT, f"step 0 · NFE 0 · {len(TEXT)} characters left"))
    console.width = 20
    next(drawing)
    second = console.file.getvalue().removeprefix(first)
    assert second.split(MASK)[0].count("\x1b[1A") == wrapped - 1 == 5
    drawing.close()
    third = console.file.getvalue().removeprefix(first + second)
    assert "\x1b[?25h" in third


def test_an_interrupted_drawing_leaves_the_cursor_visible():
    def interrupted():
        yield from ((each,) for each in denoising()[:2])
        raise KeyboardInterrupt

    console = terminal()
    with pytest.raises(KeyboardInterrupt):
        list(in_place([Panel.of(Characters())], interrupted(), console=console))
    drawn = console.file.getvalue()
    assert drawn.rfind("\x1b[?25h") > drawn.rfind("\x1b[?25l") > -1
