"""Frames as HTML: what the page holds, and what a browser makes of it, with no network to ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tzd
from tzd.corpus import load_tokenizer
from tzd.errors import UserError
from tzd.sampling import Frame
from tzd.viewers.html import ROWS, frame_html, player_html, write_html
from tzd.viewers.looks import THEMES, Looks
from tzd.viewers.panel import Panel
from tzd.viewers.timeline import in_step
from viewed import PANEL, blinking

CHROMIUM = Path("/usr/bin/chromium")
TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202eevil",
    "\0",
    "&lt;",
    "@data@",
    '"',
]
LETTERS = Panel("a <run> & more", [chr(code) for code in range(128)])


def denoising(text: str = TEXT, steps: int = 8, given: int = 5, rows: int = 1, seed: int = 0) -> Iterator[Frame]:
    """A text that appears in random order; its first characters are given."""
    tokens = np.array([[ord(c) for c in text]] * rows, np.int32)
    yield from appearing(tokens, 128, steps, given, seed)


def appearing(tokens: np.ndarray, mask_id: int, steps: int, given: int = 0, seed: int = 0) -> Iterator[Frame]:
    rng = np.random.default_rng(seed)
    when = rng.integers(1, steps + 1, tokens.shape)
    when[:, :given] = 0
    certain = np.where(when == 0, 1, rng.random(tokens.shape)).astype(np.float32)
    for step in range(steps + 1):
        masked = when > step
        revealed = (when == step) & (step > 0)
        shown, confidence = np.where(masked, mask_id, tokens), np.where(masked, 0, certain).astype(np.float32)
        yield Frame(step, shown, masked, revealed, confidence, step, np.full(len(tokens), tokens.shape[1]))


def hostile() -> tuple[Panel, list[Frame]]:
    tokens = np.arange(len(HOSTILE), dtype=np.int32)[None]
    return Panel(HOSTILE[0], HOSTILE), list(appearing(tokens, len(HOSTILE), 3))


def page_of(*panels: Panel, runs: list[Iterator[Frame]] | None = None, **options: Any) -> str:
    runs = runs or [denoising() for _ in panels]
    return player_html(panels, in_step(runs), **options)[0]


class Parsed(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: dict[str, str] = {}  # the text in elements of each name
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.said[self._open[-1]] = self.said.get(self._open[-1], "") + data


# --- what the files hold ----------------------------------------------------------------------------------------


def test_a_page_names_no_other_file_and_allows_none() -> None:
    page = page_of(LETTERS)
    assert not re.search(r"(https?:)?//[a-z]|url\(|@import", page.replace(" // ", " "), re.IGNORECASE)
    elements = Parsed(page).elements
    assert not {tag for tag, _ in elements} & {"link", "img", "iframe", "object", "embed", "a", "form"}
    assert not any(name in ("src", "href", "style") or name.startswith("on") for _, attrs in elements for name in attrs)
    (policy,) = [attrs["content"] for tag, attrs in elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith(
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src"
    )
    assert "unsafe" not in policy and "*" not in policy


def test_hostile_pieces_stay_text() -> None:
    panel, frames = hostile()
    page = page_of(panel, runs=[iter(frames)])
    parsed = Parsed(page)
    assert [tag for tag, _ in parsed.elements].count("script") == 2
    assert parsed.said["title"] == HOSTILE[0]
    assert "\0" not in page and "\u202e" not in page
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    (held,) = json.loads(data)["panels"]
    assert held["title"] == HOSTILE[0]
    assert set(held["texts"]) == {*HOSTILE, panel.glyphs[len(HOSTILE)]}
    snippet = Parsed(frame_html(panel, frames[-1]))
    assert {tag for tag, _ in snippet.elements} == {"div", "span"}
    assert {name for _, attrs in snippet.elements for name in attrs} == {"dir", "style", "title"}
    assert all(set(attrs.get("title") or "") <= set("confidence 0123456789.") for _, attrs in snippet.elements)


def test_a_page_of_256_characters_in_256_steps_takes_less_than_300_kb() -> None:
    frames = denoising((TEXT * 5)[:256], steps=256)
    assert len(page_of(LETTERS, runs=[frames])) < 30_000  # a tenth of it
    rng = np.random.default_rng(0)
    blank = np.zeros((1, 256), bool)
    rewritten = (  # where every step writes every token anew
        Frame(i, rng.integers(32, 127, (1, 256)), blank, ~blank, rng.random((1, 256)), i, np.array([256]))
        for i in range(100)
    )
    assert len(page_of(LETTERS, runs=[rewritten])) < 300_000


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    last = write_html([LETTERS], ((frame,) for frame in denoising()), tmp_path / "x.html")
    assert last[0].step == 8 and (tmp_path / "x.html").read_text("utf-8").endswith("</html>\n")

    def breaking() -> Iterator[tuple[Frame]]:
        yield (next(denoising()),)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_html([LETTERS], breaking(), tmp_path / "y.html")
    with pytest.raises(UserError, match="nothing to show"):
        write_html([LETTERS], iter([]), tmp_path / "z.html")
    assert [file.name for file in tmp_path.iterdir()] == ["x.html"]


@pytest.mark.parametrize("theme", [None, "dark", "light"])
def test_the_theme_is_the_readers_unless_told(theme: str | None) -> None:
    for page in (page_of(LETTERS, theme=theme), frame_html(LETTERS, next(denoising()), theme=theme)):
        grounds = {name: "#{:02x}{:02x}{:02x}".format(*THEMES[name].ground) for name in THEMES}
        said = f"light-dark({grounds['light']},{grounds['dark']})" if theme is None else grounds[theme]
        assert f"--ground:{said};" in page


def test_every_cell_of_a_snippet_has_its_width_and_says_its_confidence() -> None:
    *_, before, last = denoising()
    for frame in (before, last):
        cells = [attrs for tag, attrs in Parsed(frame_html(LETTERS, frame)).elements if tag == "span"]
        assert len(cells) == len(TEXT)
        for cell, masked, confidence in zip(cells, frame.masked[0], frame.confidence[0], strict=True):
            assert cell.get("title") == (None if masked else f"confidence {confidence:.2f}")
            assert ("width:1ch" in cell["style"]) or not masked  # a sign may come from another font
    said = Parsed(frame_html(LETTERS, last)).said["span"]
    assert said == TEXT.replace("\n", "⏎")


def test_a_snippet_tells_what_was_given_when_and_what_is_fresh() -> None:
    looks = Looks()
    frames = [(frame, looks.of(frame)) for frame in denoising()]
    frame, look = frames[3]
    steps = np.full(frame.tokens.shape, 2)
    cells = [attrs for tag, attrs in Parsed(frame_html(LETTERS, frame, look, steps=steps)).elements if tag == "span"]
    assert [cell["title"] for cell in cells[:5]] == ["given"] * 5
    titles = [cell["title"] for cell in cells[5:] if "title" in cell]
    assert titles and all(title is not None and title.startswith("step 2 · confidence 0.") for title in titles)
    fresh = ["color:var(--ground)" in (cell["style"] or "") for cell in cells]
    assert fresh == frame.revealed[0].tolist() and any(fresh)


def test_of_a_large_batch_the_first_rows_are_shown_and_the_others_counted() -> None:
    *_, last = denoising(rows=ROWS + 3)
    snippet = frame_html(LETTERS, last)
    assert snippet.count(">F</span>") == ROWS and "· 3 more not shown" in snippet
    (data,) = re.findall(r'id="data">(.*?)</script>', page_of(LETTERS, runs=[denoising(rows=ROWS + 3)]))
    (held,) = json.loads(data)["panels"]
    assert (len(held["lengths"]), held["more"]) == (ROWS, 3)


# --- in a notebook ----------------------------------------------------------------------------------------------

MODEL = tzd.from_function(lambda tokens: np.zeros((*tokens.shape, 9)), vocab_size=9, seq_len=16)
WRITER = tzd.Model(
    tzd.from_function(lambda tokens: np.zeros((*tokens.shape, 128)), vocab_size=128, seq_len=16).denoiser,
    load_tokenizer({"kind": "ascii", "vocab_size": 128}, Path()),
)


def spans(snippet: str) -> list[str | None]:
    return [attrs.get("title") for tag, attrs in Parsed(snippet).elements if tag == "span"]


def test_a_sample_says_when_and_how_surely_each_token_was_written() -> None:
    out = tzd.sample(MODEL, prompt=[[1, 2], [3]], length=6, steps=3)
    frames = list(tzd.stream(MODEL, prompt=[[1, 2], [3]], length=6, steps=3))
    for frame in frames:
        assert (out.steps[frame.revealed] == frame.step).all()
    np.testing.assert_array_equal(out.confidence, frames[-1].confidence)
    assert (out.steps[:, 0] == 0).all() and (out.confidence[:, 0] == 1).all()
    titles = spans(out._repr_html_())
    assert titles[:2] == ["given"] * 2 and titles[8] == "given" and len(titles) == 15
    assert titles[2] == f"step {out.steps[0, 2]} · confidence 0.11"
    assert "15 tokens · NFE 3" in out._repr_html_()


def test_frames_show_themselves_as_they_were() -> None:
    tokens = list(tzd.stream(MODEL, prompt=[[1, 2]], length=4, steps=3))
    texts = list(tzd.infill_stream(WRITER, "ab__c_", steps=3))
    for frame in tokens + texts:
        titles = spans(frame._repr_html_())
        assert [title is None for title in titles] == frame.masked[0].tolist()
        assert f"step {frame.step} · NFE {frame.nfe} · {frame.masked.sum()} " in frame._repr_html_()
    assert ">a</span>" in texts[0]._repr_html_() and titles[:2] == ["given", "given"]


def test_a_run_with_a_tokenizer_is_recorded_with_its_text() -> None:
    request = {"steps": 3, "seed": 2}
    trace = tzd.record(WRITER, tzd.infill_stream(WRITER, "ab__c_", **request))
    assert trace.text == tzd.infill(WRITER, "ab__c_", **request).text
    assert trace.panel.pieces[97] == "a"


def test_a_game_of_life_is_recorded_and_shown_as_a_board(tmp_path: Path) -> None:
    frames = list(tzd.life(WRITER, text="abc", pattern="random", size=(5, 6), generations=3, sampler="llada"))
    tzd.record(WRITER, iter(frames)).save(tmp_path / "life.npz")
    trace = tzd.Trace.load(tmp_path / "life.npz")
    *_, last = trace.frames
    assert trace.panel.columns == 6 and last.generation == 3
    np.testing.assert_array_equal(last.alive, frames[-1].alive)
    assert trace.about["pattern"] == "random"
    assert "width:calc(6ch + 4px)" in frames[-1]._repr_html_() and "generation 3 · " in frames[-1]._repr_html_()
    assert ("background:var(--alive)" in frames[-1]._repr_html_()) == frames[-1].alive.any()


def test_a_trace_plays_in_a_frame_that_can_reach_nothing() -> None:
    html = tzd.record(MODEL, tzd.stream(MODEL, length=4, steps=3))._repr_html_()
    ((tag, attrs),) = Parsed(html).elements
    assert tag == "iframe" and attrs["sandbox"] == "allow-scripts"
    assert attrs["srcdoc"] is not None and attrs["srcdoc"].startswith("<!doctype html>")


# --- in a browser -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a page; fails if it asks for anything, or its script does."""
    asked: list[str] = []
    contexts = []

    def open_page(html: str, **options: Any) -> Any:
        file = tmp_path / "page.html"
        file.write_text(html, "utf-8")
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 700}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: asked.append(message.text))
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.route("**/*", lambda route: route.continue_() if route.request.url == file.as_uri() else route.abort())
        page.on("request", lambda request: request.url == file.as_uri() or asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not asked


def text_of(page: Any) -> str:
    return str(page.locator(".text").first.evaluate("text => [...text.children].map(c => c.textContent).join('')"))


def slide(page: Any, frame: int) -> None:
    script = "(slider, frame) => { slider.value = frame; slider.dispatchEvent(new Event('input')) }"
    page.locator("#time").evaluate(script, frame)


def test_playing_ends_with_the_text(opened: Any) -> None:
    page = opened(page_of(LETTERS, speed=20))
    page.locator("#shown", has_text="8 / 8").wait_for()
    assert text_of(page) == TEXT.replace("\n", "⏎")
    assert page.locator(".status").inner_text() == "step 8 · NFE 8 · 0 characters left"
    assert page.locator("#play").get_attribute("aria-label") == "Play"
    assert page.title() == LETTERS.title and page.locator("h2").inner_text() == LETTERS.title


def test_every_frame_shows_what_the_run_had_and_nothing_moves(opened: Any) -> None:
    page = opened(page_of(LETTERS), reduced_motion="reduce")
    cells = "[...document.querySelectorAll('.text span, #controls *')]"
    places = f"() => {cells}.map(element => JSON.stringify(element.getBoundingClientRect()))"
    first = page.evaluate(places)
    frames = list(denoising())
    for frame in [*frames, *frames[::-2]]:  # backwards too
        slide(page, frame.step)
        assert text_of(page) == "".join(LETTERS.glyphs[LETTERS.cells(frame)][0])
        assert page.locator(".text .blank").count() == frame.masked.sum()
        assert page.locator(".text .fresh").count() == frame.revealed.sum()
        assert page.locator(".text .given").count() == 5
        assert page.evaluate(places) == first


def test_of_a_game_of_life_the_page_says_generation_and_living_cells_in_one_line_of_a_phone(opened: Any) -> None:
    board = Panel("Life", PANEL.pieces, 5)
    page = opened(page_of(board, runs=[blinking()]), viewport={"width": 390, "height": 800}, reduced_motion="reduce")
    assert page.locator(".status").inner_text() == "generation 3 · 3 alive · NFE 4"
    assert page.locator(".text .alive").count() == 3 and page.locator("#living").is_visible()
    height = page.locator(".status").bounding_box()["height"]
    slide(page, 0)
    assert page.locator(".status").inner_text() == "generation 0 · 3 alive · NFE 0"
    assert page.locator(".status").bounding_box()["height"] == height < 30


def test_keys_and_buttons_step_and_play(opened: Any) -> None:
    page = opened(page_of(LETTERS), reduced_motion="reduce")
    shown = page.locator("#shown")
    assert shown.inner_text() == "8 / 8"  # less motion: paused at the end
    for key, frame in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 8)):
        page.keyboard.press(key)
        assert shown.inner_text() == f"{frame} / 8"
    for button, frame in (("first", 0), ("forth", 1), ("forth", 2), ("back", 1), ("last", 8)):
        page.locator(f"#{button}").click()
        assert shown.inner_text() == f"{frame} / 8"
    page.locator("h2").click()
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-label") == "Pause"
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-label") == "Play"


