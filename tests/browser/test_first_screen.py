"""What a visitor sees first: layout, explanation, names, targets, colours, in a real Chromium."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_page import done, generate
from tests.browser.test_token_view import PHONE
from tests.helpers.web import HEROES, STORY, STORY_IDS

LAPTOP = {"viewport": {"width": 1366, "height": 768}}
N_STORY = len(STORY_IDS)
SIZES = [(320, 640), (390, 844), (1366, 768), (1920, 1080)]

# Room above and below what stands on a chip, in pixels.
ROOM = """chip => {
  const box = chip.getBoundingClientRect();
  const parts = [...chip.children].map((e) => e.getBoundingClientRect()).filter((e) => e.height);
  return [Math.min(...parts.map((e) => e.top)) - box.top,
    box.bottom - Math.max(...parts.map((e) => e.bottom))];
}"""


def bottom(page, selector: str) -> float:
    """Where the last element that matches ends, in pixels from the top of the window."""
    box = page.locator(selector).last.bounding_box()
    return box["y"] + box["height"]


def settled(page) -> None:
    expect(page.locator("#next [data-after] .candidate")).to_have_count(10)


class TestFirstScreen:
    def test_a_laptop_shows_prompt_buttons_chips_and_the_next_candidates(self, visit, server):
        page = visit(server.url, **LAPTOP)
        settled(page)
        for selector in ("#prompt", "#generate", ".intro p", "#views", "#prompt-strip", "#next tr"):
            assert bottom(page, selector) <= 768, selector
        assert page.evaluate("() => scrollY") == 0

    def test_after_generating_it_shows_text_actions_candidates_and_three_rows(self, visit, server):
        page = visit(f"{server.url}/?n_tokens=40", **LAPTOP)
        generate(page, seed=3)
        done(page)
        settled(page)
        for selector in ("#text", "#after .actions button:visible", "#next tr:nth-child(5)"):
            assert bottom(page, selector) <= 768, selector
        tops = page.locator("#strip .generated").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect()).filter(box => box.top < 768)"
            ".map(box => Math.round(box.bottom))"
        )
        assert len(set(tops)) >= 3
        page.get_by_role("button", name="Show ten").click()
        expect(page.locator("#next tbody tr").last).to_be_visible()

    def test_choosing_a_candidate_leaves_the_candidates_where_they_are(self, visit, server):
        page = visit(server.url, **LAPTOP)
        generate(page, n_tokens=5)
        done(page)
        expect(page.locator('#next [data-after*=","]')).to_be_visible()  # those after the text
        top = "() => document.querySelector('#next .candidate').getBoundingClientRect().top"
        before, n = page.evaluate(top), page.locator("#strip .chip").count()
        page.locator("#next .candidate").first.click()
        expect(page.locator("#strip .chip")).to_have_count(n + 1)
        settled(page)
        assert abs(page.evaluate(top) - before) < 40

    @pytest.mark.parametrize(("width", "height"), SIZES)
    def test_a_sentence_explains_pieces_sign_number_and_colours(self, visit, server, width, height):
        page = visit(server.url, viewport={"width": width, "height": height})
        sentence = page.locator(".intro p").first
        expect(sentence).to_be_visible()
        for words in ("tokens", "Ġ is the space", "number", "place in the model’s list", "colours"):
            expect(sentence).to_contain_text(words)
        longer = page.get_by_text("byte-pair encoding")
        expect(longer).to_be_hidden()
        page.get_by_text("More about tokens").click()
        expect(longer).to_be_visible()

    def test_samples_of_the_legend_have_no_colour_of_a_chip(self, visit, server):
        page = visit(server.url, **LAPTOP)
        generate(page, n_tokens=3)
        done(page)
        colour = "e => getComputedStyle(e).backgroundColor"
        chips = page.locator("#strip .chip, #prompt-strip .chip").evaluate_all(
            f"all => all.map({colour})"
        )
        assert page.locator(".sample").evaluate(colour) not in chips

    def test_a_wide_window_has_a_third_column_for_the_details(self, visit, server):
        page = visit(server.url, viewport={"width": 1920, "height": 1080})
        result, details = (page.locator(id).bounding_box() for id in ("#result", "#details"))
        assert details["x"] >= result["x"] + result["width"]
        expect(page.locator("#details")).to_contain_text("Choose a token")

    def test_the_prompt_s_chips_are_folded_in_the_strip_of_the_text(self, visit, server):
        page = visit(server.url, **LAPTOP)
        generate(page, prompt=STORY, n_tokens=3)
        done(page)
        expect(page.locator("#strip .chip:visible")).to_have_count(3)
        fold = page.get_by_role("button", name=f"{N_STORY} prompt tokens")
        expect(fold).to_have_attribute("aria-expanded", "false")
        fold.click()
        expect(page.locator("#strip .chip:visible")).to_have_count(N_STORY + 3)
        expect(fold).to_have_attribute("aria-expanded", "true")

    def test_the_context_counts_what_was_generated(self, visit, server):
        page = visit(server.url, **LAPTOP)
        generate(page, prompt=STORY, n_tokens=3)
        done(page)
        expect(page.locator("#total")).to_have_text(f"{N_STORY + 3} of 256 context")


class TestTouch:
    def test_targets_are_44_pixels_high(self, visit, server):
        page = visit(server.url, **PHONE)
        settled(page)
        generate(page, n_tokens=5)
        done(page)
        settled(page)
        page.locator("#strip .generated").first.tap()
        low = page.locator("button:visible, summary:visible, .segments label:visible").evaluate_all(
            "all => all.filter(e => !e.matches('.chip') && !e.closest('.share, .about'))"
            ".filter(e => e.getBoundingClientRect().height < 43.9).map(e => e.outerHTML)"
        )
        assert low == []
        chips = page.locator(".chip:visible:not(.sample)").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().height)"
        )
        assert min(chips) >= 43.9
        above, below = page.locator("#prompt-strip .chip").first.evaluate(ROOM)
        assert abs(above - below) <= 2  # in the middle

    def test_an_example_opens_no_keyboard_and_no_key_is_named(self, visit, server):
        page = visit(server.url, **PHONE)
        expect(page.locator(".keys")).to_be_hidden()
        page.get_by_text("Examples").tap()
        page.locator(".example", has_text=HEROES).tap()
        expect(page.locator("#prompt")).to_have_value(HEROES)
        expect(page.locator("#prompt")).not_to_be_focused()

    def test_examples_lie_over_the_page_and_push_nothing_down(self, visit, server):
        page = visit(server.url, **PHONE)
        before = page.locator("#generate").bounding_box()
        page.get_by_text("Examples").tap()
        expect(page.locator(".example").first).to_be_visible()
        assert page.locator("#generate").bounding_box() == before
        page.locator("#prompt-heading").tap()
        expect(page.locator(".example").first).to_be_hidden()


class TestForcedColours:
    def test_chips_have_edges_and_bars_have_lengths(self, visit, server):
        # Typing would ask for candidates again after half a second.
        page = visit(f"{server.url}/?n_tokens=8", forced_colors="active", **LAPTOP)
        settled(page)
        generate(page)
        done(page)
        edges = page.locator(".chip:visible").evaluate_all(
            "all => all.map(e => getComputedStyle(e).borderTopWidth)"
        )
        assert set(edges) == {"1px"}
        gradients = page.locator("#strip .generated").evaluate_all(
            "all => all.map(e => getComputedStyle(e).backgroundImage)"
        )
        assert all("gradient" in image for image in gradients)
        selection = highlighted(page)
        colour = selection.evaluate("e => getComputedStyle(e).backgroundColor")
        assert all(len(set(part(image))) == 2 for image in gradients)
        assert all(part(image)[0] == colour for image in gradients)
        chosen = page.locator("#views label:has(:checked)")
        expect(chosen).to_have_css("background-color", colour)
        all_eight = re.compile(r"^\d+(,\d+){7}$")
        expect(page.locator("#next [data-after]")).to_have_attribute("data-after", all_eight)
        bar = page.locator("#next meter").first
        drawn = bar.screenshot()
        bar.evaluate("e => { e.value = 0; }")
        assert bar.screenshot() != drawn  # its length can be seen
        expect(bar).to_have_css("border-top-width", "1px")
        bar.evaluate("e => { e.value = e.max; }")
        assert centre(page, bar) == centre(page, selection)
        lines = page.locator("#text .made").first.evaluate(
            "e => getComputedStyle(e).textDecorationLine"
        )
        assert lines == "underline"  # what the model wrote, told apart without colour
        page.locator("#strip .generated").first.hover()
        lit = page.locator("#text .lit").first
        expect(lit).to_have_css("outline-style", "solid")
        expect(lit).to_have_css("outline-width", "3px")


def centre(page, element) -> bytes:
    """A picture of the four pixels in the middle of an element."""
    box = element.bounding_box()
    middle = {"x": box["x"] + box["width"] // 2, "y": box["y"] + box["height"] // 2}
    return page.screenshot(clip=middle | {"width": 2, "height": 2})


def highlighted(page):
    """A new element in the system's colour of a selection."""
    page.evaluate("""() => {
        const made = document.body.appendChild(document.createElement("i"));
        made.id = "highlighted";
        made.style = "position: fixed; inset: 0 auto auto 0; width: 9px; height: 9px;"
            + "forced-color-adjust: none; background: Highlight";
    }""")
    return page.locator("#highlighted")


