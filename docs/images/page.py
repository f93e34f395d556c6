"""Takes the picture of `tzd serve` that the README shows, with the browser that the page is tested with.

tzd serve runs/demo
python docs/images/page.py http://127.0.0.1:7860 docs/images/page.png --prompt "ROMEO: "
"""

from __future__ import annotations

import argparse
import shutil

from playwright.sync_api import sync_playwright

PATIENCE = 120_000  # milliseconds: large models write slowly


def main() -> None:
    """Types, presses, waits, and takes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="what `tzd serve` says")
    parser.add_argument("picture", help="a PNG file")
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--length", type=int, default=230)
    asked = parser.parse_args()
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 930}, color_scheme="dark")
        page.set_default_timeout(PATIENCE)
        page.goto(asked.address)
        page.locator("textarea:visible").first.fill(asked.prompt)
        length = page.get_by_label("number input for Length").first
        length.fill(str(asked.length))
        length.press("Tab")
        page.get_by_role("button", name="Write", exact=True).click()
        page.locator("#write-status .tzd-status.over").wait_for()
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)  # colours that fade
        page.screenshot(path=asked.picture)
        browser.close()


if __name__ == "__main__":
    main()
