"""The inside views in a real Chromium: choosing by keyboard, without scripts, at any width."""

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.test_page import done, generate, ids_in
from tests.helpers.web import ROBOT, wait_until

CAT = "The cat sat on the mat because it"
MIXED = f"naïve {ROBOT} 日本語 <|endoftext|> " + "=" * 100 + " Once upon a time, there was"
LONG = "Once upon a time, there was a little girl who had a red ball. " * 6
PAGES = ["", *(f"/{number}" for number in range(1, 19))]


def address(server, page: str, text: str, **fields) -> str:
    return f"{server.url}/inside{page}?{urlencode({'prompt': text, **fields})}"


def chosen(page) -> str:
    return page.locator(".inside-strip [aria-current]").get_attribute("value")


def query(page) -> dict:
    return {name: values[-1] for name, values in parse_qs(urlsplit(page.url).query).items()}


def open_all(page) -> None:
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")


class TestChoosing:
    def test_a_press_on_a_chip_shows_that_token_and_focus_stays_there(self, visit, server):
        page = visit(address(server, "/9", CAT))
        page.locator('.inside-strip [value="3"]').click()
        expect(page.locator("h2").nth(1)).to_have_text("“Ġsat” in layer 0, head 0")
        assert chosen(page) == "3"
        expect(page.locator('.inside-strip [value="3"]')).to_be_focused()
        expect(page.locator("#inside-said")).to_have_text("Token 3, “Ġsat”, of 8; layer 0, head 0.")

    def test_arrow_keys_walk_the_strip_and_enter_chooses(self, visit, server):
        page = visit(address(server, "/9", CAT))
        page.locator(".inside-strip [aria-current]").focus()
        for _ in range(2):
            page.keyboard.press("ArrowLeft")
        expect(page.locator('.inside-strip [value="6"]')).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".inside-strip [aria-current]")).to_have_attribute("value", "6")
        expect(page.locator('.inside-strip [value="6"]')).to_be_focused()
        page.keyboard.press("Home")
        expect(page.locator('.inside-strip [value="1"]')).to_be_focused()

    def test_the_strip_is_one_stop_for_tab(self, visit, server):
        page = visit(address(server, "/9", CAT))
        page.locator(".inside-strip [aria-current]").focus()
        page.keyboard.press("Tab")
        expect(page.locator('select[name="layer"]')).to_be_focused()

    def test_layer_and_head_change_at_once_and_the_address_follows(self, visit, server):
        page = visit(address(server, "/9", CAT))
        page.locator('select[name="layer"]').select_option("2")
        expect(page.locator("h2").nth(1)).to_have_text("“Ġit” in layer 2, head 0")
        page.locator('select[name="head"]').select_option("1")
        expect(page.locator("h2").nth(1)).to_have_text("“Ġit” in layer 2, head 1")
        expect(page).to_have_url(re.compile("head=1"))
        assert query(page) == {"prompt": CAT, "layer": "2", "head": "1"}
        page.reload()
        expect(page.locator("h2").nth(1)).to_have_text("“Ġit” in layer 2, head 1")

    def test_pointing_at_a_token_lights_it_wherever_it_stands(self, visit, server):
        page = visit(address(server, "/9", CAT))
        page.locator('.inside-strip [value="6"]').hover()
        lit = page.locator(".inside .lit")
        expect(lit.first).to_be_visible()
        assert {e for e in lit.evaluate_all("all => all.map(e => e.dataset.at)")} == {"6"}
        assert lit.count() == page.locator('.inside [data-at="6"]').count() > 3
        page.locator("h1").hover()
        expect(lit).to_have_count(0)

    def test_a_refusal_leaves_the_view_and_says_why(self, visit, server, complaints):
        complaints.append(re.compile("503"))
        page = visit(address(server, "/9", CAT))
        busy = '<p class="problem" role="alert">Another text is being looked into.</p>'
        page.route("**/inside/9*", lambda route: route.fulfill(status=503, body=busy))
        page.locator('.inside-strip [value="3"]').click()
        expect(page.get_by_role("alert")).to_have_text("Another text is being looked into.")
        expect(page.locator("h2").nth(1)).to_have_text("“Ġit” in layer 0, head 0")
        page.unroute("**/inside/9*")
        page.locator('.inside-strip [value="3"]').click()
        expect(page.locator("h2").nth(1)).to_have_text("“Ġsat” in layer 0, head 0")
        expect(page.get_by_role("alert")).to_have_count(0)

    def test_a_refused_field_keeps_the_view_and_has_its_message_beside_it(self, visit, server):
        page = visit(address(server, "/17", CAT))
        field = page.locator('[name="top_k"]:visible')
        field.fill("-3")
        field.press("Enter")
        message = page.locator("p[data-field]")
        expect(message).to_have_text(re.compile("^Top-k is -3"))
        expect(page.locator("h1")).to_contain_text("Temperature, top-k, top-p")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_value("-3")
        assert field.get_attribute("aria-errormessage") == message.get_attribute("id")
        assert page.evaluate("e => e.previousElementSibling.textContent", message.element_handle())
        field.fill("0,5")  # another message takes the place of the first
        field.press("Enter")
        expect(message).to_have_text(re.compile("not a whole number"))
        field.fill("5")
        field.press("Enter")
        expect(page.get_by_role("row", name="top-k 5")).to_be_visible()
        expect(message).to_have_count(0)

    def test_on_a_phone_the_chosen_step_and_column_are_in_sight(self, visit, server):
        page = visit(address(server, "/lens", CAT), viewport={"width": 390, "height": 844})
        for chosen in ('.inside-lens thead th[data-at="8"]', ".inside-instruments [aria-current]"):
            wait_until(lambda c=chosen: is_in_sight(page.locator(c)), chosen)
        page.locator(".inside-steps a").last.click()
        current = page.locator(".inside-steps [aria-current]")
        wait_until(lambda: is_in_sight(current), "the step in sight")


