"""GET /bpe: the page says what ``encode`` does, for any text, and says what it leaves out."""

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2core.tokenizer.pattern import SPLIT_ALTERNATIVES
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.texts import TRICKY_TEXT
from tests.helpers.web import HEROES, HEROES_IDS, HEROES_PIECES, JSON, ROBOT, parse, textarea_value
from webapp.explanation import (
    MAX_CHARS,
    MAX_RESULT_CHIPS,
    MAX_STEP_SYMBOLS,
    MAX_SYMBOLS,
    MAX_WORDS,
    character_row,
    explain,
    visible,
)
from webapp.links import MAX_LINK
from webapp.routes.bpe import EXAMPLES


def link(text: str) -> str:
    return "/bpe?" + urlencode({"text": text})


@pytest.fixture
def look(client):
    """``look(text)``: the parsed page about a text."""

    def look(text: str):
        answer = client.get(link(text))
        assert answer.status_code == 200
        return parse(answer.text)

    return look


def texts(page, class_: str) -> list[str]:
    return [element.text for element in page.all(class_=class_)]


def ids_of(tokens) -> list[int]:
    """The ids on the chips of a list of tokens."""
    return [int(text) for text in texts(tokens, "bpe-id")]


def result(page):
    """The last list of tokens: the whole text's."""
    return page.all("ol", class_="bpe-tokens")[-1]


class TestPage:
    def test_it_goes_from_words_to_ids(self, look):
        page = look(HEROES)
        assert page.all("ol", class_="bpe-figures")[0].words == (
            "26 characters 6 words 26 bytes 19 merges 7 tokens"
        )
        (cuts,) = page.all("ol", class_="bpe-cuts")
        assert texts(cuts, "bpe-text") == ["Not", "␣all", "␣heroes", "␣wear", "␣capes", "."]
        assert texts(cuts, "bpe-clause") == ["letters"] * 5 + ["signs"]
        assert ids_of(result(page)) == HEROES_IDS
        assert texts(result(page), "piece") == HEROES_PIECES

    def test_a_word_shows_bytes_every_merge_and_its_tokens(self, look):
        word = look("a heroes").id("word-2")
        assert texts(word, "bpe-hex") == ["20", "68", "65", "72", "6f", "65", "73"]
        assert texts(word, "bpe-symbols") == ["Ġ", "h", "e", "r", "o", "e", "s"]
        steps = word.all("ol", class_="bpe-steps")[0].all("li")
        assert [step.all(class_="bpe-merge")[0].words for step in steps] == [
            "lowest rank 2: h + e → he",
            "lowest rank 18: e + s → es",
            "lowest rank 49: r + o → ro",
            "lowest rank 83: Ġ + he → Ġhe",
            "lowest rank 4,037: Ġhe + ro → Ġhero",
            "rank 10,025: Ġhero + es → Ġheroes",
            "one symbol: done",
        ]
        assert texts(steps[3], "bpe-symbol") == ["Ġ", "he", "ro", "es"]
        assert texts(steps[3], "bpe-gap") == ["83", "11,462", "–"]  # no merge knows ro + es
        assert texts(steps[3], "best") == ["83"]
        assert texts(steps[4], "made") == ["Ġhe"]
        assert ids_of(word) == [10281]

    def test_each_clause_is_shown_with_the_words_it_matched(self, look):
        (table,) = look("I'll  pay $20,\n  ok").all("table", class_="bpe-clauses")
        rows = {}
        for row in table.all("tbody")[0].all("tr"):
            header, takes, here = (row.all("th") + row.all("td"))[:3]
            rows[header.children[0].strip()] = here.words
            assert takes.words
        assert rows == {
            "contraction": "1 ×: 'll",
            "letters": "3 ×: I ␣pay ␣ok",
            "digits": "1 ×: 20",
            "signs": "2 ×: ␣$ ,",
            "spare white space": "2 ×: ␣ ↵␣",
            "last white space": "not here",
        }

    def test_the_pattern_is_shown_whole_and_in_clauses(self, look):
        page = look(HEROES)
        shown = [code.text for code in page.all("table", class_="bpe-clauses")[0].all("code")]
        assert shown == [clause.pattern.replace(" ", "␣") for clause in SPLIT_ALTERNATIVES]
        (whole,) = page.all("pre", class_="bpe-pattern")
        assert whole.text == "|".join(clause.pattern for clause in SPLIT_ALTERNATIVES)

    def test_it_explains_ranks_and_the_space_symbol(self, look):
        words = look(HEROES).words
        assert "The rank of a pair is its place in that list" in words
        assert "with a space before it" in words

    def test_the_byte_alphabet_marks_the_bytes_of_the_text(self, look):
        (table,) = look("é a").all("table", class_="bpe-alphabet")
        assert [mark.text for mark in table.all("mark")] == ["Ġ", "a", "©", "Ã"]
        assert len(table.all("td")) == 1 + 256
        assert {cell.attributes["scope"] for cell in table.all("th")} == {"row", "col"}

    def test_a_repeated_word_is_explained_once(self, look):
        page = look("no no no, no")
        (cuts,) = page.all("ol", class_="bpe-cuts")
        assert [a.attributes["href"] for a in cuts.all("a")] == [
            "#word-1", "#word-2", "#word-2", "#word-3", "#word-2",
        ]  # fmt: skip
        assert len(page.all("li", class_="bpe-entry")) == 3
        assert "3 times in the text" in page.id("word-2").words
        assert ids_of(result(page)) == default_encoder().encode("no no no, no")

    def test_white_space_and_control_characters_are_visible(self, look):
        page = look("a\n\tb\x00\u200b\u00a0")
        shown = "".join(texts(page.all("ol", class_="bpe-cuts")[0], "bpe-text"))
        assert shown == "a↵⇥b␀U+200B⍽"
        assert "zero-width space" in texts(page, "bpe-note")

    def test_a_typed_special_token_is_text(self, look):
        page = look("<|endoftext|>")
        assert 50256 not in ids_of(result(page))
        assert "is cut like any other text" in page.words

    def test_headings_are_in_order(self, look):
        levels = [int(e.tag[1]) for e in look(HEROES) if re.fullmatch("h[1-6]", e.tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))

    @given(TRICKY_TEXT | st.text(max_size=30))
    @settings(max_examples=50)
    def test_any_text_gets_a_whole_page_with_its_ids(self, app, text):
        answer = app.test_client().get(link(text))
        page = parse(answer.text)
        assert answer.status_code == 200
        if text:
            assert ids_of(result(page)) == default_encoder().encode(text)

    def test_markup_in_a_text_is_text(self, client):
        html = client.get(link("<script>alert(1)</script>")).text
        assert "<script>alert" not in html
        assert parse(html).all("script", src=None) == []


