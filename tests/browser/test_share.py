"""The share panel in a real Chromium: the link, the copy buttons, the files."""

import csv
import json
import subprocess

import pytest
from playwright.sync_api import expect

from tests.browser.test_page import done
from tests.helpers.web import ROBOT, ROOT, STORY, environment

PROMPT = f'It\'s "so" {ROBOT}\n\tOnce $HOME'


@pytest.fixture
def finished(visit, server):
    """A page on which a text was generated and the share panel is open."""

    def finished(**options):
        page = visit(server.url, **options)
        page.locator("#prompt").fill(PROMPT)
        page.locator("#n_tokens").fill("7")
        page.locator("#generate").click()
        done(page)
        page.locator(".share summary").click()
        return page

    return finished


def text_of(page) -> str:
    return page.locator("#text").evaluate("e => e.textContent")


def copied(page, id: str) -> str:
    """What the copy button of a snippet puts into the clipboard."""
    button = page.locator(f'[data-copy="{id}"]')
    button.click()
    expect(button).to_have_text("Copied")
    return page.evaluate("() => navigator.clipboard.readText()")


def run(command: str) -> str:
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, cwd=ROOT, env=environment(), timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_what_the_buttons_copy_gives_the_text_that_is_shown(finished):
    page = finished(permissions=["clipboard-read", "clipboard-write"])
    shown = text_of(page)
    assert PROMPT + json.loads(run(copied(page, "share-curl")))["text"] == shown
    assert PROMPT + run(copied(page, "share-command")).removesuffix("\n") == shown
    python = f"python - <<'END'\n{copied(page, 'share-python')}END"
    assert PROMPT + run(python).removesuffix("\n") == shown


def test_the_link_gives_the_same_text(finished):
    page = finished(permissions=["clipboard-read", "clipboard-write"])
    shown = text_of(page)
    page.goto(copied(page, "share-link"))
    expect(page.locator("#shared")).to_be_visible()
    done(page)
    assert text_of(page) == shown


def test_without_a_clipboard_the_text_is_selected(finished):
    page = finished()
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    button = page.locator('[data-copy="share-link"]')
    button.click()
    expect(button).to_have_text("Selected: now copy")
    selected = page.evaluate("() => getSelection().toString()")
    assert selected == page.locator("#share-link").inner_text()


def test_the_files_hold_the_chips_of_the_strip(finished):
    page = finished()
    ids = [int(id) for id in page.locator("#strip .chip .id").all_text_contents()]
    take = page.locator('.take[data-of="text"]')
    with page.expect_download() as download:
        take.get_by_role("button", name="JSON").click()
    assert download.value.suggested_filename == "glyph-tokens.json"
    with open(download.value.path(), encoding="utf-8") as file:
        whole = json.load(file)
    assert [token["id"] for token in whole["tokens"]] == ids
    assert whole["prompt"] == PROMPT
    assert [token["logprob"] is None for token in whole["tokens"]] == [
        n < len(ids) - 7 for n in range(len(ids))
    ]
    with page.expect_download() as download:
        take.get_by_role("button", name="CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        assert [int(row["id"]) for row in csv.DictReader(file)] == ids


def test_without_javascript_there_are_the_same_texts_and_files(visit, server):
    page = visit(server.url, java_script_enabled=False)
    page.locator("#prompt").fill(STORY)
    page.locator("#n_tokens").fill("3")
    page.locator("#generate").click()
    page.locator(".share summary").click()
    expect(page.locator("#share-curl")).to_be_visible()
    expect(page.locator(".copy").first).to_be_hidden()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    assert download.value.suggested_filename == "glyph-tokens.csv"
