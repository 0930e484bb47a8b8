"""Nothing typed or generated is lost, and all of it can be taken away, in a real Chromium."""

import csv
import json
import re
import subprocess

import pytest
from playwright.sync_api import expect

from tests.browser.test_branching import finished, settled
from tests.browser.test_page import (
    TRICKY,
    copied_link,
    done,
    fill,
    generate,
    ids_in,
    type_prompt,
)
from tests.browser.test_token_view import WIDE
from tests.helpers.web import HEROES, ROBOT, STORY, STORY_IDS, environment, wait_until

N_PROMPT = len(STORY_IDS)
# htmx starts in a timer; modules that are in the cache may run long before it.
DELAY_TIMERS = """
const setTimer = setTimeout;
window.setTimeout = (run, ms = 0, ...rest) => setTimer(run, ms + 300, ...rest);
"""
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


def take(page, of: str, what: str):
    """The button that takes something of the prompt, or of the text, away."""
    return page.locator(f'.take[data-of="{of}"]').get_by_role("button", name=what)


def clipboard(page) -> str:
    return page.evaluate("() => navigator.clipboard.readText()")


def downloaded(page, button) -> str:
    with page.expect_download() as download:
        button.click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        return file.read()


class TestTakingAway:
    @pytest.mark.parametrize("text", [STORY, f"{ROBOT}\n " * 5, "word, " * 3_400], ids=len)
    def test_the_ids_of_any_text_are_copied_as_a_list(self, visit, server, encoder, text):
        page = visit(server.url, **CLIPBOARD)
        type_prompt(page, text)
        take(page, "prompt", "Copy ids").click()
        expect(page.locator("#said")).to_have_text("Copied")
        assert clipboard(page) == ", ".join(map(str, encoder.encode(text)))

    def test_a_text_over_the_context_and_the_limit_is_taken_as_far_as_it_is_counted(
        self, visit, server, encoder
    ):
        page = visit(server.url, **CLIPBOARD)
        text = "word " * 30_000  # 150,000 characters
        page.locator("#prompt").fill(text)
        expect(page.locator("#counts")).to_contain_text("100,000 characters")
        expect(page.locator("#error-prompt")).to_contain_text("150,000")
        take(page, "prompt", "Copy ids").click()
        expect(page.locator("#said")).to_have_text("Copied")
        counted = encoder.encode(text[:100_000])
        assert clipboard(page) == ", ".join(map(str, counted))
        rows = list(csv.DictReader(downloaded(page, take(page, "prompt", "CSV")).splitlines()))
        assert [int(row["id"]) for row in rows] == counted

    def test_json_and_csv_hold_the_prompt_exactly(self, visit, server):
        page = visit(server.url)
        type_prompt(page, TRICKY)
        whole = json.loads(downloaded(page, take(page, "prompt", "JSON")))
        assert whole["prompt"] == TRICKY
        assert [token["id"] for token in whole["tokens"]] == ids_in(page, "#prompt-strip")

    def test_special_tokens_are_taken_as_they_are_shown(self, visit, server):
        page = visit(server.url, **CLIPBOARD)
        type_prompt(page, "a<|endoftext|>")
        page.get_by_label("as a special token").check()
        expect(page.locator("#prompt-strip .chip")).to_have_count(2)
        shown = ids_in(page, "#prompt-strip")
        assert shown == [64, 50256]
        take(page, "prompt", "Copy ids").click()
        expect(page.locator("#said")).to_have_text("Copied")
        assert clipboard(page) == "64, 50256"
        whole = json.loads(downloaded(page, take(page, "prompt", "JSON")))
        assert [token["id"] for token in whole["tokens"]] == shown

    @pytest.mark.parametrize("text", [f'It\'s \\ {ROBOT}\n"$HOME"\u200b', TRICKY])
    def test_curl_gives_the_tokens_that_are_shown(self, visit, server, text):
        page = visit(server.url, **CLIPBOARD)
        type_prompt(page, text)
        take(page, "prompt", "curl").click()
        expect(page.locator("#said")).to_have_text("Copied")
        command = clipboard(page)
        assert all(char.isprintable() for char in command)
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, env=environment(), timeout=60, check=True
        )
        ids = [token["id"] for token in json.loads(done.stdout)["tokens"]]
        assert ids == ids_in(page, "#prompt-strip")

    def test_a_stopped_and_cut_text_can_be_taken_and_shared(self, visit, slow_server):
        page = visit(slow_server.url, **CLIPBOARD, **WIDE)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").nth(5)).to_be_attached()
        page.locator("#stop").click()
        page.locator("#strip .generated").nth(2).click()
        page.get_by_role("button", name="Cut the text after this token").click()
        ids, text = ids_in(page, "#strip"), page.locator("#text").text_content()
        take(page, "text", "Copy ids").click()
        expect(page.locator("#said")).to_have_text("Copied")
        assert clipboard(page) == ", ".join(map(str, ids))
        whole = json.loads(downloaded(page, take(page, "text", "JSON")))
        assert [token["id"] for token in whole["tokens"]] == ids
        assert [token["logprob"] is not None for token in whole["tokens"]] == [False] * 3 + [
            True
        ] * 3
        type_prompt(page, "Another prompt")  # the link is that of the text
        page.goto(copied_link(page))
        assert ids_in(page, "#strip") == ids
        assert page.locator("#text").text_content() == text

    def test_without_a_clipboard_the_ids_are_shown_and_selected(self, visit, server):
        page = visit(server.url)
        page.evaluate("() => Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        type_prompt(page, STORY)
        take(page, "prompt", "Copy ids").click()
        expect(page.locator("#copied")).to_be_visible()
        assert page.evaluate("() => getSelection().toString()") == ", ".join(map(str, STORY_IDS))


class TestLinks:
    def test_a_copied_link_shows_the_text_when_it_is_opened(self, visit, server):
        page = visit(server.url, pace="slow", **CLIPBOARD)
        page.get_by_label("Full").check()
        generate(page, prompt=STORY, n_tokens=30, temperature=1)
        done(page)
        text = page.locator("#text").text_content()
        link = copied_link(page)
        assert page.locator("#text").text_content() == text  # copying leaves the page
        other = visit(link, pace="slow")
        expect(other.locator("#shared")).to_contain_text("A shared text")
        done(other)
        assert other.locator("#text").text_content() == text
        expect(other.locator("#shared")).to_be_visible()
        other.get_by_role("button", name="Regenerate").click()
        done(other)
        expect(other.locator("#shared")).to_have_count(0)  # the link has another text
        expect(other.locator("#seed")).to_have_value("")  # as it has another seed
        other.get_by_role("button", name="Undo").click()
        expect(other.locator("#shared")).to_be_visible()

    def test_links_and_reloads_work_when_htmx_starts_late(self, visit, server):
        page = visit(server.url)
        page.add_init_script(DELAY_TIMERS)
        page.goto(f"{server.url}/?prompt={STORY}&n_tokens=3&seed=1")
        expect(page.locator("#shared")).to_contain_text("A shared text")
        ids = finished(page, N_PROMPT + 3)
        expect(page).to_have_url(re.compile("seed=1"))  # the form was not sent without htmx
        type_prompt(page, "Once upon")
        page.reload()
        expect(page.locator("#prompt-strip .chip")).to_have_count(2)
        assert ids_in(page, "#strip") == ids

    def test_a_shared_text_can_be_interrupted(self, visit, slow_server):
        page = visit(f"{slow_server.url}/?prompt=Slow:+and&n_tokens=200&seed=1")
        expect(page.locator("#strip .generated").nth(1)).to_be_attached()
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_have_text("Stopped.")

    def test_a_link_without_a_seed_generates_nothing(self, visit, server):
        page = visit(f"{server.url}/?prompt=Once")
        expect(page.locator("#next .candidate")).to_have_count(10)
        expect(page.locator("#strip .chip")).to_have_count(0)

    def test_without_scripts_the_server_generates_what_a_link_describes(self, visit, server):
        answer = server.generate_json(prompt=STORY, n_tokens=9, seed=4)
        page = visit(f"{server.url}/?prompt={STORY}&n_tokens=9&seed=4", java_script_enabled=False)
        done(page)
        assert page.locator("#text").inner_text() == STORY + answer["text"]


class TestUndo:
    def test_an_example_can_be_undone_in_the_text_area(self, visit, server):
        page = visit(server.url)
        page.locator("#prompt").fill("")
        page.locator("#prompt").press_sequentially("My own text")
        page.get_by_text("Examples").click()
        page.locator(".example", has_text=HEROES).click()
        expect(page.locator("#prompt")).to_have_value(HEROES)
        page.keyboard.press("Control+z")
        expect(page.locator("#prompt")).to_have_value("My own text")

    def test_regenerate_gives_back_what_was_typed(self, visit, server):
        page = visit(server.url, **WIDE)
        generate(page, prompt=STORY, n_tokens=4)
        finished(page, N_PROMPT + 4)
        page.get_by_role("button", name="Continue").click()
        before = finished(page, N_PROMPT + 8)
        type_prompt(page, "A new prompt")
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#prompt")).to_have_value(STORY)
        expect(page.locator("#strip .generated")).to_have_count(8)
        done(page)
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("#prompt")).to_have_value("A new prompt")
        assert ids_in(page, "#strip") == before

    def test_a_cut_can_be_undone(self, visit, server):
        page = visit(server.url, **WIDE)
        generate(page, prompt=STORY, n_tokens=8)
        before = finished(page, N_PROMPT + 8)
        text = page.locator("#text").text_content()
        page.locator("#strip .generated").nth(2).click()
        page.get_by_role("button", name="Cut the text after this token").click()
        expect(page.locator("#strip .generated")).to_have_count(3)
        page.keyboard.press("Control+z")
        expect(page.locator("#strip .generated")).to_have_count(8)
        assert ids_in(page, "#strip") == before
        assert page.locator("#text").text_content() == text
        page.get_by_role("button", name="Continue").click()
        assert finished(page, N_PROMPT + 16)[: N_PROMPT + 8] == before


