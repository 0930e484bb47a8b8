"""Proxies and sub-paths: whose headers are believed, and that no address leaves the prefix."""

import re
from urllib.parse import urljoin, urlsplit

import pytest

from gpt2core.settings import Settings
from tests.helpers.web import HTMX, parse
from webapp import create_app

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "glyph.example",
    "X-Forwarded-Prefix": "/glyph",
}
ADDRESSES = ("href", "src", "action", "formaction", "hx-get", "hx-post", "data-append")


def base_url(client, **headers) -> str:
    """The address of the API that the page for programs prints."""
    return parse(client.get("/api", headers=headers).text).id("base-url").text


@pytest.fixture(scope="module")
def behind_one():
    return create_app(Settings(trusted_proxies=1)).test_client()


def test_forwarded_headers_are_ignored_unless_proxies_are_trusted(client):
    assert base_url(client, **FORWARDED) == "http://localhost/v1"


def test_a_trusted_proxy_says_scheme_host_and_prefix(behind_one):
    assert base_url(behind_one, **FORWARDED) == "https://glyph.example/glyph/v1"


def test_only_the_values_of_the_trusted_proxies_count(behind_one):
    forged = {name: f"forged.example, {value}" for name, value in FORWARDED.items()}
    forged["X-Forwarded-Prefix"] = "/forged, /glyph"
    assert base_url(behind_one, **forged) == "https://glyph.example/glyph/v1"


@pytest.mark.parametrize("prefix", ["//evil.example", "javascript:1", "/a b", "/<", "/a//b"])
def test_a_prefix_that_is_no_plain_path_is_ignored(behind_one, prefix):
    assert base_url(behind_one, **{"X-Forwarded-Prefix": prefix}) == "http://localhost/v1"


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_below_a_prefix_every_address_has_it(client, headers):
    below = {"SCRIPT_NAME": "/glyph"}
    fields = {"prompt": "Not all heroes", "n_tokens": "2", "seed": "1"}
    made = client.post("/generate", data=fields, headers=headers, environ_overrides=below)
    assert made.status_code == 200
    partials = re.sub(r"^data: ?", "", made.text, flags=re.MULTILINE)
    found, pages = addresses(partials), set()
    found |= addresses(client.get("/?prompt=a", environ_overrides=below).text)
    assert len(found) > 10
    while todo := {urlsplit(one).path for one in found} - pages:
        for path in todo:
            pages.add(path)
            assert path.startswith("/glyph/"), path
            with client.get(path.removeprefix("/glyph"), environ_overrides=below) as answer:
                assert answer.status_code != 404, path
                if answer.mimetype == "text/html" and answer.status_code == 200:
                    found |= addresses(answer.text)
                for file in re.findall("<(.*?)>", answer.headers.get("Link", "")):
                    assert file.startswith("/glyph/static/")
    assert {"/glyph/bpe", "/glyph/append", "/glyph/tokens.csv", "/glyph/inside"} <= pages


def addresses(html: str) -> set[str]:
    """Addresses of this server in a page or in partials. Templates are part of a page."""
    found = {e.attributes.get(name) or "" for e in parse(html) for name in ADDRESSES}
    absolute = (
        urljoin("http://localhost/glyph/here", one) for one in found if one and one[0] != "#"
    )
    return {one for one in absolute if urlsplit(one).hostname == "localhost"}


def test_the_contract_names_the_prefix(client):
    below = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": "/glyph"})
    assert below.json["servers"] == [{"url": "/glyph"}]
    assert client.get("/openapi.json").json["servers"] == [{"url": "/"}]
