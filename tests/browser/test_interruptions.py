"""Interruptions, in a real Chromium: a small window, a queue, a stream that ends early, a
second press before the first response, a server that cannot be reached."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_branching import N_PROMPT, finished, written  # noqa: F401
from tests.browser.test_page import WATCH, done, fill, generate, ids_in, seen, settle, type_prompt
from tests.browser.test_token_view import PHONE, WIDE
from tests.helpers.web import STORY, STORY_IDS

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
# Records each position to which the window is scrolled.
WATCH_SCROLLING = """() => {
  window.places = new Set();
  addEventListener("scroll", () => places.add(Math.round(scrollY)));
}"""


@pytest.fixture
def complaints(complaints):
    """Requests that fail are what these tests are about."""
    return [
        *complaints,
        re.compile("Failed to load resource"),
        re.compile("^htmx: htmx:(sse:)?error"),
    ]


@pytest.fixture
def held():
    """Requests that wait for their answer."""
    return []


def expect_offers(page) -> None:
    """Wait for the buttons below an interrupted text: its stream may end after the message."""
    labels = ["Continue", "Regenerate", "Copy link"]
    expect(page.locator("#after button")).to_have_text(labels, use_inner_text=True)


class TestSmallWindow:
    def test_the_text_scrolls_into_view_with_a_stop_button(self, visit, slow_server):
        page = visit(slow_server.url, **PHONE)
        fill(page, prompt="Slow: and", n_tokens=200)
        page.locator("#generate").tap()
        for id in ("status", "text"):
            expect(page.locator(f"#{id}")).to_be_in_viewport()
        expect(page.locator("#strip .generated").nth(2)).to_be_attached()
        stop = page.locator("#result").get_by_role("button", name="Stop")
        expect(stop).to_be_in_viewport()
        page.locator("#strip .chip").last.scroll_into_view_if_needed()
        expect(stop).to_be_in_viewport()
        stop.tap()
        expect(page.locator("#status")).to_have_text("Stopped.")
        expect(stop).to_be_hidden()
        expect(page.locator("#text")).to_be_focused()  # not lost with the button
        slow_server.wait_for_load(0)

    def test_a_problem_scrolls_into_view(self, visit, slow_server):
        page = visit(slow_server.url, **PHONE)
        page.route("**/generate", lambda route: route.abort())
        page.locator("#generate").tap()
        expect(page.locator("#problem")).to_contain_text("connection to the server was lost")
        expect(page.locator("#problem")).to_be_in_viewport()

    def test_it_scrolls_at_once_with_reduced_motion(self, visit, slow_server):
        page = visit("about:blank", reduced_motion="reduce", **PHONE)
        page.route("**/next", lambda route: route.fulfill(status=204))  # nothing else moves
        page.goto(f"{slow_server.url}/?prompt=Echo:+and&n_tokens=9")
        page.locator("#prompt").focus()
        settle(page)
        page.evaluate(WATCH_SCROLLING)
        page.keyboard.press("Control+Enter")
        done(page)
        expect(page.locator("#status")).to_be_in_viewport()
        assert page.evaluate("() => places.size") == 1

    def test_in_a_wide_window_nothing_scrolls(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        fill(page, prompt="Echo: and", n_tokens=9)
        page.evaluate(WATCH_SCROLLING)
        page.locator("#generate").click()
        done(page)
        assert page.evaluate("() => places.size") == 0


class TestStatusLine:
    def test_no_ancestor_of_it_is_busy(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").first).to_be_attached()
        expect(page.locator("[aria-busy=true]")).to_have_count(2)
        expect(page.locator("[aria-busy=true] #status, #status[aria-busy=true]")).to_have_count(0)
        page.locator("#stop").click()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)

    def test_a_position_in_the_queue_is_announced_once(self, visit, own_server):
        with own_server(app="tests.helpers.paced:create_app()", GPT2_MAX_BATCH=1) as server:
            first, second, third = (visit(server.url) for _ in range(3))
            for page in (first, second, third):  # requests for candidates would take a slot
                page.route("**/next", lambda route: route.fulfill(status=204))
            server.wait_for_load(0)
            generate(first, prompt="Slow: one", n_tokens=250)
            server.wait_for_load(1)
            generate(second, prompt="Echo: two", n_tokens=3)
            server.wait_for_load(1, 1)
            third.evaluate(WATCH, "status")
            generate(third, prompt="Echo: three", n_tokens=3)
            expect(third.locator("#status")).to_have_text("Waiting: number 2 in line.")
            second.locator("#stop").click()
            expect(second.locator("#status")).to_have_text("Stopped.")
            expect(second.locator("#progress")).to_be_empty()  # the client neither reads nor waits
            expect(third.locator("#progress")).to_contain_text("Next in line")
            first.locator("#stop").click()
            done(third)
            said = [text.strip().split(":")[0] for text, _ in seen(third)]
            assert said == ["Asking…", "Generating…", "Waiting", "Generating…", "Done"]

    def test_the_end_is_known_by_its_finish_reason_not_by_its_words(self, visit, slow_server):
        page = visit(slow_server.url)

        def in_german(route):
            response = route.fetch()
            route.fulfill(response=response, body=response.text().replace("Done:", "Fertig:"))

        page.route("**/generate", in_german)
        generate(page, prompt="Echo: and", n_tokens=3)
        expect(page.locator("#status")).to_contain_text("Fertig")
        expect(page.locator("#stop")).to_be_hidden()
        expect(page.locator("#problem")).to_be_empty()
        expect(page.get_by_role("button", name="Copy link")).to_be_visible()


class TestInterruptedText:
    def test_a_text_can_be_continued_after_an_error_of_the_model(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Fail now", n_tokens=20)
        expect(page.locator("#problem")).to_contain_text("error")
        expect_offers(page)

    def test_a_text_can_be_continued_after_the_server_is_gone(self, visit, own_server):
        with own_server(app="tests.helpers.paced:create_app()") as server:
            page = visit(server.url)
            generate(page, prompt="Slow: and", n_tokens=200)
            expect(page.locator("#strip .generated").nth(2)).to_be_attached()
            server.kill()
            expect(page.locator("#problem")).to_contain_text("connection to the server was lost")
            expect_offers(page)

    def test_a_text_interrupted_by_a_refused_request_can_be_continued(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").nth(2)).to_be_attached()
        generate(page, n_tokens=0)
        expect(page.locator("#error-n_tokens")).to_contain_text("0")
        expect_offers(page)
        made = ids_in(page, "#strip")
        fill(page, n_tokens=2)
        page.get_by_role("button", name="Continue").click()
        assert finished(page, len(made) + 2)[: len(made)] == made

    def test_a_refused_request_leaves_a_finished_text_as_it_was(self, visit, server):
        page = visit(server.url)
        generate(page, prompt=STORY, n_tokens=5)
        done(page)
        before = page.locator("#after").inner_text()
        generate(page, n_tokens=0)
        expect(page.locator("#error-n_tokens")).to_contain_text("0")
        assert page.locator("#after").inner_text() == before
        expect(page.locator("#status")).to_have_text(re.compile("^Done: 5 tokens"))


class TestFocus:
    @pytest.mark.parametrize("name", ["Continue", "Regenerate", "cut"])
    def test_it_is_not_lost_with_the_button(self, written, name):  # noqa: F811
        page = written()
        if name == "cut":
            page.locator("#strip .generated").nth(3).click()
            page.get_by_role("button", name="Cut the text after this token").click()
            name = "Continue"
        page.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.locator("#text")).to_be_focused()
        done(page)
        expect(page.locator("#text")).to_be_focused()


class TestSecondPress:
    def test_stop_stops_all_of_it(self, visit, slow_server, held):
        page = visit(slow_server.url)
        page.route("**/generate", lambda route: held.append(route))
        fill(page, prompt="Echo: and", n_tokens=20)
        page.locator("#generate").dblclick()
        expect(page.locator("#stop")).to_be_visible()
        settle(page)
        sent = len(held)
        page.locator("#stop").click()
        settle(page)
        expect(page.locator("#status")).to_have_text("Stopped.")
        expect(page.locator("#stop")).to_be_hidden()
        assert len(held) == sent >= 1  # no other request follows

    def test_candidates_are_carried_over(self, written, held):  # noqa: F811
        page = written()
        page.route("**/generate", lambda r: r.continue_() if held else held.append(r))
        again = page.get_by_role("button", name="Continue")
        with page.expect_request("**/generate"):  # a request that ends at once is never seen
            again.click()
        again.click()
        finished(page, N_PROMPT + 24)
        expect(page.locator("#strip [data-candidates]")).to_have_count(24)

    def test_a_press_while_the_answer_before_is_put_in_place(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").first).to_be_attached()
        page.evaluate(
            """() => {
              // The swap ends with a timer, after the second press and before its response.
              const { fetch, setTimeout } = window;
              const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
              window.setTimeout = (run, ms, ...rest) => setTimeout(run, ms + 300, ...rest);
              const press = () => {
                document.getElementById("generate").click();
                window.fetch = (...request) => wait(600).then(() => fetch(...request));
              };
              document.getElementById("text")
                .addEventListener("htmx:before:settle", press, {once: true});
              press();
            }"""
        )
        slow_server.wait_for_load(1)
        expect(page.locator("#strip .generated").nth(3)).to_be_attached()
        expect(page.locator("#stop")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_have_text("Stopped.")
        slow_server.wait_for_load(0)

    def test_escape_that_ends_a_composition_stops_nothing(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").first).to_be_attached()
        press = """composing => document.getElementById("prompt").dispatchEvent(new KeyboardEvent(
            "keydown", {key: "Escape", isComposing: composing, bubbles: true}))"""
        page.evaluate(press, True)
        expect(page.locator("#stop")).to_be_visible()
        expect(page.locator("#status")).to_have_text("Generating…")
        page.evaluate(press, False)
        expect(page.locator("#status")).to_have_text("Stopped.")


class TestNotCut:
    """A prompt that the server did not cut has no chips: those of another would mislead."""

    def test_a_server_that_cannot_be_reached(self, visit, server):
        page = visit(server.url)
        expect(page.locator("#next .hint")).to_contain_text("little”")
        addresses = re.compile("/(tokenize|next)$")
        page.route(addresses, lambda route: route.abort())
        with page.expect_event("requestfailed", lambda request: request.url.endswith("/next")):
            page.locator("#prompt").fill("Something else")
        expect(page.locator("#tokens")).to_contain_text("server cannot be reached")
        expect(page.locator("#prompt-strip .chip")).to_have_count(0)
        page.unroute(addresses)  # the page asks again by itself
        expect(page.locator("#prompt-strip .chip")).to_have_count(2)
        expect(page.locator(".problem")).to_have_count(0)
        expect(page.locator("#next .hint")).to_contain_text("else”")

    def test_of_a_prompt_that_is_too_long_the_beginning_is_counted(self, visit, server):
        page = visit(server.url)
        type_prompt(page, STORY)
        page.locator("#prompt").fill("a" * 100_001)
        expect(page.locator("#error-prompt")).to_contain_text("100,001")
        expect(page.locator("#counts")).to_contain_text("100,000 characters")
        expect(page.locator("#tokens")).to_contain_text("1 more follow")
        page.locator("#prompt").fill(STORY)
        expect(page.locator("#prompt-strip .chip")).to_have_count(len(STORY_IDS))
        expect(page.locator("#error-prompt")).to_be_empty()

    def test_a_prompt_over_the_limit_of_the_body(self, visit, server):
        page = visit(server.url)
        type_prompt(page, STORY)
        page.locator("#prompt").fill("é" * 250_000)
        expect(page.locator("#tokens .problem")).to_be_visible()
        expect(page.locator("#prompt-strip .chip")).to_have_count(0)
        page.locator("#prompt").fill(STORY)
        expect(page.locator("#prompt-strip .chip")).to_have_count(len(STORY_IDS))
        expect(page.locator(".problem")).to_have_count(0)


@pytest.mark.parametrize("browser", [None, FIREFOX], ids=["chromium", "firefox"])
def test_going_back_from_an_anchor_changes_nothing(visit, server, browser):
    page = visit(server.url, **({"user_agent": browser} if browser else {}))
    generate(page, prompt=STORY, n_tokens=3)
    done(page)
    page.evaluate("() => { location.hash = 'result'; }")
    page.go_back()
    settle(page)
    expect(page.locator("#prompt")).to_have_value(STORY)
    expect(page.locator("#strip .generated")).to_have_count(3)