def part(gradient: str) -> list[str]:
    """The colours of a gradient."""
    return re.findall(r"(?:rgb|color|oklch|lab)[a-z]*\([^)]*\)", gradient)


class TestNames:
    def test_chips_are_named_in_words(self, visit, server):
        page = visit(f"{server.url}/?prompt=Alan+Turing", **LAPTOP)
        expect(page.get_by_role("button", name="space Turing, token 39,141")).to_be_visible()
        expect(page.get_by_role("link", name="Glyph, the start page")).to_be_visible()

    def test_a_candidate_row_is_read_once(self, visit, server):
        page = visit(f"{server.url}/?prompt=Lily+saw+a", **LAPTOP)
        settled(page)
        row = page.locator("#next tbody tr").first
        share = row.locator("td").nth(1).text_content()
        assert page.locator("#next").aria_snapshot().split("\n")[0]
        assert row.aria_snapshot().count(f'"{share}"') <= 1

    def test_skip_links_lead_to_the_text(self, visit, server):
        page = visit(server.url, **LAPTOP)
        names = page.locator(".skip").all_text_contents()
        assert len(set(names)) == len(names) == 2
        generate(page, n_tokens=3)
        done(page)
        page.locator("#generate").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("() => !!document.activeElement.closest('#result')")
        reached = []
        page.locator("#text").focus()
        for _ in range(3):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("() => document.activeElement.textContent"))
        assert any("Continue" in name for name in reached)