class TestReload:
    def test_it_keeps_prompt_settings_and_text(self, visit, server):
        page = visit(server.url, **WIDE)
        generate(page, prompt=STORY, n_tokens=6, temperature=1.5, seed=11)
        ids = finished(page, N_PROMPT + 6)
        fill(page, prompt="Something typed later", top_k=7)
        page.reload()
        expect(page.locator("#prompt")).to_have_value("Something typed later")
        values = {"n_tokens": "6", "temperature": "1.5", "top_k": "7", "seed": "11"}
        for name, value in values.items():
            expect(page.locator(f"#{name}")).to_have_value(value)
        assert ids_in(page, "#strip") == ids
        expect(page.locator("#prompt-strip .chip")).to_have_count(3)
        page.get_by_role("button", name="Continue").click()
        assert finished(page, N_PROMPT + 12)[: N_PROMPT + 6] == ids
        expect(page.locator("#prompt")).to_have_value(STORY)

    def test_a_text_that_was_being_written_can_be_continued(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").nth(3)).to_be_attached()
        page.reload()
        expect(page.locator("#status")).to_have_text("Stopped.")
        ids = ids_in(page, "#strip")
        assert len(ids) >= 3 + 4
        fill(page, n_tokens=2)
        page.get_by_role("button", name="Continue").click()
        assert finished(page, len(ids) + 2)[: len(ids)] == ids

    def test_a_new_visit_starts_anew(self, visit, server):
        page = visit(server.url)
        type_prompt(page, STORY)
        page.get_by_role("link", name="Glyph").click()
        expect(page.locator("#prompt")).not_to_have_value(STORY)


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"), [("n_tokens", "12"), ("temperature", "1.5"), ("top_k", "9")]
    )
    def test_slider_and_field_are_in_step(self, visit, server, name, value):
        page = visit(server.url)
        settled(page)
        slider = page.locator(f'[data-for="{name}"]')
        before = page.locator("#next > *").first.element_handle()
        slider.fill(value)
        expect(page.locator(f"#{name}")).to_have_value(value)
        wait_until(lambda: not before.evaluate("e => e.isConnected"), "new candidates")
        page.locator(f"#{name}").fill("1")
        assert slider.input_value() == "1"
        page.locator(f"#{name}").fill("1,0")
        assert slider.input_value() == "1"

    def test_a_decimal_comma_is_understood(self, visit, server):
        page = visit(server.url)
        generate(page, n_tokens=3, temperature="0,8")
        done(page)
        expect(page.locator("#error-temperature")).to_be_empty()

    def test_limits_are_told_beforehand(self, visit, server):
        page = visit(server.url)
        for name, limit in {
            "n_tokens": "256",
            "temperature": "5",
            "top_p": "1",
            "seed": "4,294,967,295",
        }.items():
            expect(page.locator(f"#hint-{name}")).to_contain_text(limit)

    @pytest.mark.parametrize("width", [320, 1280, 1366, 1920, 2560])
    def test_a_seed_is_whole_and_errors_do_not_tower(self, visit, server, width):
        page = visit(server.url, viewport={"width": width, "height": 900})
        generate(page, seed=2**32 - 1, temperature=9)
        error = page.locator("#error-temperature")
        expect(error).to_contain_text("5")
        assert error.bounding_box()["height"] <= (66 if width < 400 else 44)
        seed = page.locator("#seed")
        assert seed.evaluate("e => e.scrollWidth <= e.clientWidth")
