"""The page in a browser: what is typed, clicked, and read."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest
from PIL import Image
from serving import STEPS, Server

import tzd
from tzd.sampling import DEFAULT

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium on this machine"),
    pytest.mark.xdist_group("page"),  # one process, one server, one browser
]
STAGE = ".tzd-stage [dir=ltr]:visible"
LONG = ["", "renoise", STEPS, 0.8, 20, 0, 0]
PATIENCE = 60_000  # milliseconds; machines that test are busy


@pytest.fixture(scope="module")
def model(server: Server) -> tzd.Model:
    return tzd.load(server.run, engine="torch", precision="auto")  # as the page does


@pytest.fixture(scope="module")
def outside() -> list[str]:
    """Requests to other hosts."""
    return []


@pytest.fixture(scope="module")
def context(server: Server, outside: list[str]) -> Iterator[playwright.BrowserContext]:
    host = urlsplit(server.url).netloc

    def watched(route: playwright.Route) -> None:
        if urlsplit(route.request.url).netloc == host:
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        context = browser.new_context(accept_downloads=True)
        context.set_default_timeout(PATIENCE)
        context.route("**/*", watched)
        yield context
        browser.close()


@pytest.fixture(scope="module")
def tab(context: playwright.BrowserContext, server: Server) -> playwright.Page:
    return opened(context, server)


@pytest.fixture
def page(tab: playwright.Page) -> playwright.Page:
    """The page, as the tests before have left it: on the tab Write, with nothing running."""
    choose(tab, "Write")
    return tab


def opened(context: playwright.BrowserContext, server: Server) -> playwright.Page:
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="Write", exact=True).wait_for()
    return page


def fill(page: playwright.Page, text: str, **numbers: int) -> None:
    """The text and numbers of the tab that is shown."""
    page.locator("textarea:visible").first.fill(text)
    for name, value in numbers.items():
        box = page.locator(f"input[aria-label='number input for {name}']:visible")
        box.fill(str(value))
        box.press("Tab")


def choose(page: playwright.Page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def press(page: playwright.Page, button: str) -> None:
    """Presses a button of the tab that is shown; what its line says of an earlier run is forgotten."""
    page.evaluate("for (const line of document.querySelectorAll('.tzd-status.over')) line.classList.remove('over')")
    page.get_by_role("button", name=button, exact=True).click()


def press_for_long(page: playwright.Page) -> None:
    """Begins a run that takes thousands of passes, and waits for its first picture."""
    page.get_by_label("Sampler").first.click()
    page.get_by_role("option", name="renoise", exact=True).click()
    fill(page, "", Length=20, Steps=STEPS)
    press(page, "Write")
    page.locator("#write-status .running").wait_for()


def over(page: playwright.Page, tab: str = "write", word: str = "done") -> str:
    """Waits for a run's end; its line of status."""
    line = page.locator(f"#{tab}-status .tzd-status.over b", has_text=word)
    line.wait_for()
    return page.inner_text(f"#{tab}-status")


def result(page: playwright.Page) -> str:
    return page.input_value("#write-result textarea")


def test_the_page_writes_what_the_library_writes(page: playwright.Page, model: tzd.Model) -> None:
    fill(page, "apple ban", Length=30, Steps=8)
    press(page, "Write")
    status = over(page)
    expected = tzd.sample(model, prompt="apple ban", length=30, steps=8, temperature=0.8, seed=0)
    assert result(page) == expected.text[0]
    assert result(page).startswith("apple ban") and len(result(page)) == 39
    assert f"NFE {expected.nfe}" in status and "0 characters left" in status and "characters/s" in status
    cells = page.locator(f"{STAGE} span")
    assert "".join(cells.all_inner_texts()).replace("⏎", "\n") == expected.text[0]
    assert "confidence" in (cells.last.get_attribute("title") or "") and cells.first.get_attribute("title") == "given"


def test_blanks_are_filled_and_the_rest_stays(page: playwright.Page, model: tzd.Model) -> None:
    fill(page, "apple ____na cherry _", Steps=8)
    press(page, "Write")
    over(page)
    assert result(page) == tzd.infill(model, "apple ____na cherry _", steps=8, temperature=0.8).text[0]
    assert result(page).startswith("apple ") and result(page)[10:20] == "na cherry " and "_" not in result(page)


def test_stop_ends_a_run_and_the_next_one_begins_at_once(page: playwright.Page) -> None:
    press_for_long(page)
    press(page, "Stop")
    over(page, word="stopped")
    assert result(page) == ""
    fill(page, "apple ", Length=5, Steps=3)
    press(page, "Write")
    over(page)
    assert len(result(page)) == 11


