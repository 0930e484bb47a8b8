"""Exceptions to answers, in the form the client asked for; never a 200, never a traceback."""

import pytest

from tests.web import HTMX, JSON, parse
from webapp import create_app
from webapp.config import Settings

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FORMS = {"json": JSON, "htmx": HTMX, "page": BROWSER}


def form_of(answer) -> str:
    if answer.is_json:
        assert answer.json["error"]["message"]
        return "json"
    page = parse(answer.text)
    if answer.text.lower().startswith("<!doctype html>"):
        assert page.all("main")
        return "page"
    assert not page.all("html")
    return "htmx"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/htmx/../app.js", 404),
        ("GET", "/htmx/other.js", 404),
        ("GET", "/static/nothing.css", 404),
        ("GET", "/generate", 405),
        ("GET", "/tokenize", 405),
        ("POST", "/", 405),
        ("DELETE", "/generate", 405),
        ("PUT", "/healthz", 405),
    ],
)
def test_what_is_not_there_is_told_in_the_form_that_was_asked_for(
    client, form, method, path, status
):
    answer = client.open(path, method=method, headers=FORMS[form])
    assert answer.status_code == status
    assert form_of(answer) == form
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", ["/generate", "/tokenize"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("{", "application/json"),
        ("[]", "application/json"),
        ('"text"', "application/json"),
        ("null", "application/json"),
        ("\xff".encode("latin-1"), "application/json"),
        ("[" * 100_000, "application/json"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(client, form, path, body, kind):
    answer = client.post(path, data=body, content_type=kind, headers=FORMS[form])
    assert 400 <= answer.status_code < 500
    assert form_of(answer) == form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "image/png", ""])
def test_another_content_type_is_refused(client, form, kind):
    answer = client.post("/generate", data=b"prompt=a", content_type=kind, headers=FORMS[form])
    assert 400 <= answer.status_code < 500
    assert form_of(answer) == form


@pytest.mark.parametrize("form", FORMS)
def test_a_body_beyond_all_measure_is_refused_before_it_is_read(client, form):
    answer = client.post("/generate", data={"prompt": "a" * 2_000_000}, headers=FORMS[form])
    assert answer.status_code == 413
    assert form_of(answer) == form


@pytest.mark.parametrize("form", FORMS)
def test_our_own_mistake_shows_a_sentence_and_no_traceback(form, monkeypatch, caplog):
    app = create_app(Settings())
    monkeypatch.setattr("webapp.generation.token_view", lambda text: 1 / 0)
    answer = app.test_client().post("/tokenize", data={"prompt": "a"}, headers=FORMS[form])
    assert answer.status_code == 500
    assert form_of(answer) == form
    assert "ZeroDivision" not in answer.text and "Traceback" not in answer.text
    assert "ZeroDivision" in caplog.text  # for whoever runs the server


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_is_not_there_is_told_with_its_name(form, tmp_path):
    app = create_app(Settings(model="absent", models_dir=str(tmp_path)))
    answer = app.test_client().post("/generate", data={"prompt": "a"}, headers=FORMS[form])
    assert answer.status_code == 503
    assert form_of(answer) == form
    assert "absent" in answer.text


class TestBadFields:
    BAD = {"prompt": "word " * 300, "n_tokens": "0", "temperature": "<i>hot</i>"}

    def test_json_names_the_field_and_the_numbers(self, client):
        answer = client.post("/generate", json={"prompt": "word " * 300}, headers=JSON)
        assert answer.status_code == 422
        error = answer.json["error"]
        assert error["field"] == "prompt"
        assert (error["n_prompt_tokens"], error["n_ctx"]) == (301, 256)
        assert "301" in error["message"] and "256" in error["message"]

    def test_the_page_has_each_message_beside_its_field(self, client):
        answer = client.post("/generate", data=self.BAD, headers=BROWSER)
        assert answer.status_code == 422
        page = parse(answer.text)
        assert "301" in page.id("error-prompt").text and "256" in page.id("error-prompt").text
        assert "256" in page.id("error-n_tokens").text
        assert "<i>hot</i>" in page.id("error-temperature").text
        assert not page.id("error-seed").text.strip()
        for name in self.BAD:
            assert page.id(name).attributes.get("aria-invalid") == "true"
        assert page.id("seed").attributes.get("aria-invalid") is None
        assert page.id("n_tokens").attributes["value"] == "0"

    def test_partials_go_to_the_place_of_each_field(self, client):
        answer = client.post("/generate", data=self.BAD, headers=HTMX)
        assert answer.status_code == 422
        assert answer.mimetype == "text/html"
        partials = {p.attributes["hx-target"]: p.text for p in parse(answer.text).all("hx-partial")}
        assert "301" in partials["#error-prompt"]
        assert "<i>hot</i>" in partials["#error-temperature"]
        assert partials["#error-seed"] == ""  # an older message there goes away

    def test_a_long_text_is_refused_with_both_numbers(self, client):
        for path in ("/generate", "/tokenize"):
            answer = client.post(path, data={"prompt": "a" * 100_001}, headers=JSON)
            assert answer.status_code == 422
            error = answer.json["error"]
            assert (error["n_chars"], error["max_chars"]) == (100_001, 100_000)
