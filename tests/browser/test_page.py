"""The page in a real Chromium, served by a real gunicorn."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.helpers.paced import SLOW_PACE
from tests.helpers.web import HEROES, ROBOT, STORY, STORY_IDS, STORY_PIECES, wait_until

# Markup, quotes and line ends that a page must show as ordinary text.
TRICKY = (
    "\n\tif a < b && c > \"d\": <b>bold</b> &amp; 'x'\n"
    '<hx-partial hx-target="#status">owned</hx-partial></hx-partial></textarea></span>'
    "<script>document.title='owned'</script><img src=x onerror=alert(1)> {{ 7*7 }}\n\n"
)
# Streams stay open after their last byte, as on a slow network, until `endStreams()`.
HOLD_ENDS = """
  const reader = ReadableStreamDefaultReader.prototype;
  const { read, cancel } = reader;
  const ended = new Promise((resolve) => (window.endStreams = resolve));
  reader.read = async function () {
    const part = await read.call(this);
    const cancelled = new Promise((resolve) => (this.onCancel = resolve));
    if (part.done) await Promise.race([ended, cancelled]);
    return part;
  };
  reader.cancel = function () {
    this.onCancel?.();
    return cancel.call(this);
  };
"""
# Records every state of an element's text, and the number of chips in it.
WATCH = """id => {
  const box = document.getElementById(id);
  window.seen = [];
  new MutationObserver(() => seen.push([box.textContent, box.querySelectorAll('.chip').length]))
    .observe(box, {childList: true, subtree: true, characterData: true});
}"""


def type_prompt(page, text):
    """Put ``text`` into the prompt and wait until its tokens are shown."""
    before = page.locator("#tokens > *").first.element_handle()
    page.locator("#prompt").fill(text)
    wait_until(lambda: not before.evaluate("e => e.isConnected"), "the tokens of the prompt")


def fill(page, **fields):
    page.locator("#settings").evaluate("e => { e.open = true; }")
    for name, value in fields.items():
        page.locator(f"#{name}").fill(str(value))


def generate(page, **fields):
    """Fill the form, press Generate and wait until something is under way or refused."""
    fill(page, **fields)
    page.locator("#generate").click()


def done(page):
    """Wait until a text is done, and its stream closed: then the page goes on."""
    expect(page.locator("#status")).to_contain_text("Done")
    expect(page.locator("#stop")).to_be_hidden()
    page.wait_for_load_state()  # without scripts, the text is in a page of its own


def settle(page):
    """Wait until the page has dealt with all that came before: a later request is answered."""
    page.evaluate(
        """async () => {
          await fetch("/healthz");
          for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
        }"""
    )


def copied_link(page) -> str:
    """The link that the button copies. The page stays as it is."""
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#said")).to_have_text("Copied")
    return page.evaluate("() => navigator.clipboard.readText()")


def ids_in(page, strip) -> list[int]:
    return [int(id) for id in page.locator(f"{strip} .chip .id").all_text_contents()]


def pieces_in(page, strip) -> list[str]:
    return page.locator(f"{strip} .chip .piece").all_text_contents()


def notes_in(page, strip) -> str:
    """The descriptions on the chips."""
    return " ".join(page.locator(f"{strip} .chip .note").all_inner_texts())


def bytes_named(notes) -> str:
    return " ".join(re.findall(r"\b[0-9a-f]{2}\b", notes))


def seen(page) -> list:
    return page.evaluate("() => window.seen")


def has_aria_invalid(page) -> list[str]:
    return page.locator('#form [aria-invalid="true"]').evaluate_all("all => all.map(e => e.name)")


class TestTyping:
    def test_typing_shows_each_token_with_its_piece_and_id(self, visit, server):
        page = visit(server.url)
        page.locator("#prompt").fill("")
        page.locator("#prompt").press_sequentially(STORY)
        expect(page.locator("#prompt-strip .chip")).to_have_count(len(STORY_IDS))
        assert ids_in(page, "#prompt-strip") == STORY_IDS
        assert pieces_in(page, "#prompt-strip") == STORY_PIECES

    def test_neighbouring_chips_never_look_alike(self, visit, server):
        page = visit(server.url)
        type_prompt(page, "the " * 40)
        colours = page.locator("#prompt-strip .chip").evaluate_all(
            "all => all.map(e => getComputedStyle(e).backgroundColor)"
        )
        assert len(colours) == 41
        assert all(a != b for a, b in zip(colours, colours[1:], strict=False))

    def test_counts_say_tokens_characters_bytes_and_context(self, visit, server):
        page = visit(server.url)
        type_prompt(page, "naïve")
        counts = page.locator("#counts").inner_text()
        for number in (r"\b2 tokens", r"\b5 characters", r"\b6 bytes", r"\b2 of 256\b"):
            assert re.search(number, counts), counts

    def test_white_space_and_lone_bytes_are_shown_readably(self, visit, server):
        page = visit(server.url)
        type_prompt(page, f"a\n\tb{ROBOT}")
        notes = notes_in(page, "#prompt-strip")
        assert "newline" in notes and "tab" in notes
        assert bytes_named(notes) == "f0 9f a4 96"
        heights = page.locator("#prompt-strip .chip").evaluate_all(
            "all => all.map(e => Math.round(e.getBoundingClientRect().height))"
        )
        assert len(set(heights)) == 1  # a note makes no chip taller

    def test_late_responses_to_older_requests_are_ignored(self, visit, server):
        page = visit(server.url)
        held = []

        def hold_the_first_two(route):
            if len(held) == 2:
                route.continue_()
            else:
                held.append(route)

        page.route("**/tokenize", hold_the_first_two)
        for text in ("one", "two"):
            with page.expect_request("**/tokenize"):
                page.locator("#prompt").fill(text)
        page.locator("#prompt").fill(STORY)
        expect(page.locator("#prompt-strip .chip")).to_have_count(len(STORY_IDS))
        for route in held:
            route.continue_()
        settle(page)
        assert ids_in(page, "#prompt-strip") == STORY_IDS

    def test_examples_fill_the_prompt(self, visit, server):
        page = visit(f"{server.url}/?prompt=x")
        page.get_by_text("Examples").click()
        page.get_by_text("Not all heroes wear capes.", exact=True).click()
        expect(page.get_by_text("Not all heroes wear capes.", exact=True)).to_be_hidden()
        expect(page.locator("#prompt")).to_have_value(HEROES)
        expect(page.locator("#prompt-strip .chip")).to_have_count(7)
        expect(page.locator("#prompt")).to_be_focused()

    def test_the_first_example_stands_in_the_prompt_at_the_first_visit(self, visit, server):
        page = visit(server.url)
        expect(page.locator("#prompt")).to_have_value("Once upon a time, there was a little")
        assert len(ids_in(page, "#prompt-strip")) == 9

    def test_what_tokens_are_is_explained_in_place(self, visit, server):
        page = visit(server.url)
        answer = page.get_by_text("byte-pair encoding")
        expect(answer).not_to_be_visible()
        page.get_by_text("More about tokens").click()
        expect(answer).to_be_visible()


class TestGenerating:
    def test_the_chips_are_the_tokens_the_model_generated(self, visit, server):
        fields = {"prompt": STORY, "n_tokens": 40, "temperature": 1, "top_k": 0, "seed": 7}
        answer = server.generate_json(**fields)
        page = visit(server.url)
        page.evaluate(WATCH, "strip")
        generate(page, **fields)
        done(page)
        made = [token["id"] for token in answer["tokens"]]
        assert ids_in(page, "#strip") == STORY_IDS + made
        assert page.locator("#prompt-text").text_content() == STORY
        assert page.locator("#continuation").text_content() == answer["text"]
        assert len({n for _, n in seen(page)}) > 10  # one by one, not all at the end
        expect(page.locator("#progress")).to_contain_text("tokens/s")

    def test_each_chip_appears_while_the_next_one_is_being_made(self, visit, slow_server):
        page = visit(slow_server.url)
        page.evaluate(WATCH, "strip")
        generate(page, prompt="Echo: one two three", n_tokens=40)
        expect(page.locator("#status")).to_contain_text("Generating")
        expect(page.locator("#strip .chip").nth(6)).to_be_attached()
        assert slow_server.healthz()["running"]  # chips have arrived before the text is finished
        done(page)
        assert page.locator("#strip .chip").count() == 6 + 40
        counts = [n for _, n in seen(page)]
        assert counts == sorted(counts)
        assert len(set(counts)) > 30

    def test_stop_cancels_the_generation_on_the_server(self, visit, slow_server):
        page = visit(slow_server.url)
        begun = time.monotonic()
        generate(page, prompt="Slow: and", n_tokens=250)
        expect(page.locator("#strip .chip").nth(8)).to_be_attached()
        page.locator("#stop").click()
        slow_server.wait_for_load(0)
        assert time.monotonic() - begun < 250 * SLOW_PACE  # the time of the whole text
        expect(page.locator("#status")).to_contain_text("Stopped")
        expect(page.locator("#stop")).not_to_be_visible()
        expect(page.locator("#text")).to_be_focused()  # not lost with the button
        shown = page.locator("#strip .chip").count()
        settle(page)
        assert page.locator("#strip .chip").count() == shown < 200

    def test_closing_the_tab_cancels_the_generation_on_the_server(self, visit, slow_server):
        page = visit(slow_server.url)
        begun = time.monotonic()
        generate(page, prompt="Slow: and", n_tokens=250)
        expect(page.locator("#strip .chip").nth(8)).to_be_attached()
        page.close()
        slow_server.wait_for_load(0)
        assert time.monotonic() - begun < 250 * SLOW_PACE

    def test_generating_again_replaces_the_running_generation(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Slow: wrong", n_tokens=250)
        expect(page.locator("#continuation")).to_contain_text("wrong wrong")
        generate(page, prompt="Echo: right", n_tokens=20)
        done(page)
        assert page.locator("#continuation").text_content() == " right" * 20
        slow_server.wait_for_load(0)
        expect(page.locator("#problem")).to_be_empty()

    def test_pressing_generate_many_times_leaves_one_complete_text(self, visit, server):
        page = visit(server.url)
        answer = server.generate_json(prompt=STORY, n_tokens=30, seed=3)
        for wait in (0, 5, 20, 40, 10, 80, 0, 30):  # ms; the presses meet different moments
            generate(page, prompt=STORY, n_tokens=30, seed=3)
            page.wait_for_timeout(wait)
        done(page)
        server.wait_for_load(0)
        settle(page)
        made = [token["id"] for token in answer["tokens"]]
        assert ids_in(page, "#strip") == STORY_IDS + made
        assert page.locator("#continuation").text_content() == answer["text"]
        expect(page.locator("#problem")).to_be_empty()
        expect(page.locator("#stop")).not_to_be_visible()

    def test_text_of_any_language_streams_unbroken(self, visit, slow_server):
        text = f" {ROBOT} naïve — 日本語 한국어 العربية हिन्दी 👩‍👩‍👧 e\u0301"
        page = visit(slow_server.url)
        page.evaluate(WATCH, "text")
        generate(page, prompt=f"End:{text}", n_tokens=150)
        done(page)
        assert page.locator("#continuation").text_content() == text
        states = [state for state, _ in seen(page)]
        whole = f"End:{text}{text}"
        assert not [state for state in states if not whole.startswith(state)]  # no half character
        assert len(set(states)) > 20
        named = bytes_named(notes_in(page, "#strip"))
        assert named.count("f0 9f a4 96") == 2  # the robot's bytes, in prompt and continuation

    def test_the_link_gives_the_same_text_again(self, visit, server):
        page = visit(
            f"{server.url}/?prompt=Once+upon+a+time&temperature=0.8333333333&n_tokens=30",
            permissions=["clipboard-read", "clipboard-write"],
        )
        expect(page.locator("#prompt")).to_have_value("Once upon a time")
        expect(page.locator("#temperature")).to_have_value("0.8333333333")
        page.locator("#generate").click()
        done(page)
        text = page.locator("#text").text_content()
        page.goto(copied_link(page))
        expect(page.locator("#n_tokens")).to_have_value("30")
        expect(page.locator("#temperature")).to_have_value("0.8333333333")
        expect(page.locator("#seed")).not_to_have_value("")
        done(page)
        assert page.locator("#text").text_content() == text

    def test_a_server_that_dies_leaves_a_clear_message(self, visit, own_server, complaints):
        complaints.append(re.compile(r"ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION|EMPTY)|Failed"))
        complaints.append(re.compile("network error|NetworkError|htmx", re.I))
        with own_server(app="tests.helpers.paced:create_app()") as server:
            page = visit(server.url)
            generate(page, prompt="Slow: and", n_tokens=200)
            expect(page.locator("#strip .chip").nth(8)).to_be_attached()
            server.kill()
            expect(page.locator("#problem")).to_contain_text("connection to the server was lost")
            expect(page.locator("#stop")).not_to_be_visible()
            assert page.locator("#strip .chip").count() >= 9  # what arrived stays
            generate(page, prompt="Echo: and")
            expect(page.locator("#problem")).to_contain_text("connection to the server was lost")
            expect(page.locator("#stop")).not_to_be_visible()

    def test_an_error_of_the_model_is_shown_and_the_page_still_works(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt="Fail now", n_tokens=20)
        expect(page.locator("#problem")).to_contain_text("error")
        expect(page.locator("#stop")).not_to_be_visible()
        expect(page.locator("#status")).not_to_contain_text("Generating")
        generate(page, prompt="Echo: well", n_tokens=4)
        done(page)
        expect(page.locator("#problem")).to_be_empty()
        assert page.locator("#continuation").text_content() == " well" * 4

    def test_a_waiting_client_sees_its_position_in_the_queue(self, visit, own_server):
        with own_server(
            app="tests.helpers.paced:create_app()",
            GPT2_MAX_BATCH=1,
            GPT2_MAX_QUEUE=1,
            GPT2_MAX_PER_CLIENT=9,
        ) as server:
            first, second, third = (visit(server.url) for _ in range(3))
            for page in (first, second, third):  # requests for candidates would take a slot
                page.route("**/next", lambda route: route.fulfill(status=204))
            server.wait_for_load(0)
            generate(first, prompt="Slow: one", n_tokens=120)
            expect(first.locator("#continuation")).to_contain_text("one")
            generate(second, prompt="Echo: two", n_tokens=3)
            expect(second.locator("#progress")).to_contain_text(re.compile("in line", re.I))
            server.wait_for_load(1, 1)
            generate(third, prompt="Echo: three", n_tokens=3)
            expect(third.locator("#problem")).to_contain_text("try again")
            first.locator("#stop").click()
            done(second)
            assert second.locator("#continuation").text_content() == " two" * 3

    @pytest.fixture
    def complaints(self, complaints):
        return [*complaints, re.compile("the server responded with a status of 503")]


class TestBadInput:
    def test_a_prompt_over_the_context_is_refused_with_both_numbers(self, visit, server):
        page = visit(server.url)
        type_prompt(page, "word " * 300)
        message = page.locator("#error-prompt")
        expect(message).to_contain_text("256")
        expect(message).to_contain_text("301")
        expect(page.locator("#next")).to_have_text("There are no candidates for this text.")
        generate(page)
        settle(page)
        said = page.locator("main").inner_text()
        assert len(re.findall("301 tokens long|too long", said, re.IGNORECASE)) == 1
        expect(page.locator("#prompt")).to_be_focused()
        assert has_aria_invalid(page) == ["prompt"]
        expect(page.locator("#stop")).not_to_be_visible()

    def test_every_bad_field_has_its_message_beside_it(self, visit, server):
        page = visit(server.url)
        generate(page, prompt="", n_tokens=1000, temperature=-1, top_k="ten", top_p=2, seed=1.5)
        expect(page.locator("#error-prompt")).to_contain_text("empty")
        for field, numbers in {
            "n_tokens": ["1,000", "256"],
            "temperature": ["-1", "5"],
            "top_k": ["ten"],
            "top_p": ["2", "1"],
            "seed": ["1.5"],
        }.items():
            for number in numbers:
                expect(page.locator(f"#error-{field}")).to_contain_text(number)
        expect(page.locator("#prompt")).to_be_focused()
        fields = ["prompt", "n_tokens", "temperature", "top_k", "top_p", "seed"]
        assert has_aria_invalid(page) == fields
        for field in fields:
            described = page.locator(f"#{field}").get_attribute("aria-describedby").split()
            assert f"error-{field}" in described

    def test_tokens_that_come_late_leave_the_message_of_an_empty_text(self, visit, server):
        page = visit(server.url)
        held = []
        page.route("**/tokenize", lambda route: held.append(route))
        with page.expect_request("**/tokenize"):
            page.locator("#prompt").fill("")
        page.locator("#generate").click()
        expect(page.locator("#error-prompt")).to_contain_text("empty")
        held[0].continue_()
        expect(page.locator("#tokens")).to_contain_text("0 tokens")
        settle(page)
        expect(page.locator("#error-prompt")).to_contain_text("empty")

    def test_a_corrected_field_loses_its_message(self, visit, server):
        page = visit(server.url)
        generate(page, prompt="Once", n_tokens="many", temperature="hot")
        expect(page.locator("#error-temperature")).to_contain_text("hot")
        generate(page, temperature=0)
        expect(page.locator("#error-temperature")).to_be_empty()
        assert has_aria_invalid(page) == ["n_tokens"]
        expect(page.locator("#n_tokens")).to_be_focused()
        generate(page, n_tokens=3)
        done(page)
        expect(page.locator("#error-n_tokens")).to_be_empty()
        assert has_aria_invalid(page) == []

    def test_invalid_input_leaves_a_finished_text_unchanged(self, visit, server):
        page = visit(server.url)
        generate(page, prompt=STORY, n_tokens=5)
        done(page)
        chips = ids_in(page, "#strip")
        generate(page, n_tokens=0)
        expect(page.locator("#error-n_tokens")).to_contain_text("0")
        assert ids_in(page, "#strip") == chips


class TestKeyboard:
    def test_control_enter_generates_and_escape_stops(self, visit, slow_server):
        page = visit(slow_server.url)
        page.locator("#prompt").fill("Slow: and")
        page.locator("#n_tokens").fill("250")
        page.locator("#prompt").focus()
        page.keyboard.press("Control+Enter")
        expect(page.locator("#strip .chip").nth(6)).to_be_attached()
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_contain_text("Stopped")
        slow_server.wait_for_load(0)
        assert page.locator("#strip .chip").count() < 200
        page.locator("#n_tokens").fill("5")
        page.keyboard.press("Meta+Enter")
        done(page)
        page.keyboard.press("Escape")  # nothing to stop: nothing changes
        settle(page)
        done(page)

    def test_a_text_that_is_done_cannot_be_stopped(self, visit, server):
        page = visit(server.url)
        page.add_init_script(HOLD_ENDS)
        page.reload()
        status = expect(page.locator("#status"))
        generate(page, prompt=STORY, n_tokens=40)
        status.to_contain_text("Done")
        page.keyboard.press("Escape")
        page.locator("#stop").click()  # it is there until the connection closes
        settle(page)
        status.to_contain_text("Done")
        before = page.locator("#strip").inner_text()
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#strip")).not_to_have_text(before, use_inner_text=True)
        status.to_contain_text("Done")
        page.evaluate("endStreams()")
        done(page)
        page.get_by_role("button", name="Undo").click()
        done(page)
        expect(page.locator("#strip")).to_have_text(before, use_inner_text=True)

    def test_the_whole_form_can_be_reached_with_the_tab_key(self, visit, server):
        page = visit(server.url)
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("() => document.activeElement.id"))
        order = ["prompt", "generate", "n_tokens", "temperature", "top_k", "top_p", "seed"]
        assert [id for id in reached if id in order][: len(order)] == order

    def test_screen_readers_announce_the_status_line_and_not_the_tokens(self, visit, slow_server):
        page = visit(slow_server.url)
        page.evaluate(WATCH, "status")
        generate(page, prompt="Echo: and", n_tokens=10)
        done(page)
        assert page.locator("#status").get_attribute("role") == "status"
        said = [text.strip() for text, _ in seen(page)]
        assert len(said) <= 4  # not one word for each token
        assert any("Generating" in text for text in said)
        live = page.locator("[aria-live], [role=status], [role=alert], [role=log]")
        assert (
            live.evaluate_all(
                "all => all.filter(e => e.matches('#text, #strip, #candidates, #progress') ||"
                " e.querySelector('#text, #strip, #candidates, #progress') ||"
                " e.closest('#text, #strip, #candidates, #progress')).length"
            )
            == 0
        )


class TestWithoutJavaScript:
    @pytest.fixture
    def plain(self, visit):
        """``visit`` for a browser that runs no script."""
        return lambda url, **options: visit(url, java_script_enabled=False, **options)

    def test_the_form_returns_the_whole_page_with_the_finished_text(self, plain, server):
        fields = {"prompt": STORY, "n_tokens": 12, "temperature": 1, "seed": 5}
        answer = server.generate_json(**fields)
        page = plain(server.url)
        generate(page, **fields)
        done(page)
        made = [token["id"] for token in answer["tokens"]]
        assert ids_in(page, "#strip") == STORY_IDS + made
        assert page.locator("#text").inner_text() == STORY + answer["text"]
        expect(page.locator("#prompt")).to_have_value(STORY)
        expect(page.locator("#seed")).to_have_value("5")

    def test_cut_into_tokens_works(self, plain, server):
        page = plain(server.url)
        fill(page, prompt=f"{STORY}\nTwo")
        page.get_by_role("button", name="Cut into tokens").click()
        expect(page.locator("#prompt-strip .chip")).to_have_count(len(STORY_IDS) + 2)
        assert ids_in(page, "#prompt-strip") == [*STORY_IDS, 198, 7571]
        expect(page.locator("#prompt")).to_have_value(f"{STORY}\nTwo")

    def test_messages_stand_beside_their_fields_and_no_input_is_lost(self, plain, server):
        page = plain(server.url)
        generate(page, prompt="two\nlines", n_tokens="x", temperature=9)
        expect(page.locator("#error-n_tokens")).to_contain_text("x")
        expect(page.locator("#error-temperature")).to_contain_text("5")
        assert has_aria_invalid(page) == ["n_tokens", "temperature"]
        expect(page.locator("#prompt")).to_have_value("two\nlines")
        expect(page.locator("#n_tokens")).to_have_value("x")
        assert pieces_in(page, "#prompt-strip") == ["two", "Ċ", "lines"]

    def test_any_input_comes_back_unchanged(self, plain, server):
        page = plain(server.url)
        generate(page, prompt=TRICKY, n_tokens=2)
        done(page)
        expect(page.locator("#prompt")).to_have_value(TRICKY)
        assert page.locator("#prompt-text").text_content() == TRICKY
        assert page.locator("#text b, #text script, #text img").count() == 0


class TestAnyInput:
    def test_markup_is_shown_as_text_everywhere(self, visit, server):
        page = visit(server.url, permissions=["clipboard-read", "clipboard-write"])
        title = page.title()
        type_prompt(page, TRICKY)
        generate(page, n_tokens=3)
        done(page)
        assert page.locator("#prompt-text").text_content() == TRICKY
        assert page.locator("#status").text_content().strip().startswith("Done")
        shown = page.locator("#text, #strip, #prompt-strip, #problem")
        assert shown.locator("b, script, img, hx-partial").count() == 0
        assert page.title() == title
        page.goto(copied_link(page))
        expect(page.locator("#prompt")).to_have_value(TRICKY)

    def test_generated_markup_is_shown_as_text(self, visit, slow_server):
        page = visit(slow_server.url)
        generate(page, prompt=f"End:{TRICKY}", n_tokens=200)
        done(page)
        assert page.locator("#continuation").text_content() == TRICKY
        assert page.locator("#text, #strip").locator("b, script, img, hx-partial").count() == 0

    def test_ten_thousand_spaces_and_a_hundred_thousand_letters_can_be_typed(self, visit, server):
        page = visit(server.url)
        type_prompt(page, " " * 10_000)
        expect(page.locator("#counts")).to_contain_text("10,000")
        type_prompt(page, "a" * 100_000)
        expect(page.locator("#counts")).to_contain_text("100,000")
        page.locator("#prompt").fill("a" * 100_001)
        expect(page.locator("#error-prompt")).to_contain_text("100,001")
        assert has_aria_invalid(page) == ["prompt"]
        type_prompt(page, "a b " * 500)
        expect(page.locator("#prompt-strip .chip:visible")).to_have_count(300)
        page.locator("#prompt-strip .chip").first.focus()
        page.keyboard.press("End")  # the last of those that are shown
        expect(page.locator("#prompt-strip [data-index='299']")).to_be_focused()
        page.get_by_label("Show 1,001 tokens").check()
        expect(page.locator("#prompt-strip .chip:visible")).to_have_count(1_001)
        type_prompt(page, "fine again")
        expect(page.locator("#error-prompt")).to_be_empty()
        assert has_aria_invalid(page) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_scrolls_sideways(visit, server, width):
    page = visit(server.url, viewport={"width": width, "height": 800})
    type_prompt(page, "a" * 400 + " " + STORY + "=" * 300 + "\u3000" * 20)
    generate(page, n_tokens=9)
    done(page)
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")
    inside, outside = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert inside <= outside


def test_the_page_follows_the_light_and_dark_setting(visit, server):
    grounds = [
        visit(server.url, color_scheme=scheme).evaluate(
            "() => getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    brightness = [sum(map(int, re.findall(r"\d+", ground)[:3])) for ground in grounds]
    assert brightness[0] > 600 and brightness[1] < 150
