"""axe finds no violation in any state of the pages, light or dark, wide or narrow."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.test_bpe import MIXED, address, open_all
from tests.browser.test_page import done, generate, type_prompt
from tests.browser.test_token_view import PHONE, both_sizes, chip
from tests.helpers.web import ROBOT, STORY

both_schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


def check(page, state: str) -> None:
    """Fail with axe's report if the page has a violation."""
    results = Axe().run(page)
    assert results.violations_count == 0, f"{state}: {results.generate_report()}"


def fits(page) -> bool:
    """Whether the page, with its styles, is no wider than the window."""
    page.wait_for_load_state()
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@both_schemes
def test_the_page_before_and_after_generating(visit, server, scheme):
    page = visit(f"{server.url}/?prompt=", color_scheme=scheme, reduced_motion="reduce")
    check(page, "empty")
    type_prompt(page, f"{STORY} \n\t{ROBOT} " * 8)
    open_all(page)
    check(page, "typed")
    generate(page, n_tokens=100)
    done(page)
    check(page, "generated")
    generate(page, n_tokens=1000, temperature=9)
    expect(page.locator("#error-temperature")).to_contain_text("9")
    check(page, "refused")


@both_schemes
@both_sizes
def test_the_page_while_generating_and_its_details(visit, slow_server, scheme, size):
    page = visit(slow_server.url, color_scheme=scheme, reduced_motion="reduce", **size)
    type_prompt(page, f"Slow: {STORY} {ROBOT} \n")
    expect(page.locator("#next tbody tr")).to_have_count(10)
    check(page, "candidates, brackets")
    chip(page, "prompt-strip", 1).focus()
    page.keyboard.press("Enter")
    check(page, "details of a token of the prompt")
    page.keyboard.press("Escape")
    generate(page, n_tokens=200)
    expect(page.locator("#strip .generated").nth(1)).to_be_attached()
    check(page, "while a text is generated")
    page.locator("#stop").click()
    page.locator("#strip .generated").last.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#details tbody tr").first).to_be_visible()
    check(page, "stopped, and details with alternatives")
    page.keyboard.press("Escape")
    page.get_by_label("in the text").check()
    check(page, "running text")


@both_schemes
def test_the_share_panel(visit, server, scheme):
    page = visit(server.url, color_scheme=scheme, viewport=PHONE["viewport"])
    generate(page, prompt=f'It\'s "so" {ROBOT}\n\tOnce $HOME', n_tokens=7)
    done(page)
    page.locator(".share summary").click()
    check(page, "unfolded")


@both_schemes
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_about_bpe(visit, server, scheme, width):
    page = visit(
        f"{server.url}/bpe",
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": width, "height": 900},
    )
    check(page, "empty")
    page.goto(address(server, MIXED + " a" * 300))
    check(page, "folded")
    open_all(page)
    check(page, "unfolded")
    page.locator("#bpe-text").fill("x" * 10_001)
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#bpe-error")).to_contain_text("10,001")
    check(page, "refused")


@both_schemes
def test_the_pages_about_scores_and_for_programs(visit, server, scheme):
    page = visit(f"{server.url}/score", color_scheme=scheme, viewport={"width": 320, "height": 900})
    page.locator("#score-text").fill(f"One day, a xylophonist {ROBOT} wrote zqxj ")
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#score-strip")).to_be_visible()
    assert fits(page)
    check(page, "scored")
    page.get_by_role("link", name="Let the model continue this text").click()
    page.wait_for_url("**/?prompt=*")  # with its scripts: without them, the link leads elsewhere
    page.locator("#scores").click()
    expect(page.locator("#prompt-strip.scored")).to_be_visible()
    assert fits(page)
    check(page, "scored on the strip")
    page.get_by_role("link", name="For programs").click()
    expect(page.locator("#base-url")).to_be_visible()
    assert fits(page)
    check(page, "for programs")