class TestForm:
    def test_nothing_to_explain_shows_examples(self, client):
        for address in ("/bpe", "/bpe?text="):
            page = parse(client.get(address).text)
            shown = [e.text for e in page.all("a", class_="example")]
            assert shown == list(EXAMPLES)
            assert not page.all("li", class_="bpe-entry")

    def test_the_examples_lead_to_their_page(self, client):
        for example in parse(client.get("/bpe").text).all("a", class_="example"):
            page = parse(client.get(example.attributes["href"]).text)
            assert textarea_value(page.id("bpe-text")) == example.text

    def test_the_form_leads_to_an_address_to_share(self, client):
        answer = client.post("/bpe", data={"text": "\r\na\r\n b"})
        assert answer.status_code == 303
        address = urlsplit(answer.headers["Location"])
        assert (address.path, parse_qs(address.query)) == ("/bpe", {"text": ["\na\n b"]})
        page = parse(client.get(answer.headers["Location"]).text)
        assert textarea_value(page.id("bpe-text")) == "\na\n b"

    def test_a_link_keeps_its_carriage_returns(self, look):
        assert ids_of(result(look("a\r\nb"))) == default_encoder().encode("a\r\nb")

    def test_a_text_too_long_for_a_link_is_explained_too(self, client):
        text = "日" * (MAX_LINK // 9 + 1)
        answer = client.post("/bpe", data={"text": text})
        assert answer.status_code == 200
        page = parse(answer.text)
        assert f"{len(text):,} characters" in page.words
        assert "Let the model continue" not in page.words

    def test_it_links_to_the_page_with_the_same_text(self, look):
        (first, *_) = [
            a for a in look(f"{ROBOT} & b").all("a") if a.text.startswith("Let the model")
        ]
        assert parse_qs(urlsplit(first.attributes["href"]).query) == {"prompt": [f"{ROBOT} & b"]}

    def test_the_tokens_can_be_downloaded(self, client, look):
        (download,) = look(HEROES).all("form", class_="download")
        sent = {e.attributes["name"]: e.attributes["value"] for e in download.all("input")}
        answer = client.post(download.attributes["action"], data=sent)
        assert [token["id"] for token in answer.get_json()["tokens"]] == HEROES_IDS

    def test_a_text_over_the_limit_is_refused_with_both_numbers(self, client):
        text = "x" * (MAX_CHARS + 1)
        answer = client.get(link(text))
        page = parse(answer.text)
        assert answer.status_code == 422
        assert page.id("bpe-error").words == (
            f"The text is {MAX_CHARS + 1:,} characters long; at most {MAX_CHARS:,} are explained."
        )
        assert textarea_value(page.id("bpe-text")) == text  # nothing typed is lost
        assert client.post("/bpe", data={"text": text}).status_code == 422
        error = client.get(link(text), headers=JSON).json["error"]
        assert (error["field"], error["n_chars"], error["max_chars"]) == (
            "text", MAX_CHARS + 1, MAX_CHARS,
        )  # fmt: skip


class TestBounds:
    def test_words_beyond_the_limit_are_counted(self, look):
        page = look("a " * (MAX_WORDS + 4) + "a")
        assert f"{MAX_WORDS + 5} words; the first {MAX_WORDS} are explained" in page.words
        assert "the other 5 only counted" in page.words
        assert f"{MAX_WORDS + 5} tokens" in page.words

    def test_a_long_word_shows_its_numbers_and_tokens(self, look):
        text = "=" * (MAX_SYMBOLS + 36)
        page = look(text)
        entry = page.id("word-1")
        assert f"{MAX_SYMBOLS + 36} bytes" in entry.words
        assert "too long to draw each" in entry.words
        assert "36 more characters, not drawn" in entry.words
        assert not entry.all("details")
        assert ids_of(result(page)) == default_encoder().encode(text)

    def test_a_word_at_the_limit_is_drawn(self, look):
        assert look("x" * MAX_SYMBOLS).id("word-1").all("details")

    def test_long_pages_leave_out_merges_and_link_to_the_word_alone(self, client, look):
        words = [f"{chr(97 + n)}{'internationalization' * 3}" for n in range(20)]
        page = look(" ".join(words))
        drawn = [len(step.all(class_="bpe-symbol")) for step in page.all(class_="bpe-state")]
        assert sum(drawn) <= 1.1 * MAX_STEP_SYMBOLS
        (last,) = [e for e in page.id("word-20").all("a") if "alone" in e.text]
        alone = parse(client.get(last.attributes["href"]).text)
        assert alone.id("word-1").all("details")

    @pytest.mark.parametrize(
        "text",
        [
            " " * MAX_CHARS,
            "日" * MAX_CHARS,
            "x" * MAX_CHARS,
            "ab " * (MAX_CHARS // 3),
            "".join(chr(0x4E00 + n) + " " for n in range(MAX_CHARS // 2)),
            " ".join(f"{n:064d}" for n in range(MAX_CHARS // 66)),
        ],
        ids=["spaces", "one long word", "one letter", "one word", "many words", "wide words"],
    )
    def test_the_worst_texts_give_pages_of_bounded_size(self, text, client):
        answer = client.post("/bpe", data={"text": text}, follow_redirects=True)
        assert answer.status_code == 200
        assert len(answer.data) < 3_000_000
        page = parse(answer.text)
        assert len(ids_of(result(page))) <= MAX_RESULT_CHIPS

    def test_what_is_drawn_adds_up(self):
        explanation = explain(default_encoder(), "no no yes " * 100)
        n_drawn = len(explanation.occurrences)
        assert n_drawn + explanation.n_more_words == len(explanation.words)
        assert sum(word.n_occurrences for word in explanation.unique_words) == n_drawn


@pytest.mark.parametrize(
    ("char", "shown", "description", "bytes", "symbols"),
    [
        ("a", "a", "", "61", "a"),
        (" ", "␣", "space", "20", "Ġ"),
        ("é", "é", "", "c3 a9", "Ã ©"),
        ("\u0301", "\u25cc\u0301", "", "cc 81", "Ì ģ"),
        ("\u200d", "U+200D", "zero-width joiner", "e2 80 8d", "â Ģ į"),
        ("\u202e", "U+202E", "right-to-left override", "e2 80 ae", "â Ģ ®"),
        ("\ue000", "U+E000", "", "ee 80 80", "î Ģ Ģ"),
    ],
)
def test_a_row_shows_a_character_and_its_bytes(char, shown, description, bytes, symbols):
    row = character_row(char)
    assert (row.shown, row.description) == (shown, description)
    assert (row.bytes, row.symbols) == (bytes, symbols)


def test_visible_text_keeps_emoji_whole_and_shows_the_rest():
    family = "👩\u200d🚀 ❤\ufe0f"
    assert visible(family) == "👩\u200d🚀␣❤\ufe0f"
    assert visible("\u200d") == "U+200D"
    assert visible("a\u202eb") == "aU+202Eb"
