"""Exceptions to responses of the requested kind: never a 200, never a traceback."""

import pytest

from gpt2core.settings import Settings
from tests.helpers.web import HTMX, JSON, parse, textarea_value
from webapp import create_app

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
def test_missing_pages_and_wrong_methods_are_answered_in_the_requested_form(
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
def test_an_unreadable_body_is_refused(client, form, path, body, kind):
    answer = client.post(path, data=body, content_type=kind, headers=FORMS[form])
    assert 400 <= answer.status_code < 500
    assert form_of(answer) == form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "image/png", ""])
@pytest.mark.parametrize("path", ["/generate", "/tokenize"])
def test_another_content_type_is_refused(client, form, kind, path):
    answer = client.post(path, data=b"prompt=a", content_type=kind, headers=FORMS[form])
    assert 400 <= answer.status_code < 500
    assert form_of(answer) == form


@pytest.mark.parametrize("form", FORMS)
def test_a_body_over_the_limit_is_refused_before_it_is_read(client, form):
    answer = client.post("/generate", data={"prompt": "a" * 2_000_000}, headers=FORMS[form])
    assert answer.status_code == 413
    assert form_of(answer) == form


@pytest.mark.parametrize("form", FORMS)
def test_an_unexpected_error_shows_a_sentence_and_no_traceback(form, monkeypatch, caplog):
    app = create_app(Settings())
    monkeypatch.setattr("webapp.page.token_view", lambda *fields: 1 / 0)
    answer = app.test_client().post("/tokenize", data={"prompt": "a"}, headers=FORMS[form])
    assert answer.status_code == 500
    assert form_of(answer) == form
    assert "ZeroDivision" not in answer.text and "Traceback" not in answer.text
    assert "ZeroDivision" in caplog.text  # for the operator of the server


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_model_is_reported_by_name(form, tmp_path):
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

    def test_partials_target_the_error_of_each_field(self, client):
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

    @pytest.mark.parametrize("path", ["/generate", "/tokenize"])
    def test_the_page_tokenizes_part_of_a_text_over_the_limit_and_says_so(self, path, monkeypatch):
        app = create_app(Settings(max_chars=1_000))
        encoder = app.extensions["model_server"].encoder
        encode, lengths = encoder.encode, []
        monkeypatch.setattr(
            encoder, "encode", lambda text, *rest: lengths.append(len(text)) or encode(text, *rest)
        )
        text = "a\n" + " b" * 600
        fields = {"prompt": text.replace("\n", "\r\n"), "n_tokens": "7"}
        answer = app.test_client().post(path, data=fields)
        assert answer.status_code == 422
        assert set(lengths) == {1_000}
        page = parse(answer.text)
        assert textarea_value(page.id("prompt")) == text
        assert page.id("n_tokens").attributes["value"] == "7"
        assert "1,202" in page.id("error-prompt").words
        tokens = page.id("tokens").words
        assert "501 tokens" in tokens and "1,000 characters" in tokens
        assert "first 1,000 characters" in tokens and "202 more" in tokens
        assert "context" not in tokens  # of which the part would be counted only

    def test_a_text_within_the_limit_is_tokenized_whole(self):
        app = create_app(Settings(max_chars=4))
        page = parse(app.test_client().post("/tokenize", data={"prompt": "ab c"}).text)
        assert "first" not in page.id("tokens").words


def test_a_file_of_json_has_errors_in_json_unless_html_is_preferred(client):
    address = "/tokens.json?prompt=a&kept=x"
    for headers in ({}, {"Accept": "*/*"}):
        for answer in (client.get(address, headers=headers), client.put("/tokens.json")):
            assert answer.json["error"]["message"]
    assert client.get(address, headers=BROWSER).mimetype == "text/html"
