"""A real headless Chromium for the tests of the page.

Any installed Chromium or Chrome will do; nothing is downloaded. Without one the tests are
skipped, unless ``CI`` is set: there they fail, because a skipped test checks nothing.
"""

import os
import re
import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.helpers.web import PATIENCE

# The first is the same engine without a window, and opens a page in a third of the time.
CANDIDATES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
HOW_TO_GET_ONE = (
    "No Chromium found. Install one to run the browser tests, for example with "
    "`apt install chromium` or `brew install --cask chromium`."
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Chromium's message about a 4xx response, which these tests expect.
NOTE_OF_4XX = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")
# htmx's message about a request that a newer one replaced, as intended.
NOTE_OF_REPLACED = re.compile(r"^htmx: htmx:error.*AbortError", re.DOTALL)
# A blank page has no storage.
REMEMBER_PACE = """if (location.protocol !== "about:" && !localStorage.getItem("pace"))
    localStorage.setItem("pace", "%s");"""

expect.set_options(timeout=PATIENCE * 1000)


def find_browser() -> str | None:
    """An installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, CANDIDATES)), None)


@pytest.fixture(scope="session")
def chromium():
    """A running browser."""
    path = find_browser()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_GET_ONE)
        pytest.skip(HOW_TO_GET_ONE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def complaints():
    """What the browser's console may say in this test: a list of regular expressions."""
    return [NOTE_OF_4XX, NOTE_OF_REPLACED]


@pytest.fixture
def contexts():
    """The browser's contexts in this test."""
    return []


def close(contexts: list) -> None:
    while contexts:
        contexts.pop().close()


@pytest.fixture
def own_server(own_server, contexts):
    """A server of the test's own. Pages are closed before it ends: a page asks at any time."""

    @contextmanager
    def serving(**settings):
        with own_server(**settings) as server:
            yield server
            close(contexts)

    return serving


@pytest.fixture
def visit(chromium, contexts, complaints):
    """``visit(url, **options)``: a fresh page, in a context of its own with these options.

    Texts are written at full pace unless ``pace`` is another one, or None for the page's own.

    When the test ends, the console of each page must be clean: no error, no exception, no
    breach of the content security policy.
    """
    said = []

    def visit(url: str, pace: str | None = "full", **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        if pace:
            context.add_init_script(REMEMBER_PACE % pace)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.on("console", lambda m: m.type in ("error", "warning") and said.append(m.text))
        page.goto(url)
        return page

    yield visit
    close(contexts)
    assert not [text for text in said if not any(c.search(text) for c in complaints)]
