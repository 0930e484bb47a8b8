"""Step, slow, full: how fast a text appears, in a real Chromium."""

import time
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.test_branching import finished
from tests.browser.test_page import WATCH, done, fill, generate, ids_in, seen, settle
from tests.browser.test_token_view import WIDE
from tests.helpers.web import STORY, STORY_IDS
from webapp.forms import PACES

N_PROMPT = len(STORY_IDS)


# When the first generated token and each later one were there, in milliseconds.
TIME_ARRIVALS = """() => {
  window.arrived = [];
  let n = 0;
  new MutationObserver(() => {
    const now = document.querySelectorAll("#strip .generated").length;
    if (now > n) arrived.push(performance.now());
    n = now;
  }).observe(document.getElementById("strip"), {childList: true, subtree: true});
}"""


class TestSlow:
    def test_it_is_the_first_choice_with_the_bundled_model(self, visit, server):
        page = visit(server.url, pace=None)
        expect(page.get_by_label("Slow")).to_be_checked()

    def test_the_choice_is_remembered(self, visit, server):
        page = visit(server.url, pace=None)
        page.get_by_label("Full").check()
        page.goto(server.url)
        expect(page.get_by_label("Full")).to_be_checked()

    def test_a_text_can_be_watched_and_has_the_tokens_of_full_pace(self, visit, server):
        fields = {"prompt": STORY, "n_tokens": 12, "temperature": 1, "seed": 8}
        answer = server.generate_json(**fields)
        assert len(answer["tokens"]) == 12
        page = visit(server.url, pace="slow")
        page.evaluate(WATCH, "strip")
        page.evaluate(TIME_ARRIVALS)
        begun = time.monotonic()
        generate(page, **fields)
        done(page)
        assert time.monotonic() - begun >= 11 * PACES["slow"]  # the server waits at least that long
        assert ids_in(page, "#strip")[N_PROMPT:] == [token["id"] for token in answer["tokens"]]
        assert len({n for _, n in seen(page)}) > 10  # one by one
        speed = int(page.locator("#progress .speed").inner_text().split()[0])
        # What arrives, not what the model could do; on a busy machine tokens arrive in lumps.
        first, last = page.evaluate("() => [arrived[0], arrived.at(-1)]")
        assert speed == pytest.approx(11_000 / (last - first), rel=0.1, abs=1)

    def test_stop_is_exact(self, visit, server):
        page = visit(server.url, pace="slow")
        generate(page, prompt=STORY, n_tokens=100)
        expect(page.locator("#strip .generated").nth(4)).to_be_attached()
        page.locator("#stop").click()
        server.wait_for_load(0)
        shown = ids_in(page, "#strip")
        settle(page)
        assert ids_in(page, "#strip") == shown
        page.get_by_label("Full").check()
        fill(page, n_tokens=2)
        page.get_by_role("button", name="Continue").click()
        assert finished(page, len(shown) + 2)[: len(shown)] == shown


class TestStep:
    def test_each_press_writes_one_token(self, visit, server):
        page = visit(server.url, pace="step", **WIDE)
        fill(page, prompt=STORY)
        for n in (1, 2, 3):
            page.get_by_role("button", name="Next token").first.click()
            finished(page, N_PROMPT + n)
        page.keyboard.press("Control+Enter")
        finished(page, N_PROMPT + 4)
        expect(page.locator("#status")).to_have_text("Done: 1 token written.")
        expect(page.get_by_role("button", name="Next token")).to_have_count(1)
        page.set_viewport_size({"width": 390, "height": 844})  # the other one is far away
        next_token = page.locator("#after").get_by_role("button", name="Next token")
        next_token.focus()
        for n in (5, 6):
            page.keyboard.press("Enter")
            finished(page, N_PROMPT + n)
            expect(next_token).to_be_focused()
        expect(page.locator("#strip [data-candidates]")).to_have_count(6)

    def test_steps_with_a_seed_give_the_text_of_one_run(self, visit, server):
        page = visit(server.url, pace="step", **WIDE)
        fill(page, prompt=STORY, seed=5, temperature=2)
        for n in range(1, 6):
            page.locator("#generate").click()
            finished(page, N_PROMPT + n)
        run = server.generate_json(prompt=STORY, seed=5, temperature=2, n_tokens=5)
        assert ids_in(page, "#strip")[N_PROMPT:] == [token["id"] for token in run["tokens"]]

    def test_undo_goes_back_one_step(self, visit, server):
        page = visit(server.url, pace="step", **WIDE)
        fill(page, prompt=STORY)
        for n in (1, 2):
            page.locator("#generate").click()
            finished(page, N_PROMPT + n)
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("#strip .chip")).to_have_count(N_PROMPT + 1)

    def test_another_prompt_begins_another_text(self, visit, server):
        page = visit(server.url, pace="step", **WIDE)
        fill(page, prompt=STORY)
        page.locator("#generate").click()
        finished(page, N_PROMPT + 1)
        fill(page, prompt="Once")
        page.locator("#generate").click()
        finished(page, 1 + 1)


@pytest.mark.parametrize("pace, presses", [("slow", 1), ("full", 1), ("step", 3)])
def test_candidates_are_asked_for_once_a_press_not_once_a_token(visit, slow_server, pace, presses):
    page = visit(f"{slow_server.url}/?prompt=Echo:+and&n_tokens=10", pace=pace, **WIDE)
    n_prompt = page.locator("#prompt-strip .chip").count()
    expect(page.locator("#next [data-after='']")).to_be_visible()
    settle(page)
    asked = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    for n in range(1, presses + 1):
        page.locator("#generate").click()
        finished(page, n_prompt + (n if pace == "step" else 10))
        expect(page.locator("#next [data-after]:not([data-after=''])")).to_be_visible()
    settle(page)
    assert asked.count("/generate") == presses
    assert 1 <= asked.count("/next") <= presses


# Notes the text as it is about to be painted.
WATCH_FRAMES = """() => {
  const text = document.getElementById("text");
  window.seen = new Set();
  const look = () => { seen.add(text.innerText); requestAnimationFrame(look); };
  look();
}"""


def test_with_reduced_motion_whole_sentences_appear(visit, slow_server):
    page = visit(slow_server.url, reduced_motion="reduce")
    page.evaluate(WATCH_FRAMES)
    # Slow, so that frames are drawn between the sentences on a busy machine too.
    generate(page, prompt="Slow: One two. Three four.", n_tokens=15)
    done(page)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    states = page.evaluate("() => [...seen]")
    made = {state.removeprefix("Slow: One two. Three four.").strip() for state in states} - {""}
    sentences = "One two. Three four. " * 3
    assert all(sentences.startswith(state) for state in made)
    unfinished = [state for state in made if not state.endswith(".")]
    assert len(made) >= 3 and unfinished in (
        [],
        [page.locator("#continuation").inner_text().strip()],
    )
    expect(page.locator(".held")).to_have_count(0)


def test_a_request_is_acknowledged_at_once(visit, server):
    page = visit(server.url)
    generate(page, prompt=STORY, n_tokens=3)
    done(page)
    held = []
    page.route("**/generate", lambda route: held.append(route))
    page.locator("#generate").click()
    expect(page.locator("#status")).to_have_text("Asking…")
    expect(page.locator("#progress")).to_be_empty()
    expect(page.locator("#stop")).to_be_visible()
    held[0].continue_()
    done(page)
