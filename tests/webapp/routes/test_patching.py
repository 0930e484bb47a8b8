"""GET /inside/patch: the grid and a carried state are those of going on from the other's state."""

import re

import numpy as np
import pytest

from gpt2core.inside.interventions import patch, patched_logits
from gpt2core.sampling import log_softmax
from tests.helpers.inside import (
    MAX_BYTES,
    ODD_TEXTS,
    TEXT,
    address,
    body_rows,
    number_in,
    open_page,
    recorded,
)
from tests.helpers.web import HTMX, messages, parse, shown
from webapp.inside.instruments import patching

PATH = "/inside/patch"
OTHER = "The dog sat on the mat because it"
PAIR = {"prompt": TEXT, "other": OTHER}
FIRST = 1  # position of the token that differs


@pytest.fixture(scope="module")
def both(demo):
    return recorded(demo, TEXT), recorded(demo, OTHER)


def grid(page) -> list[list[str]]:
    return body_rows(page.all("table", "inside-heads")[0])


def test_each_cell_is_the_share_of_the_difference_that_comes_over(client, both):
    here, there = both
    ours, theirs, p = 373, 550, 7
    page = open_page(client, PATH, **PAIR, for_=ours, against=theirs)

    def ahead(logits):
        return float(logits[theirs]) - float(logits[ours])

    start, end = ahead(here.last_logits), ahead(there.last_logits)
    assert number_in(page.id("patch-here").text) == pytest.approx(start, abs=2e-4)
    assert number_in(page.id("patch-there").text) == pytest.approx(end, abs=2e-4)
    rows = grid(page)
    assert [row[0] for row in rows] == [str(layer) for layer in range(here.n_layer)]
    for layer, row in enumerate(rows):
        assert len(row) == 1 + p + 1 - FIRST
        for position, cell in enumerate(row[1:], start=FIRST):
            found = patch(here, there, layer, [position], p)
            expected = (ahead(found.after) - start) / (end - start)
            assert number_in(cell) == pytest.approx(expected, abs=2e-3)
    assert number_in(rows[0][1]) == pytest.approx(1, abs=1e-3)  # all that differs, at the start


def test_a_cell_shows_what_the_carried_state_changes_and_where_it_can(client, both):
    page = open_page(client, PATH, **PAIR, carry="3.2", for_=373, against=550)
    found = patch(*both, 3, [1], 7)
    (table,) = page.all("table", "inside-compared")
    tokens = [int(button.attributes["value"]) for button in table.all("button")]
    assert tokens[:2] == [373, 550]
    for id, row in zip(tokens, body_rows(table), strict=True):
        shown_logits = [number_in(part) for part in row[-2].split("→")]
        assert shown_logits == pytest.approx([found.before[id], found.after[id]], abs=6e-3)
    assert re.fullmatch(r"50,2\d\d of 50,257 logits changed", page.id("n-changed").words)
    cone = {cell.all("button")[0].attributes["value"] for cell in page.all("td", "inside-cone")}
    assert cone == {f"{layer}.{at}" for layer in (3, 4, 5) for at in range(2, 9)}


@pytest.mark.parametrize("end", ["He", "cat"])
def test_without_tokens_in_the_address_the_two_answers_are_compared(client, demo, end):
    """The token that the other text makes likelier, where both answers are the same."""
    prompts = {
        "prompt": f"The boy was very happy. {end}",
        "other": f"The girl was very happy. {end}",
    }
    page = open_page(client, PATH, **prompts)
    logits = [recorded(demo, text).last_logits for text in prompts.values()]
    answers = [int(row.argmax()) for row in logits]
    (equation,) = page.all("p", "inside-equation")
    pieces = [piece.text for piece in equation.all(class_="piece")]
    assert pieces[1] == demo.encoder.decoder[answers[0]]
    if answers[0] != answers[1]:
        assert pieces[0] == demo.encoder.decoder[answers[1]]
    else:
        rise = np.exp(log_softmax(logits[1])) - np.exp(log_softmax(logits[0]))
        rise[answers[0]] = -1
        assert pieces[0] == demo.encoder.decoder[int(rise.argmax())]


def test_the_stream_has_the_rows_of_the_page(client):
    page = open_page(client, PATH, **PAIR)
    answer = client.get(address(f"{PATH}/rows", **PAIR))
    assert answer.mimetype == "text/event-stream"
    sent = shown(messages(answer.text.splitlines(keepends=True))).parts["patch-rows"]
    assert [part.words for part in sent] == ["".join(row) for row in grid(page)]
    part = parse(client.get(address(PATH, **PAIR), headers=HTMX).text)
    assert part.id("patch-rows").attributes["hx-get"] == address(f"{PATH}/rows", **PAIR)
    assert not part.id("patch-rows").all("tr")


def test_the_grid_stops_when_the_reader_leaves(client, monkeypatch):
    calls = []

    def computed(*args):
        calls.append(args)
        return patched_logits(*args)

    monkeypatch.setattr(patching, "patched_logits", computed)
    answer = client.get(address(f"{PATH}/rows", **PAIR), buffered=False)
    assert b"patch-rows" in next(answer.iter_encoded())
    answer.close()
    assert len(calls) == 7  # one row


def test_an_address_is_its_view_and_without_another_text_there_is_an_example(client):
    page = open_page(client, PATH, **PAIR, carry="3.2")
    (link,) = page.all("a", rel="bookmark")
    assert parse(client.get(link.attributes["href"]).text).words == page.words
    empty = open_page(client, PATH, prompt=TEXT)
    assert not empty.all("table")
    (example,) = [a for a in empty.all("a") if a.words == "Try an example"]
    assert parse(client.get(example.attributes["href"]).text).all("table", "inside-heads")