def test_pointer_finger_and_keys_ask_for_step_and_confidence(opened: Any) -> None:
    frames = list(denoising())
    when = sum(frame.step * frame.revealed[0] for frame in frames)
    certain = frames[-1].confidence[0]
    page = opened(page_of(LETTERS), reduced_motion="reduce", has_touch=True)
    tip, cells = page.locator("#tip"), page.locator(".text span")

    def says(index: int) -> str:
        sign = LETTERS.glyphs[ord(TEXT[index])].strip() or "space"
        return (
            f"“{sign}” · step {when[index]} · NFE {when[index]} · confidence {np.rint(100 * certain[index]) / 100:.2f}"
        )

    assert tip.is_hidden()
    cells.nth(20).hover()
    assert tip.inner_text() == says(20)
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    cells.nth(14).tap()  # a line break
    assert tip.inner_text() == says(14)
    page.locator("h2").tap()
    assert tip.is_hidden()
    cells.nth(2).hover()
    assert tip.inner_text() == "“r” · given"
    slide(page, 0)
    cells.nth(20).hover()
    assert tip.inner_text() == "[MASK]"
    page.mouse.move(0, 0)
    slide(page, 8)
    page.locator(".copy").focus()
    page.keyboard.press("Tab")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert tip.inner_text() == says(6)
    assert page.locator("#shown").inner_text() == "8 / 8"


