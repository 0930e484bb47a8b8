"""Take the README's pictures: ``python tools/make_screenshot.py http://127.0.0.1:8000``.

Needs a running page with the bundled model and an installed Chromium. Writes
``docs/screenshot.png``, a prompt, its continuation and the details of one token, and
``docs/inside.png``, where one head of attention looks.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
HEAD = "/inside/9?prompt=The+cat+sat+on+the+mat+because+it&layer=1&head=2"
FIELDS = {
    "prompt": "Once upon a time, there was a little 🤖 named Tim. He",
    "n_tokens": "40",
    "seed": "4",
}


def main(url: str) -> None:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1640, "height": 920})
        page.goto(url)
        page.get_by_label("Full").check()
        for name, value in FIELDS.items():
            page.fill(f"#{name}", value)
        expect(page.locator("#next .candidate")).to_have_count(10)
        page.click("#generate")
        expect(page.locator("#status")).to_contain_text("Done", timeout=60_000)
        expect(page.locator("#next .candidate")).to_have_count(10)
        page.locator("#strip .generated").nth(12).click()
        page.screenshot(path=DOCS / "screenshot.png")
        page.set_viewport_size({"width": 1400, "height": 1130})
        page.goto(url.rstrip("/") + HEAD)
        page.screenshot(path=DOCS / "inside.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