def test_two_samplers_write_side_by_side(page: playwright.Page) -> None:
    choose(page, "Compare")
    fill(page, "banana __________ damson", Steps=4)
    press(page, "Compare")
    over(page, "compare")
    pictures = page.locator(STAGE).all_inner_texts()
    assert [picture.split()[0] for picture in pictures] == [DEFAULT, "ancestral"]
    assert all("0 characters left" in picture and "banana" in picture for picture in pictures)


def test_life_is_played_on_what_was_written(page: playwright.Page) -> None:
    fill(page, "apple ", Length=30, Steps=4)
    press(page, "Write")
    over(page)
    written = result(page)
    choose(page, "Life")
    assert page.locator("textarea:visible").first.input_value() == written
    fill(page, written, Generations=3, Side=8)
    press(page, "Play")
    assert "generation 3" in over(page, "life")
    assert page.locator(f"{STAGE} span").count() == 64


def test_a_run_can_be_downloaded_as_a_gif(page: playwright.Page) -> None:
    fill(page, "apple ", Length=20, Steps=4)
    press(page, "Write")
    over(page)
    with page.expect_download() as download:
        page.locator("a:visible", has_text="Download the GIF").click()
    assert download.value.suggested_filename == "tzd.gif"
    picture = Image.open(io.BytesIO(download.value.path().read_bytes()))
    assert picture.format == "GIF" and picture.n_frames >= 3


def test_what_is_typed_is_never_html(page: playwright.Page) -> None:
    typed = "<b>x</b> ${1}<img src=x onerror=alert(1)>"
    fill(page, typed, Length=3, Steps=2)
    press(page, "Write")
    over(page)
    assert result(page).startswith(typed)
    assert "".join(page.locator(f"{STAGE} span").all_inner_texts()).startswith(typed)
    assert page.locator(f"{STAGE} img, {STAGE} b").count() == 0


def test_a_refusal_is_said_on_the_page(page: playwright.Page) -> None:
    fill(page, "<Ω>", Length=3)
    press(page, "Write")
    message = page.locator(".toast-body").first
    message.wait_for()
    assert "'Ω'" in message.inner_text() and "Traceback" not in message.inner_text()


def test_a_full_queue_is_said_on_the_page_and_stop_ends_a_run_that_waits(page: playwright.Page, server: Server) -> None:
    with ExitStack() as held:
        for name in ("one", "other"):  # all that compute
            body = {"data": LONG, "fn_index": server.runs[0], "session_hash": name}
            assert server.request("/gradio_api/queue/join", json.dumps(body).encode())[0] == 200
            next(held.enter_context(closing(server.listen(name))))
        fill(page, "apple ", Length=5, Steps=3)
        press(page, "Write")
        page.locator("#write-status .running b", has_text="waiting: next").wait_for()
        choose(page, "Life")
        press(page, "Play")
        message = page.locator(".toast-body", has_text="This application is currently busy")
        message.wait_for()
        choose(page, "Write")
        press(page, "Stop")
        over(page, word="stopped")
        press(page, "Write")  # in the place that is free again
        page.locator("#write-status .running b", has_text="waiting: next").wait_for()
        assert message.count() == 1 and page.locator("#write-status .over").count() == 0
    over(page)
    assert len(result(page)) == 11


def test_stop_ends_the_run_of_its_tab_alone(page: playwright.Page) -> None:
    press_for_long(page)
    choose(page, "Life")
    fill(page, "apple ", Generations=100, Side=8)
    press(page, "Play")
    page.locator("#life-status .running").wait_for()
    choose(page, "Write")
    page.get_by_role("button", name="Stop", exact=True).click()
    over(page, word="stopped")
    choose(page, "Life")
    over(page, "life")  # done, and not stopped


def test_nothing_outside_is_asked_for(page: playwright.Page, outside: list[str]) -> None:
    for name in ("Compare", "Life", "Write"):
        choose(page, name)
    fill(page, "apple ", Length=5, Steps=3)
    press(page, "Write")
    over(page)
    page.wait_for_load_state("networkidle")
    assert outside == []


def test_two_tabs_write_at_once_and_closing_one_frees_its_place(
    page: playwright.Page, context: playwright.BrowserContext, server: Server
) -> None:
    other = opened(context, server)
    for tab in (page, other):
        press_for_long(tab)
    assert all(tab.locator("#write-status .over").count() == 0 for tab in (page, other))
    other.close()
    asked = ["apple ", "ancestral", 2, 0.8, 3, 0, 0]
    assert server.ask(0, asked, "after")["success"]  # long before STEPS are over
    assert page.locator("#write-status .running").count() == 1
    press(page, "Stop")
    over(page, word="stopped")