def test_hostile_pieces_are_shown_and_copied_as_text(opened: Any) -> None:
    panel, frames = hostile()
    page = opened(page_of(panel, runs=[iter(frames)]), reduced_motion="reduce")
    assert page.locator("img").count() == 0 and page.locator("h2").inner_text() == HOSTILE[0]
    assert text_of(page) == "".join(panel.glyphs[: len(HOSTILE)])
    page.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
    page.locator(".copy").click()
    assert page.evaluate("copied") == "".join(HOSTILE)


def test_panels_stand_side_by_side_and_on_a_phone_below_each_other(opened: Any) -> None:
    other = Panel("another", LETTERS.pieces)
    html = page_of(LETTERS, other, runs=[denoising(), denoising(steps=4)])
    for width, beside in ((1000, True), (390, False)):
        page = opened(html, viewport={"width": width, "height": 800}, reduced_motion="reduce")
        one, two = (page.locator(".panel").nth(i).bounding_box() for i in (0, 1))
        assert (one["y"] == two["y"]) is beside and (one["x"] == two["x"]) is not beside
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".panel .status").nth(1).inner_text().startswith("step 4 ")


def test_a_player_in_a_notebooks_frame_plays(opened: Any) -> None:
    trace = tzd.Trace(LETTERS, list(denoising()), {})
    page = opened(f"<!doctype html><meta charset=utf-8><title>notebook</title>{trace._repr_html_()}")
    frame = page.frame_locator("iframe")
    frame.locator("#last").click()
    assert frame.locator("#shown").inner_text() == "8 / 8"
