"""A model that is not there yet: the page opens, shows the download, then generates.

Real gunicorn with two workers, a stand-in for OpenAI's storage (``openai_layout.py``),
real Chromium; the model is a very small one under the name of a large one.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.helpers.openai_layout import Answer, ReleaseServer, small_release
from tests.helpers.web import JSON, wait_until

DATA = "model.ckpt.data-00000-of-00001"
IN_TIME = 180_000  # ms for a conversion, whose TensorFlow takes long to import
NOT_YET = ("ok", "loading", "failed")


@pytest.fixture
def complaints(complaints):
    """The browser remarks on each 503, which is what it should get here."""
    return [*complaints, re.compile("status of 503")]


@pytest.fixture
def storage(tmp_path_factory):
    """OpenAI's storage with a very small 124M."""
    with ReleaseServer(small_release(tmp_path_factory).parent) as storage:
        yield storage


@pytest.fixture
def settings(storage, tmp_path):
    return {
        "GPT2_MODEL": "124M",
        "GPT2_MODELS_DIR": tmp_path / "models",
        "GPT2_BASE_URL": storage.url,
        "WEB_CONCURRENCY": 2,
        "ready": NOT_YET,
    }


def test_a_download_is_shown_and_then_the_page_works(visit, own_server, storage, settings):
    storage.always[DATA] = Answer(slow=0.4)
    with own_server(**settings) as server:
        page = visit(f"{server.url}/?n_tokens=5")
        model = page.locator("#model")
        expect(model).to_contain_text("being downloaded")
        expect(model).to_contain_text(re.compile(r"of \d+ MB, .*/s, ready in about"))
        expect(page.get_by_role("progressbar")).to_be_visible()

        page.fill("#prompt", "Not all heroes")  # cutting works meanwhile
        expect(page.locator("#prompt-strip .piece")).to_have_text(["Not", "Ġall", "Ġheroes"])

        page.click("#generate")
        expect(page.locator("#problem")).to_contain_text("ready in about")
        with server.generate(JSON, prompt="Not all heroes") as refused:
            assert refused.status == 503
            assert 1 <= int(refused.headers["Retry-After"]) <= 60

        expect(model).to_contain_text("Model: 124M", timeout=IN_TIME)  # no reload, no restart
        expect(page.locator("#next .candidate")).to_have_count(10)
        page.click("#generate")
        expect(page.locator("#status")).to_contain_text("Done")
        expect(page.locator("#problem")).to_be_empty()
        expect(page.locator("#strip .generated")).to_have_count(5)
    assert len([r for r in storage.asked_for(DATA) if r.range is None]) == 1  # one worker did it


def test_a_failed_download_shows_its_cause_and_can_be_retried(visit, own_server, storage, settings):
    storage.always["encoder.json"] = Answer(status=404)
    with own_server(**{**settings, "WEB_CONCURRENCY": 1}) as server:
        page = visit(server.url)
        expect(page.locator("#model")).to_contain_text("encoder.json answered 404")
        page.click("#generate")
        expect(page.locator("#problem")).to_contain_text("answered 404")

        del storage.always["encoder.json"]
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#model")).to_contain_text("Model: 124M", timeout=IN_TIME)


def test_the_focus_is_not_lost_with_the_button(visit, own_server, storage, settings):
    storage.always["encoder.json"] = Answer(status=404)
    with own_server(**{**settings, "WEB_CONCURRENCY": 1}) as server:
        page = visit(server.url)
        page.get_by_role("button", name="Try again").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Try again")).not_to_be_focused()
        expect(page.locator("#model")).to_be_focused()
        expect(page.locator("#model")).to_contain_text("answered 404")
        expect(page.locator("#model")).to_be_focused()


def test_without_javascript_a_failed_download_can_be_retried(visit, own_server, storage, settings):
    storage.always["encoder.json"] = Answer(status=404)
    with own_server(**{**settings, "WEB_CONCURRENCY": 1}) as server:
        page = visit(server.url, java_script_enabled=False)
        failed = page.locator("#model", has_text="answered 404")
        wait_until(lambda: server.healthz()["status"] == "failed", "the failure")
        page.reload()
        expect(failed).to_be_visible()
        storage.always["encoder.json"] = Answer(status=500)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#model")).to_contain_text(re.compile("downloaded|loaded"))
        page.wait_for_load_state()  # before the server ends
