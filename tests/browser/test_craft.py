"""Motion, print, following the newest token, stable layout and sizes, in a real Chromium."""

import re

import pytest
from playwright.sync_api import expect

from gpt2core.hparams import HParams
from tests.browser.test_page import done, fill, generate, settle, type_prompt
from tests.browser.test_token_view import PHONE, WIDE, chip, scrolls_sideways
from tests.helpers.web import ROBOT, STORY, wait_until, write_small_model

# The positions of everything clickable in the form, in page coordinates.
PLACES = """() => JSON.stringify(
  ["generate", "paces", "views", "n_tokens", "temperature", "top_k", "seed", "prompt-strip"]
    .map((id) => document.getElementById(id).getBoundingClientRect())
    .map((box) => [box.left + scrollX, box.top + scrollY, box.width].map(Math.round)))"""
# The same, collected at every change of the page.
WATCH_PLACES = f"""() => {{
  const places = {PLACES};
  window.seen = new Set([places()]);
  new MutationObserver(() => seen.add(places()))
    .observe(document.body, {{childList: true, subtree: true, attributes: true}});
}}"""
# How far the end of the text lies below the window's bottom edge.
BELOW = "() => document.getElementById('text').getBoundingClientRect().bottom - innerHeight"
# While a text is written, the page gets shorter and longer again: the browser moves the window.
SHORTEN_ONCE = """() => {
  const [page, strip] = [document.querySelector("main"), document.getElementById("strip")];
  new MutationObserver((records, observer) => {
    if (strip.querySelectorAll(".chip").length < 300) return;
    observer.disconnect();
    const before = scrollY;
    page.style.display = "none";
    window.clamped = before - scrollY;
    page.style.display = "";
  }).observe(strip, {childList: true});
}"""
# The reader's wheel turns before the scroll event comes of what the page itself scrolled.
WHEEL_BEFORE_OWN_SCROLL = """() => {
  dispatchEvent(new WheelEvent("wheel", {deltaY: -100}));
  dispatchEvent(new Event("scroll"));
  scrollTo(0, 0);
}"""


@pytest.fixture(scope="session")
def long_server(servers, tmp_path_factory):
    """The page with a model of small random weights and room for a long text."""
    models = tmp_path_factory.mktemp("models")
    hparams = HParams(n_vocab=50_257, n_ctx=600, n_embd=12, n_head=2, n_layer=1)
    write_small_model(models / "long", hparams)
    settings = {"GPT2_MODEL": "long", "GPT2_MODELS_DIR": models, "TEST_PACE": 0.005}
    return lambda: servers("long", app="tests.helpers.paced:create_app()", **settings)


class TestFollowing:
    @pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
    def test_the_end_of_the_text_stays_in_view(self, visit, long_server, size):
        page = visit(long_server().url, **size)
        page.evaluate(SHORTEN_ONCE)
        generate(page, prompt=f"Echo: one {ROBOT} three\n", n_tokens=560)
        done(page)
        wait_until(lambda: page.evaluate(BELOW) < 0, "the end of the text is in view")
        assert page.evaluate("() => clamped") > 0
        assert page.evaluate("() => scrollY") > 200
        inner = page.locator("#text, #strip").evaluate_all(
            "all => all.map(e => e.scrollHeight - e.clientHeight)"
        )
        assert max(inner) <= 1  # the page scrolls, and nothing in it

    def test_scrolling_up_stops_following_until_the_next_text(self, visit, long_server):
        page = visit(long_server().url, **WIDE)
        generate(page, prompt="Echo: one two three\n", n_tokens=590)
        expect(page.locator("#strip .chip").nth(250)).to_be_attached()
        page.mouse.move(700, 400)

        def scrolls_to_the_top() -> bool:
            page.mouse.wheel(0, -40_000)  # the frame of a first one may still follow the text
            return page.evaluate("() => scrollY") == 0

        wait_until(scrolls_to_the_top, "the top")
        done(page)
        assert page.evaluate("() => scrollY") == 0
        generate(page, n_tokens=590)
        expect(page.locator("#strip .generated").nth(200)).to_be_attached()
        page.evaluate(WHEEL_BEFORE_OWN_SCROLL)
        expect(page.locator("#strip .generated").nth(300)).to_be_attached()
        assert page.evaluate("() => scrollY") == 0
        page.mouse.wheel(0, 40_000)  # back to the end: followed again
        done(page)
        wait_until(lambda: page.evaluate(BELOW) < 0, "the end of the text is in view")


