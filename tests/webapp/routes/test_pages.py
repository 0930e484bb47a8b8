"""GET /: the page, permalinks, and the files it needs."""

import gzip
import re
from importlib import metadata
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.helpers.web import HEROES, HEROES_IDS, HTMX, ROOT, parse, textarea_value
from webapp.static_files import digest

FIELDS = ["n_tokens", "temperature", "top_k", "top_p", "seed"]


def page(client, **query):
    answer = client.get("/", query_string=query)
    assert answer.status_code == 200
    return parse(answer.text)


def test_the_page_has_every_id_that_scripts_and_tests_use(client):
    root = page(client)
    for id in ("form", "prompt", "generate", "stop", "status", "progress", "text", "prompt-text",
               "continuation", "strip", "prompt-strip", "counts", "candidates", "problem",
               "error-prompt", *(f"error-{field}" for field in FIELDS)):  # fmt: skip
        assert root.id(id), id
    ids = [e.attributes["id"] for e in root if "id" in e.attributes]
    assert len(ids) == len(set(ids))


def test_the_page_names_its_model(client):
    assert "demo" in page(client).id("model").words
    assert "not OpenAI" in page(client).id("model").words


def fetch(client, address, headers):
    """Body and headers of a file."""
    with client.get(address, headers=headers) as answer:
        return answer.data, answer.headers


def chosen_pace(root) -> str:
    (radio,) = [e for e in root.all("input", name="pace") if "checked" in e.attributes]
    return radio.attributes["value"]


def test_a_first_visit_has_something_to_look_at(client):
    root = page(client)
    assert textarea_value(root.id("prompt")) == "Once upon a time, there was a little"
    assert len(root.id("prompt-strip").ids()) == 9
    assert chosen_pace(root) == "slow"
    examples = [e.words for e in root.all("a", class_="example")]
    assert "The cat sat on the mat because it" in examples


def test_another_model_gets_another_first_example_and_pace(client, monkeypatch):
    monkeypatch.setattr("webapp.page.is_bundled", lambda: False)
    root = page(client)
    assert textarea_value(root.id("prompt")).startswith("Alan Turing theorized")
    assert chosen_pace(root) == "full"


def test_a_link_with_a_seed_generates_what_it_describes(client):
    link = {"prompt": HEROES, "n_tokens": "5", "seed": "9"}
    root = page(client, **link)
    assert "data-shared" in root.id("form").attributes
    assert "shared text" in root.id("shared").words
    (refresh,) = root.all("meta", **{"http-equiv": "refresh"})  # for browsers without scripts
    address = refresh.attributes["content"].partition("url=")[2]
    generated = parse(client.get(address).text)
    answer = client.post("/generate", json=link).json
    assert generated.id("strip").ids() == HEROES_IDS + [token["id"] for token in answer["tokens"]]
    assert not generated.all("meta", **{"http-equiv": "refresh"})
    assert "data-shared" not in page(client, prompt=HEROES).id("form").attributes


def test_a_shared_link_with_a_bad_field_says_so(client):
    answer = client.get("/?prompt=a&seed=x&generate=1")
    assert answer.status_code == 422
    assert "'x'" in parse(answer.text).id("error-seed").words


STATIC = re.compile(r"^/static/[0-9a-f]{6}/")  # the addresses that pages name


def static_file(address: str) -> Path:
    """The file that such an address is of."""
    assert STATIC.match(address), address
    return ROOT / "static" / STATIC.sub("", address)


def page_modules(client) -> set[str]:
    """Addresses of main.js and of all modules that it imports, directly or not."""
    (main,) = [e.attributes["src"] for e in page(client).all("script") if e.attributes.get("type")]
    files = [main]
    for address in files:
        text = static_file(address).read_text(encoding="utf-8")
        found = [urljoin(address, name) for name in re.findall(r'from "(\./.*)";', text)]
        files += [name for name in found if name not in files]
    return set(files)


def test_the_page_weighs_little(client):
    assert len(client.get("/").data) <= 15_000
    sheets = [e.attributes["href"] for e in page(client).all("link", rel="stylesheet")]
    files = [*sheets, *page_modules(client)]
    assert sum(static_file(name).stat().st_size for name in files) <= 78_300
    headers = {"Accept-Encoding": "gzip"}
    sizes = {address: len(fetch(client, address, headers)[0]) for address in files}
    assert sum(sizes.values()) <= 30_000, sizes


def test_browsers_load_all_modules_at_once(client):
    preloads = re.findall("<(.*?)>; rel=modulepreload", client.get("/").headers["Link"])
    modules = page_modules(client)
    assert len(preloads) == len(modules) - 1 and set(preloads) < modules


def test_no_style_sheet_waits_for_another():
    sheets = sorted((ROOT / "static").glob("*.css"))
    assert len(sheets) > 1
    assert not [s.name for s in sheets if "@import" in s.read_text(encoding="utf-8")]


