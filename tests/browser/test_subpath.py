"""The page below a prefix, in a real Chromium: everything that scripts ask for is there."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_page import done
from tests.helpers.web import STORY


@pytest.fixture(scope="module")
def below(servers):
    return servers("below", SCRIPT_NAME="/glyph")


def test_scripts_find_every_address_below_a_prefix(visit, below):
    page = visit(f"{below.url}/", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#prompt").fill(STORY)
    expect(page.locator("#prompt-strip .chip")).to_have_count(10)
    take = page.locator('.take[data-of="prompt"]')
    take.get_by_role("button", name="Copy ids").click()
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("3198, 1110")
    for kind in ("csv", "json"):
        with page.expect_download() as download:
            take.get_by_role("button", name=kind.upper()).click()
        assert download.value.url == f"{below.url}/tokens.{kind}"
    page.locator("#n_tokens").fill("4")
    page.locator("#generate").click()
    done(page)
    page.locator("#next .candidate").first.click()  # written by hand, through /append
    expect(page.locator("#strip .generated")).to_have_count(5)
    page.locator("#after [data-link]").click()
    expect(page.locator("#after [data-link]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"{below.url}/?")
    page.locator("#strip .generated").first.click()
    links = page.locator("#details .more a").evaluate_all("all => all.map(a => a.href)")
    bpe, why = links
    assert bpe.startswith(f"{below.url}/bpe?text=")
    assert why.startswith(f"{below.url}/inside/attribution?prompt=")
    for link in links:
        assert page.goto(link).status == 200


def test_outside_of_the_prefix_there_is_nothing(below):
    below.prefix, prefix = "", below.prefix
    try:
        for path in ("/", "/healthz", "/glyphs", "/static/app.css"):
            with below.request("GET", path) as answer:
                assert answer.status == 404, path
    finally:
        below.prefix = prefix
    assert "Traceback" not in below.log
