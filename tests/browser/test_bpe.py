"""The page /bpe in a real Chromium: without JavaScript, by keyboard, at any width."""

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from tests.helpers.web import HEROES, HEROES_IDS, ROBOT

MIXED = f"don't  stop\n naïve café {ROBOT} 日本語 internationalization " + "=" * 100


def address(server, text: str) -> str:
    return f"{server.url}/bpe?{urlencode({'text': text})}"


def open_all(page) -> None:
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")


def test_it_works_without_javascript(visit, server):
    page = visit(f"{server.url}/bpe", java_script_enabled=False)
    page.get_by_role("link", name=HEROES).click()
    expect(page.locator("#bpe-text")).to_have_value(HEROES)
    ids = page.locator("section:has(#bpe-ids) .bpe-id")
    expect(ids).to_have_text([str(id) for id in HEROES_IDS])
    heroes = page.locator("#word-3")
    expect(heroes.locator(".bpe-steps")).to_be_hidden()
    heroes.locator("summary").click()
    expect(heroes.locator(".bpe-merge").first).to_have_text("lowest rank 2: h + e → he")
    page.locator("#bpe-text").fill("two\nlines")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#bpe-text")).to_have_value("two\nlines")
    assert parse_qs(urlsplit(page.url).query) == {"text": ["two\nlines"]}
    page.get_by_role("link", name="Let the model continue this text").first.click()
    expect(page.locator("#prompt")).to_have_value("two\nlines")


def test_a_word_of_the_text_leads_to_its_merges_by_keyboard(visit, server):
    page = visit(address(server, HEROES))
    page.locator(".bpe-cuts a").nth(4).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#word-5")).to_be_in_viewport()
    page.keyboard.press("Tab")  # from the place the link led to
    page.keyboard.press("Enter")
    expect(page.locator("#word-5 .bpe-steps")).to_be_visible()


@pytest.mark.parametrize("width", [320, 390, 768, 1440, 3840])
def test_nothing_scrolls_sideways(visit, server, width):
    page = visit(address(server, MIXED), viewport={"width": width, "height": 900})
    open_all(page)
    inside, outside = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert inside <= outside


def test_control_enter_explains(visit, server):
    page = visit(address(server, "Once"))
    page.locator("#bpe-text").fill("low lower")
    page.locator("#bpe-text").press("Control+Enter")
    expect(page).to_have_url(re.compile("text=low"))


@pytest.mark.parametrize("width", [390, 1366, 1920, 2560])
def test_the_masthead_stands_on_the_edge_of_the_panels(visit, server, width):
    page = visit(address(server, "Once"), viewport={"width": width, "height": 900})
    mark, panel = (page.locator(e).first.bounding_box() for e in (".wordmark", ".panel"))
    assert abs(mark["x"] - panel["x"]) <= 1


def test_the_main_page_leads_there(visit, server):
    page = visit(server.url)
    page.get_by_role("link", name="How tokens are made").click()
    expect(page.get_by_role("heading", name="How BPE got there")).to_be_visible()