@pytest.mark.parametrize(
    ("fields", "field", "parts"),
    [
        ({"other": OTHER, "carry": "6.2"}, "carry", ["0 to 5"]),
        ({"other": OTHER, "carry": "3.1"}, "carry", ["2 to 8"]),
        ({"other": OTHER, "carry": "x"}, "carry", ["layer.token"]),
        ({"other": OTHER, "for_": 7, "against": 7}, "against", ["Two different tokens"]),
    ],
)
def test_a_bad_field_has_its_message_beside_it(client, fields, field, parts):
    answer = client.get(address(PATH, prompt=TEXT, **fields))
    assert answer.status_code == 422
    page = parse(answer.text)
    control = page.id(f"mend-{field}")
    message = page.id(control.attributes["aria-describedby"]).words
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"other": "too short"}, ["8 tokens", "the other 2", "6 more"]),
        ({"other": f"{OTHER} was"}, ["8 tokens", "the other 9", "1 fewer"]),
        ({"other": TEXT}, ["the same"]),
        ({"other": OTHER, "at": 1}, ["the same"]),
    ],
)
def test_another_text_that_does_not_fit_is_refused_beside_its_field(client, demo, fields, parts):
    answer = client.get(address(PATH, prompt=TEXT, **fields))
    assert answer.status_code == 422
    page = parse(answer.text)
    field = page.id("other")
    assert field.attributes["value"] == fields["other"]
    message = page.id(field.attributes["aria-describedby"])
    assert all(part in message.words for part in parts)
    assert message.attributes["role"] == "alert"
    counts = [len(demo.encoder.encode(text)) for text in (TEXT, fields["other"])]
    terms = [term.words for term in page.all("dl", "inside-both")[0].all("dt")]
    assert terms == [f"This text, {counts[0]} tokens", f"The other text, {counts[1]} tokens"]
    assert page.all("ol", "inside-strip") and not page.all("table", "inside-heads")
    streamed = client.get(address(f"{PATH}/rows", prompt=TEXT, **fields))
    assert streamed.status_code == 422


@pytest.mark.parametrize(
    ("other", "marked"),
    [
        (OTHER, [["Ġcat"], ["Ġdog"]]),
        ("The old dog sat on the mat because it", [["Ġcat"], ["Ġold", "Ġdog"]]),
        ("The cat sat on the mat because it was", [[], ["Ġwas"]]),
        ("The The cat sat on the mat because it", [[], ["ĠThe"]]),
        ("sad", [["The", "Ġcat", "Ġsat", "Ġon", "Ġthe", "Ġmat", "Ġbecause", "Ġit"], ["s", "ad"]]),
    ],
)
def test_the_tokens_that_differ_are_marked_in_both_texts(client, other, marked):
    page = parse(client.get(address(PATH, prompt=TEXT, other=other)).text)
    texts = page.all("dl", "inside-both")[0].all("dd")
    assert [[mark.text for mark in text.all("mark")] for text in texts] == marked


def with_first_word(demo, word: str, text: int | str) -> str:
    """``text``, or one of so many tokens, with this first word."""
    if isinstance(text, str):
        return f"{word}.{text}".replace("\r\n", "\n")  # as fields of a form are read
    rest = demo.encoder.encode(" sat on the mat with a cat and a dog." * 8)[: text - 1]
    return word + demo.encoder.decode(rest)


@pytest.mark.parametrize("text", [1, 2, 12, 64, *ODD_TEXTS])
def test_every_view_is_small_and_labels_every_token(client, demo, text):
    here, there = (with_first_word(demo, word, text) for word in ("cat", "dog"))
    ids, other_ids = demo.encoder.encode(here), demo.encoder.encode(there)
    assert len(ids) == len(other_ids) and ids[1:] == other_ids[1:]
    answer = client.get(address(PATH, prompt=here, other=there, at=min(16, len(ids))))
    assert answer.status_code == 200 and len(answer.data) <= MAX_BYTES
    assert "style=" not in answer.text and "data:" not in answer.text
    page = parse(answer.text)
    (strip,) = page.all("ol", "inside-strip")
    (head,) = page.all("table", "inside-heads")[0].all("thead")
    pieces = [piece.text for piece in head.all(class_="piece")]
    shown = [piece.text for piece in strip.all(class_="piece")]
    assert pieces[1:] == shown[1 : len(pieces)] and pieces[0] == "dog"


def layers_of(page) -> list[int]:
    return [int(row[0]) for row in grid(page)]


def test_a_grid_that_would_take_too_long_has_fewer_layers_and_says_so(client, monkeypatch):
    monkeypatch.setattr(patching, "MAX_SWEEP_SECONDS", 3)
    monkeypatch.setattr(patching, "grid_seconds", lambda *args: len(args[-1]))
    page = open_page(client, PATH, **PAIR, carry="2.2")
    assert layers_of(page) == [0, 3, 5]
    assert "Drawn are 3 of 6 layers" in page.words and "3 are left out" in page.words
    assert "Before layer 2" in page.id("inside-carried").words


def test_a_grid_whose_two_layers_take_too_long_is_refused_with_both_numbers(client, monkeypatch):
    monkeypatch.setattr(patching, "MAX_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(patching, "grid_seconds", lambda *_: 1234.0)
    answer = client.get(address(PATH, **PAIR))
    assert answer.status_code == 422
    message = parse(answer.text).id("error-other").words
    assert "1,234 seconds" in message and "at most 0.01" in message


def test_tokens_before_the_first_difference_have_no_column(client, both):
    assert np.array_equal(both[0].residual[3][0], both[1].residual[3][0])
    page = open_page(client, PATH, **PAIR)
    heads = page.all("table", "inside-heads")[0].all("th", scope="col")
    assert [h.attributes.get("data-at") for h in heads] == [None, *map(str, range(2, 9))]
