"""GET and POST /compare: two texts over each other, a form for others, and its errors."""

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.texts import TRICKY_TEXT
from tests.helpers.web import JSON, ROBOT, parse, textarea_value
from webapp.comparison import MAX_TOKENS
from webapp.links import MAX_LINK


def link(a: str = "", b: str = "") -> str:
    return "/compare?" + urlencode({"a": a, "b": b})


@pytest.fixture
def look(client):
    """``look(a, b)``: the parsed page."""

    def look(a: str = "", b: str = ""):
        answer = client.get(link(a, b))
        assert answer.status_code == 200
        return parse(answer.text)

    return look


def row(page, name: str) -> list[int]:
    """Ids of one text's chips, in order."""
    return [id for strip in page.all(class_=f"compared-{name}") for id in strip.ids()]


def test_both_texts_have_all_their_tokens(look):
    texts = "The cat sat.", f"the cat {ROBOT} sat"
    page = look(*texts)
    assert [row(page, name) for name in "ab"] == [default_encoder().encode(text) for text in texts]


@settings(max_examples=20)
@given(TRICKY_TEXT.filter(bool), st.text(min_size=1))
def test_any_two_texts_have_all_their_tokens(app, a, b):
    answer = app.test_client().get(link(a, b))
    assert answer.status_code == 200
    page = parse(answer.text)
    assert [row(page, name) for name in "ab"] == [default_encoder().encode(t) for t in (a, b)]


def test_the_table_says_what_each_text_costs(look):
    (table,) = look("naïve", "Not all heroes").all("table")
    rows = [[cell.text for cell in tr.children] for tr in table.all("tbody")[0].all("tr")]
    assert rows == [
        ["tokens", "2", "3"],
        ["characters", "5", "14"],
        ["bytes", "6", "14"],
        ["tokens for each character", "0.40", "0.21"],
        ["tokens for each byte", "0.33", "0.21"],
    ]


def test_what_one_text_lacks_is_named(look):
    (differing,) = look("Not all", "Not all heroes").id("compared").all(class_="differs")
    assert differing.words.startswith("First text: nothing Second text:")


def test_the_same_text_twice_is_said_to_be_the_same(look):
    page = look("Not all", "Not all")
    assert "the same, token by token" in page.id("main").words
    assert not page.all(class_="differs")


def test_without_texts_there_are_some_to_look_at(look):
    page = look()
    links = [a.attributes["href"] for a in page.all(class_="compare-examples")[0].all("a")]
    assert len(links) == 3 and all(href.startswith("/compare?a=") for href in links)
    assert not page.all("table")


@pytest.mark.parametrize(("texts", "label"), [(("a", ""), "second"), (("", "b"), "first")])
def test_one_text_alone_says_which_one_is_missing(look, texts, label):
    page = look(*texts)
    assert f"The {label} text is still empty" in page.id("compare-missing").words
    assert not page.all("table")


def test_a_text_that_is_too_long_has_its_error_beside_its_field(client):
    long = " a" * (MAX_TOKENS + 1)
    answer = client.get(link("short", long))
    assert answer.status_code == 422
    page = parse(answer.text)
    assert f"{MAX_TOKENS + 1} tokens long; at most {MAX_TOKENS}" in page.id("compare-error-b").words
    area = page.id("compare-b")
    assert area.attributes["aria-describedby"] == "compare-error-b"
    assert textarea_value(area) == long and not page.all(id="compare-error-a")


def test_a_program_gets_that_error_as_json(client):
    answer = client.get(link(" a" * (MAX_TOKENS + 1), "b"), headers=JSON)
    assert answer.status_code == 422
    assert answer.json["error"]["field"] == "a" and answer.json["error"]["maximum"] == MAX_TOKENS


def test_the_form_leads_to_a_link_with_unix_line_ends(client):
    answer = client.post("/compare", data={"a": "one\r\ntwo", "b": "x&y"})
    assert answer.status_code == 303
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query == {"a": ["one\ntwo"], "b": ["x&y"]}


def test_texts_too_long_for_a_link_are_compared_in_place(client):
    text = "\u2014" * 450  # nine characters of an address each
    assert len(link(text, text)) > MAX_LINK
    answer = client.post("/compare", data={"a": text, "b": text})
    assert answer.status_code == 200
    assert row(parse(answer.text), "a") == default_encoder().encode(text)


def test_a_nul_and_half_a_surrogate_pair_are_shown(client):
    answer = client.post("/compare", data={"a": "a\x00b", "b": "\ufffd"})
    page = parse(client.get(answer.headers["Location"]).text)
    assert "data-value" in page.id("compare-a").attributes