def is_in_sight(element) -> bool:
    """Whether all of its width is on the screen of a phone."""
    box = element.bounding_box()
    return 0 <= box["x"] and box["x"] + box["width"] <= 390


class TestTheWayIn:
    def test_a_generated_token_leads_to_why_it_was_chosen(self, visit, server):
        page = visit(server.url)
        generate(page, prompt=CAT, n_tokens=4, seed=3)
        done(page)
        third = page.locator("#strip .generated").nth(2)
        kept = ids_in(page, "#strip")[8:10]
        piece, token_id = third.locator(".piece").inner_text(), third.get_attribute("data-id")
        third.click()
        page.get_by_role("link", name="Why this token").click()
        assert query(page) == {"prompt": CAT, "kept": ",".join(map(str, kept)), "for": token_id}
        assert chosen(page) == "10"
        expect(page.locator("#inside section").first).to_contain_text(piece)

    def test_a_token_of_the_prompt_does_not(self, visit, server):
        page = visit(server.url)
        page.locator("#prompt-strip .chip").first.click()
        expect(page.get_by_role("link", name="How BPE made this token")).to_be_visible()
        expect(page.locator("#details").get_by_text("Why this token")).to_be_hidden()


class TestWithoutScripts:
    def test_from_bytes_to_the_drawn_token_by_links_alone(self, visit, server):
        page = visit(f"{server.url}/inside", java_script_enabled=False)
        page.get_by_role("link", name="Start with step 1").click()
        for number in range(2, 19):
            page.locator('nav.inside-turn a[rel="next"]').click()
            assert urlsplit(page.url).path == f"/inside/{number}"
        expect(page.locator("h1")).to_contain_text("Draw, and decode")

    def test_chips_and_lists_are_a_form(self, visit, server):
        page = visit(address(server, "/9", CAT), java_script_enabled=False)
        page.locator('select[name="head"]').select_option("2")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("h2").nth(1)).to_have_text("“Ġit” in layer 0, head 2")
        page.locator('.inside-strip [value="2"]').click()
        expect(page.locator("h2").nth(1)).to_have_text("“Ġcat” in layer 0, head 2")

    def test_another_text_is_typed(self, visit, server):
        page = visit(f"{server.url}/inside", java_script_enabled=False)
        page.locator("#inside-text").fill("two\nlines")
        page.get_by_role("button", name="Look inside").click()
        assert query(page) == {"prompt": "two\nlines"}
        expect(page.locator("#inside-text")).to_have_value("two\nlines")


@pytest.mark.parametrize("text", [MIXED, LONG], ids=["mixed", "long"])
def test_nothing_scrolls_sideways(visit, server, text):
    page = visit("about:blank")
    for path in PAGES:
        page.goto(address(server, path, text))
        open_all(page)
        for width in (320, 768, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            inner, outer = page.evaluate(
                "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert inner <= outer, (path, width)


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_in_the_way_of_anyone(visit, server, scheme, width):
    page = visit(
        "about:blank",
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": width, "height": 900},
    )
    for path in PAGES:
        page.goto(address(server, path, MIXED, at=9))
        open_all(page)
        results = Axe().run(page)
        assert results.violations_count == 0, f"{path}: {results.generate_report()}"
    page.goto(address(server, "/9", LONG))
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.goto(f"{server.url}/inside?prompt=&at=x")
    expect(page.locator("#mend-error-at")).to_be_visible()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_every_number_of_a_cell_is_read_in_forced_colours(visit, server):
    page = visit(address(server, "/9", CAT), forced_colors="active")
    cells = page.locator(".inside-matrix tbody td").all_text_contents()
    assert len(cells) == 36 and all(float(cell) <= 1 for cell in cells)


def test_print_keeps_ink_and_leaves_controls_out(visit, server):
    page = visit(address(server, "/9", CAT))
    page.emulate_media(media="print")
    for name in (".inside-nav", "nav.inside-turn", ".inside-show"):
        expect(page.locator(name).first).to_be_hidden()
    cell = page.locator(".inside-matrix .h8").first
    assert cell.evaluate("e => getComputedStyle(e).printColorAdjust") == "exact"