class TestMotion:
    @pytest.mark.parametrize("width", [320, 390, 768, 1400])
    def test_nothing_of_the_form_moves_while_a_text_is_written(self, visit, slow_server, width):
        page = visit(slow_server.url, viewport={"width": width, "height": 900})
        type_prompt(page, f"Echo: and {ROBOT}")
        fill(page, n_tokens=30)
        expect(page.locator("#next tbody tr")).to_have_count(10)
        page.evaluate(WATCH_PLACES)
        page.locator("#generate").click()
        expect(page.locator("#stop")).to_be_visible()
        done(page)
        expect(page.locator("#stop")).to_be_hidden()
        places = page.evaluate("() => [...seen]")
        assert len(places) == 1, places

    def test_chips_appear_without_motion_if_it_is_reduced(self, visit, server):
        names = {}
        for wish in ("reduce", "no-preference"):
            page = visit(server.url, reduced_motion=wish)
            page.evaluate(
                "() => { window.moved = [];"
                " document.addEventListener('animationstart', e => moved.push(e.animationName));"
                " document.addEventListener('transitionstart', e => moved.push('transition')); }"
            )
            generate(page, prompt=STORY, n_tokens=5)
            done(page)
            page.locator("#strip .chip").last.hover()
            settle(page)
            names[wish] = set(page.evaluate("() => moved"))
        assert names["reduce"] == set()
        assert names["no-preference"] == {"arrive"}


class TestPrint:
    def test_print_has_the_text_and_all_chips_and_no_controls(self, visit, long_server):
        page = visit(long_server().url, **WIDE)
        generate(page, prompt="Echo: one two three four\n", n_tokens=500)
        done(page)
        page.locator("#strip .generated").first.click()
        expect(page.locator("#details")).to_be_visible()
        page.emulate_media(media="print")
        for name in (".controls", "#generate", "#stop", "#views", "#details", ".share", ".menu"):
            expect(page.locator(name).first).to_be_hidden()
        for name in ("#strip", "#text"):
            box = page.locator(name)
            assert box.evaluate("e => e.scrollHeight - e.clientHeight") <= 1
            assert box.evaluate("e => getComputedStyle(e).overflowY") == "visible"
        expect(page.locator("#strip .chip").first).to_be_visible()
        expect(page.locator("#strip .chip").last).to_be_visible()
        expect(page.locator(".on-paper")).to_have_text(
            re.compile("Temperature 0.7, top-k 40, top-p 1")
        )


class TestSizes:
    @pytest.mark.parametrize("width", [320, 390, 768, 1024, 1400, 2560])
    def test_nothing_scrolls_sideways_with_brackets_and_details(self, visit, server, width):
        page = visit(server.url, viewport={"width": width, "height": 800})
        type_prompt(page, f"{ROBOT * 9} {STORY} {'=' * 300}")
        assert not scrolls_sideways(page)
        generate(page, n_tokens=5)
        done(page)
        for target in (chip(page, "prompt-strip", 0), page.locator("#strip .chip").last):
            target.click()
            box = page.locator("#details").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            assert box["y"] >= 0 and box["y"] + box["height"] <= 800
            assert not scrolls_sideways(page)
            page.keyboard.press("Escape")

    @pytest.mark.parametrize("width", [320, 390])
    def test_nothing_scrolls_sideways_with_a_long_candidate(self, visit, server, width):
        def with_a_long_piece(route):
            piece = '<span class="piece">'
            body = route.fetch().text().replace(piece, piece + "=" * 64, 1)
            route.fulfill(body=body, content_type="text/html")

        page = visit("about:blank", viewport={"width": width, "height": 800})
        page.route("**/next", with_a_long_piece)
        page.goto(f"{server.url}/?prompt=Once+upon+a")
        expect(page.locator("#next tbody tr")).to_have_count(10)
        assert not scrolls_sideways(page)
        short = page.locator("#next .piece").nth(1)
        assert short.evaluate("e => e.getClientRects().length") == 1  # in one line


class TestDirections:
    def test_the_highlight_lies_behind_a_text_from_right_to_left(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, "דג סקרן שט בים מאוכזב")
        chip(page, "prompt-strip", 0).hover()
        directions = page.locator("#prompt, #mirror").evaluate_all(
            "all => all.map(e => getComputedStyle(e).direction)"
        )
        assert directions == ["rtl", "rtl"]
        mark, area = (page.locator(e).bounding_box() for e in ("#mirror mark", "#prompt"))
        assert mark["x"] + mark["width"] > area["x"] + area["width"] - 40  # the first letter

    def test_the_text_to_explain_has_its_own_direction(self, visit, server):
        page = visit(f"{server.url}/bpe?text=שלום", **WIDE)
        direction = page.locator("#bpe-text").evaluate("e => getComputedStyle(e).direction")
        assert direction == "rtl"