def test_scripts_and_styles_are_compressed_for_browsers_that_accept_it(client):
    files = ["/static/app.css", "/htmx/htmx.js", *page_modules(client), "/", "/openapi.json"]
    for address in files:
        plain, headers = fetch(client, address, {})
        assert "Content-Encoding" not in headers and "Accept-Encoding" in headers["Vary"]
        if len(plain) < 500:  # it would hardly get smaller
            continue
        packed, headers = fetch(client, address, {"Accept-Encoding": "gzip, br"})
        assert headers["Content-Encoding"] == "br" and len(packed) < 0.6 * len(plain)
        packed, headers = fetch(client, address, {"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] == "gzip" and "Accept-Encoding" in headers["Vary"]
        assert gzip.decompress(packed) == plain
        if "ETag" not in headers:
            continue
        again = {"Accept-Encoding": "gzip", "If-None-Match": headers["ETag"]}
        with client.get(address, headers=again) as answer:
            assert answer.status_code == 304
    answer = client.post(
        "/generate",
        data={"prompt": "a", "n_tokens": 1},
        headers=HTMX | {"Accept-Encoding": "gzip, br"},
    )
    assert answer.mimetype == "text/event-stream" and "Content-Encoding" not in answer.headers


def test_static_files_are_kept_until_their_address_changes(client):
    for address in page_modules(client):
        with client.get(address) as answer:
            assert answer.cache_control.immutable
            assert answer.cache_control.max_age >= 365 * 24 * 3600
    # A page that was opened before an update still finds files, and keeps none of them.
    for older in ("/static/000000/js/main.js", "/static/js/main.js"):
        with client.get(older) as answer:
            assert answer.status_code == 200
            assert answer.cache_control.no_cache and not answer.cache_control.immutable


def test_another_file_gives_every_file_another_address(tmp_path):
    (tmp_path / "a.js").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "a.js").write_text("2")
    second = digest(tmp_path)
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert len({first, second, digest(tmp_path)}) == 3


def test_robots_are_asked_to_start_no_work(client):
    text = client.get("/robots.txt").text.splitlines()
    assert text == ["User-agent: *", "Disallow: /*?", "Disallow: /inside"]


def test_a_permalink_fills_the_form_and_cuts_the_prompt(client):
    root = page(client, prompt=HEROES, n_tokens="7", temperature="0.5", seed="9", top_k="3")
    assert textarea_value(root.id("prompt")) == HEROES
    assert root.id("prompt-strip").ids() == HEROES_IDS
    values = {name: root.id(name).attributes["value"] for name in FIELDS}
    assert values == values | {"n_tokens": "7", "temperature": "0.5", "seed": "9", "top_k": "3"}


@pytest.mark.parametrize(
    "prompt", ["", "\n\nlead", "\t<b>&amp;\"'</textarea><script>", " ", "\0", "日本\N{ROBOT FACE}"]
)
def test_a_permalink_holds_any_text(client, prompt):
    assert textarea_value(page(client, prompt=prompt).id("prompt")) == prompt


@pytest.mark.parametrize("field", [*FIELDS, "kept", "unknown"])
@pytest.mark.parametrize("value", ['"><script>', "x", "", "\ufffd", "9" * 3000])
def test_an_invalid_permalink_is_still_a_page(client, field, value):
    root = page(client, prompt="a", **{field: value})
    assert not [s for s in root.all("script") if "src" not in s.attributes]


def test_invalid_bytes_in_an_address_are_no_error(client):
    assert client.get("/?prompt=%ff%ed%a0%80%00").status_code == 200


def test_every_file_that_the_page_names_is_served_by_this_server(client):
    root = page(client)
    named = [e.attributes["src"] for e in root.all("script")]
    named += [e.attributes["href"] for e in root.all("link")]
    assert len(named) >= 4
    for address in named:
        assert address.startswith("/"), address
        answer = client.get(address)
        assert answer.status_code == 200, address
        answer.close()


def test_a_newer_htmx_has_another_address(client):
    addresses = [e.attributes.get("src", "") for e in page(client).all("script")]
    htmx = [address for address in addresses if address.startswith("/htmx/")]
    assert len(htmx) == 2
    version = metadata.version("django-htmx")
    for address in htmx:  # which browsers keep for a day without asking
        assert address.endswith(f"?v={version}")
        answer = client.get(address)
        assert answer.cache_control.max_age >= 86_400
        answer.close()


def test_forms_post_to_this_server_only(client):
    assert "form-action 'self'" in client.get("/").headers["Content-Security-Policy"]


def test_what_needs_scripts_is_marked_so(client):
    root = page(client, prompt="")
    marked = " ".join(e.words for e in root.all(class_="scripted"))
    for words in ("Ctrl", "when you pause typing", "Type, and the tokens appear"):
        assert words in marked
    css = (ROOT / "static" / "app.css").read_text(encoding="utf-8")
    rule = r"@media \(scripting: none\) \{\s+\.scripted \{\s+display: none !important;"
    assert re.search(rule, css)


def test_labels_name_every_field(client):
    root = page(client)
    labelled = {label.attributes.get("for") for label in root.all("label")}
    assert {"prompt", *FIELDS} <= labelled
    for name in ("prompt", *FIELDS):
        assert f"error-{name}" in root.id(name).attributes["aria-describedby"].split()


TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_script_or_style_of_its_own(template):
    # The content security policy would block them, without a message on the page.
    source = re.sub(r"\{#.*?#\}", "", template.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"<style|\sstyle\s*=", source)
    assert not re.search(r"<script(?![^>]*\bsrc=)", source)
    assert not re.search(r"\s(hx-on|on[a-z]+)[:\w-]*\s*=", source)
    assert "javascript:" not in source
    assert "|safe" not in source.replace(" ", "")
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//(?=[^\"]*\.(?:js|css|woff))", source)


def test_a_link_made_with_another_model_says_so(client):
    assert "made with the model 355M" in client.get("/?prompt=a&model=355M").text
    assert "made with the model" not in client.get("/?prompt=a&model=demo").text


def test_kept_tokens_of_a_link_are_shown_before_anything_is_generated(client):
    root = page(client, prompt="Not all", kept="10281")
    assert root.id("strip").ids() == [3673, 477, 10281]
    assert root.id("text").text == "Not all heroes"


@pytest.mark.parametrize("query", [{"prompt": ""}, {"kept": "x"}, {"kept": "99999"}])
def test_a_text_that_cannot_be_generated_has_no_preview(client, query):
    root = page(client, **{"prompt": "Not all", "kept": "10281", **query})
    assert root.id("strip").ids() == [] and root.id("text").text == ""
