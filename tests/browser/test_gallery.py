"""The gallery and the comparison in a real Chromium: one click, no JavaScript, any width."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_accessibility import check
from tests.browser.test_page import ids_in
from tests.browser.test_token_view import scrolls_sideways
from tests.helpers.web import ROBOT


@pytest.mark.parametrize("scripts", [True, False])
def test_one_click_opens_a_text_and_its_comparison(visit, server, scripts):
    page = visit(server.url, java_script_enabled=scripts)
    page.get_by_role("link", name="Gallery").click()
    page.wait_for_url("**/gallery")  # loaded: the ids below are read at once
    entry = page.locator(".gallery-entry").filter(has_text="definately").first
    ids = [int(id) for id in entry.locator(".chip .id").all_text_contents()]
    address = page.url
    entry.locator("h3 a").click()
    expect(page.locator("#prompt")).to_have_value("I definately agree")
    expect(page.locator("#prompt-strip .chip")).to_have_count(len(ids))
    assert ids and ids_in(page, "#prompt-strip") == ids
    page.goto(address)
    entry.get_by_role("link", name="Compare with").click()
    expect(page.locator("#compare-b")).to_have_value("I definitely agree")
    expect(page.locator("#compared .agrees")).to_have_count(2)
    page.locator("#compare-b").fill("I agree")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compared .nothing")).to_have_text("nothing")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 320)])
def test_both_pages_have_no_barriers_and_fit_their_width(visit, server, scheme, width):
    size = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    page = visit(f"{server.url}/gallery", **size)
    assert not scrolls_sideways(page)
    check(page, "gallery")
    page.goto(f"{server.url}/compare")
    page.locator("#compare-a").fill(f"The cat {ROBOT} sat on the mat {'=' * 200}\n" * 2)
    page.locator("#compare-b").fill(" word" * 501)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compare-error-b")).to_contain_text("501 tokens")
    page.wait_for_load_state()  # with its style sheets
    check(page, "refused")
    page.locator("#compare-b").fill(f"the cat {ROBOT} slept {'internationalization' * 9}")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compared")).to_be_visible()
    page.wait_for_load_state()
    assert not scrolls_sideways(page)
    check(page, "compared")


def test_tokens_that_agree_stand_over_each_other(visit, server):
    page = visit(f"{server.url}/compare?a=The+cat+sat+here&b=A+very+big+cat+sat")
    for column in page.locator("#compared .agrees").all():
        upper, lower = (chip.bounding_box() for chip in column.locator(".chip").all())
        assert abs(upper["x"] - lower["x"]) < 1 and upper["y"] < lower["y"]
