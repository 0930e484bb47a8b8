"""GET and POST /tokens.json and /tokens.csv: the file holds the tokens that the page shows."""

import csv
import io
import json
from urllib.parse import quote

import pytest
from hypothesis import given

from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.texts import TRICKY_TEXT
from tests.helpers.web import HEROES, HEROES_IDS, JSON, ROBOT, parse
from webapp.routes.export import COLUMNS, to_csv, token_rows

FIELDS = {"n_tokens": 6, "temperature": "0.9", "top_k": 50, "top_p": "0.95", "seed": 1234}


def test_json_and_csv_hold_the_tokens_of_a_prompt(client, encoder):
    answer = client.get("/tokens.json", query_string={"prompt": HEROES})
    assert answer.mimetype == "application/json"
    whole = json.loads(answer.text)
    assert (whole["model"], whole["prompt"]) == ("demo", HEROES)
    assert [token["id"] for token in whole["tokens"]] == HEROES_IDS
    assert whole["tokens"][1] == {
        "index": 1, "id": 477, "piece": "Ġall", "bytes": "20616c6c", "text": " all",
        "start": 3, "end": 7, "logprob": None,
    }  # fmt: skip
    table = client.get("/tokens.csv", query_string={"prompt": HEROES})
    assert table.mimetype == "text/csv"
    assert table.text.splitlines()[:3] == [
        ",".join(COLUMNS), "0,3673,Not,4e6f74,Not,0,3,", "1,477,Ġall,20616c6c, all,3,7,",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_the_response_is_a_file_to_save(kind, client):
    answer = client.get(f"/tokens.{kind}?prompt=a")
    assert answer.headers["Content-Disposition"] == f"attachment; filename=glyph-tokens.{kind}"


def test_there_is_no_other_format(client):
    assert client.get("/tokens.xml?prompt=a").status_code == 404


def test_the_page_sends_what_it_shows(client):
    form = {"prompt": f"café {ROBOT}", **FIELDS}
    page = parse(client.post("/generate", data=form).text)
    (download,) = page.all("form", class_="download")
    sent = {e.attributes["name"]: e.attributes["value"] for e in download.all("input")}
    whole = json.loads(client.post(download.attributes["action"], data=sent).text)
    made = client.post("/generate", data=form, headers=JSON).json
    shown = page.id("strip").ids()
    assert [token["id"] for token in whole["tokens"]] == shown
    assert [token["id"] for token in made["tokens"]] == shown[made["prompt_tokens"] :]
    logprobs = [token["logprob"] for token in whole["tokens"]]
    assert logprobs[: made["prompt_tokens"]] == [None] * made["prompt_tokens"]
    assert logprobs[made["prompt_tokens"] :] == [token["logprob"] for token in made["tokens"]]


def test_tokens_that_are_part_of_a_character_have_bytes_and_no_text(encoder):
    rows = token_rows(encoder, ROBOT, encoder.encode(ROBOT), [None] * 3)
    assert [row["text"] for row in rows] == [None] * 6
    assert [(row["start"], row["end"]) for row in rows] == [(0, 1)] * 3 + [(1, 2)] * 3
    assert bytes.fromhex("".join(row["bytes"] for row in rows)).decode() == 2 * ROBOT


def test_the_end_of_a_text_has_no_text(encoder):
    the, end = token_rows(encoder, "In", [262, 50256], [None, -0.5])[1:]
    assert (the["text"], the["start"], the["end"]) == (" the", 2, 6)
    assert (end["text"], end["start"], end["end"], end["logprob"]) == (None, 6, 6, -0.5)


@given(TRICKY_TEXT)
def test_a_table_read_again_gives_the_text(text):
    encoder = default_encoder()
    rows = token_rows(encoder, text, [], [])
    read = list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))
    assert bytes.fromhex("".join(row["bytes"] for row in read)).decode() == text
    assert [int(row["id"]) for row in read] == encoder.encode(text)
    for row in read:
        if row["text"]:
            assert row["text"].encode().hex() == row["bytes"]


def test_no_token_is_a_formula(encoder):
    # What begins like one holds no letter and no digit: nothing to call or refer to.
    for id in range(encoder.n_vocab):
        text = encoder.token_bytes(id).decode(errors="replace")
        if text[0] in "=+-@":
            assert not any(char.isalnum() for char in text), text


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("prompt=a&kept=x", "ids"),
        ("prompt=a&kept=99999999", "50256"),
        ("prompt=a&kept=262&logprobs=nan", "finite"),
        ("prompt=a&kept=262&logprobs=much", "numbers"),
        ("prompt=a&kept=262&logprobs=-1,-2", "2 log-probabilities for 1 kept"),
        ("prompt=a&logprobs=-1", "1 log-probabilities for 0 kept"),
        ("prompt_json={", "prompt as JSON"),
        ("prompt_json=1", "must be text"),
        ("prompt=" + quote("x" * 100_001), "100,000"),
    ],
)
def test_invalid_fields_are_reported(query, complaint, client):
    answer = client.get(f"/tokens.json?{query}", headers=JSON)
    assert answer.status_code == 422
    assert complaint in answer.json["error"]["message"]
    assert complaint in parse(client.get(f"/tokens.csv?{query}").text).words
