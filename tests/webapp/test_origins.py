"""Pages of other sites: they can link here, and neither start work nor read or frame anything."""

import pytest

from tests.helpers.web import HTMX, JSON

FORM = {"prompt": "a", "n_tokens": "1"}
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
WORK = ("/generate", "/tokenize", "/score", "/append", "/next", "/model/retry")
COMPLETION = {"model": "demo", "prompt": "a", "max_tokens": 1}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", WORK)
def test_a_form_of_another_site_starts_nothing(client, site, path):
    for headers in ({}, HTMX, JSON):
        answer = client.post(path, data=FORM, headers={"Sec-Fetch-Site": site, **LINK, **headers})
        assert answer.status_code == 403
        assert "another site" in answer.text
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_neither_does_a_picture_or_frame_or_script_of_another_site(client):
    work = "/?prompt=a&n_tokens=1&seed=1&generate=1"
    for mode, kind in (("no-cors", "image"), ("navigate", "iframe"), ("cors", "empty")):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
        for path in (work, "/inside?prompt=a", "/score?prompt=a"):
            assert client.get(path, headers=headers).status_code == 403, (mode, path)
    link = client.get(work, headers={"Sec-Fetch-Site": "cross-site", **LINK})
    assert link.status_code == 200  # a text that somebody shares


@pytest.mark.parametrize(
    "site", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_the_page_itself_and_programs_can(client, site):
    assert client.post("/generate", data=FORM, headers={**JSON, **site}).status_code == 200
    assert client.post("/v1/completions", json=COMPLETION, headers=site).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""]
)
def test_the_api_takes_json_only_which_no_form_can_send(client, kind):
    body = b'{"model": "demo", "prompt": "a", "max_tokens": 1}'
    answer = client.post("/v1/completions", data=body, content_type=kind)
    assert answer.status_code == 415
    assert "application/json" in answer.json["error"]["message"]
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    answer = client.post("/v1/completions", json=COMPLETION, headers=foreign)
    assert answer.status_code == 403 and answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path", ["/", "/generate", "/v1/completions", "/static/app.css", "/nothing"]
)
def test_no_other_origin_may_read_or_frame_an_answer(client, path):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        with client.open(path, method=method, headers=headers) as answer:
            assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:99", "a b", "<x>", "x" * 300, ""])
def test_any_host_header_is_harmless(client, host):
    for path in ("/", "/api", "/nowhere", "/static/app.css"):
        with client.get(path, environ_overrides={"HTTP_HOST": host}) as answer:
            assert answer.status_code in (200, 400, 404)
            assert "<x>" not in answer.text


@pytest.mark.parametrize("base", ["/htmx", "/static", "/source", "/inside/source"])
@pytest.mark.parametrize(
    "path",
    ["../app.py", "..%2f..%2fwebapp/__init__.py", "%2e%2e/%2e%2e/README.md", "..\\..\\x", "%00",
     "//etc/passwd", "%2fetc%2fpasswd", "js/../../README.md", "a" * 5000, "....//....//README.md",
     "000000/../../README.md", "000000/%2fetc%2fpasswd"],
)  # fmt: skip
def test_no_path_leads_out_of_a_folder(client, base, path):
    with client.get(f"{base}/{path}") as answer:
        assert answer.status_code in (308, 400, 404)
        assert "root:" not in answer.text and "create_app" not in answer.text


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PATCH", "PROPFIND", "X" * 99])
def test_unknown_methods_are_refused(client, method):
    for path in ("/", "/generate", "/v1/completions", "/healthz"):
        assert client.open(path, method=method).status_code in (404, 405)
