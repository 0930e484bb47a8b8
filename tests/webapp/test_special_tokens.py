"""Special tokens in a prompt: asked for by form, JSON and link, or by the model's folder."""

import io
import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from gpt2core.settings import Settings
from tests.helpers.model_folders import SHAPE, change, write_model
from tests.helpers.tokenizer_folders import END, N
from tests.helpers.web import HTMX, JSON, parse
from webapp import create_app
from webapp.snippets import as_command, as_python

TEXT = "Hi there<|endoftext|>"
IDS, AS_CHARACTERS = [17250, 612, 50256], 9
CHAT = "<|user|>Hello<|bot|>"


def app_of(directory):
    """The app with the model in ``directory``, loaded or failed."""
    app = create_app(Settings(model=str(directory)))
    model_server = app.extensions["model_server"]
    model_server.start()
    model_server.wait_until_loaded(timeout=60)
    return app


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A client of the page with a model that adds ``<|user|>``, ``<|bot|>`` and ``für``."""
    directory = tmp_path_factory.mktemp("models") / "chat"
    return app_of(write_model(directory, "added_json", replace(SHAPE, n_vocab=N + 3))).test_client()


def tokenized(client, **fields) -> list[int]:
    answer = client.post("/tokenize", json=fields, headers=JSON).get_json()
    return [token["id"] for token in answer["tokens"]]


def checkbox(client, address="/"):
    """The control on the page."""
    page = parse(client.get(address).text)
    return next(e for e in page if e.attributes.get("type") == "checkbox")


def test_a5_json_asks_for_special_tokens(client):
    assert len(tokenized(client, prompt=TEXT)) == AS_CHARACTERS
    assert tokenized(client, prompt=TEXT, special_tokens=True) == IDS
    fields = {"prompt": TEXT, "n_tokens": 1, "special_tokens": True}
    answer = client.post("/generate", json=fields, headers=JSON).get_json()
    assert answer["prompt_tokens"] == 3


def test_a5_the_forms_checkbox_asks_for_special_tokens(client):
    for values, n in ((["0"], AS_CHARACTERS), (["0", "1"], 3)):
        form = {"prompt": TEXT, "special_tokens": values}
        answer = client.post("/tokenize", data=form, headers=HTMX)
        chips = [e for e in parse(answer.text) if "data-id" in e.attributes]
        assert len(chips) == n
    assert chips[-1].attributes["data-id"] == "50256" and "end of text" in chips[-1].words


@pytest.mark.parametrize(("query", "checked"), [("", False), ("1", True), ("0", False)])
def test_a_link_has_the_checkbox_as_its_sender_had_it(client, query, checked):
    assert ("checked" in checkbox(client, f"/?special_tokens={query}").attributes) == checked


def test_a4_a_folder_that_adds_tokens_has_them_read_unless_a_request_says_otherwise(chat):
    assert tokenized(chat, prompt=CHAT)[0::4] == [N, N + 1]
    assert len(tokenized(chat, prompt=CHAT, special_tokens=False)) == 10
    assert "checked" in checkbox(chat).attributes
    assert "checked" not in checkbox(chat, "/?special_tokens=0").attributes
    assert "adds tokens of its own" in chat.get("/").text


def test_an_added_token_is_a_chip_that_says_what_it_is(chat):
    answer = chat.post("/tokenize", data={"prompt": f"{CHAT} für"}, headers=HTMX)
    chips = [e for e in parse(answer.text) if "data-id" in e.attributes]
    notes = {chip.attributes["data-id"]: chip.words for chip in chips}
    assert "special token" in notes[str(N)] and "added token" in notes[str(N + 2)]
    assert "für" in notes[str(N + 2)] and "Ã" not in notes[str(N + 2)]


def test_the_explanation_of_bpe_shows_added_tokens_as_they_are(chat):
    page = chat.get("/bpe", query_string={"text": f"{CHAT} für owl"})
    assert page.status_code == 200 and "A token of its own" in page.text
    figures = {e.words for e in parse(page.text) if e.tag == "li" and "characters" in e.words}
    assert "28 characters" in figures


def test_files_hold_the_same_tokens_as_the_page(chat, client):
    for asked, n in ((None, 5), ("0", 10)):
        fields = {"prompt": CHAT} | ({} if asked is None else {"special_tokens": asked})
        rows = json.loads(chat.get("/tokens.json", query_string=fields).text)["tokens"]
        assert len(rows) == n
        assert [row["text"] for row in rows if row["text"]] and rows[0]["start"] == 0
    rows = client.get("/tokens.json", query_string={"prompt": TEXT, "special_tokens": "1"})
    assert [row["id"] for row in json.loads(rows.text)["tokens"]] == IDS


def test_links_and_snippets_repeat_what_was_asked_for_and_leave_out_the_default(client, chat):
    for who, asked, expected in (
        (client, "1", ["special_tokens=1", "--special_tokens", "special_tokens=True"]),
        # The folder of a test is no name elsewhere, so there is no command line for it.
        (chat, "0", ["special_tokens=0", "&#34;special_tokens&#34;: false"]),
        (client, "0", []),
        (chat, "1", []),
    ):
        form = {"prompt": "Hello there", "n_tokens": "1", "special_tokens": asked}
        page = who.post("/generate", data=form).text
        for word in expected:
            assert word in page
        assert expected or ("special_tokens=" not in page and "special_tokens " not in page)


def test_a_command_line_and_a_program_can_leave_special_tokens_unread():
    fields = {"prompt": "a", "n_tokens": 1, "temperature": 1, "top_k": 0, "top_p": 1, "seed": 1}
    fields["special_tokens"] = 0
    assert "--no-special_tokens" in as_command(fields, "demo")
    assert "special_tokens=False" in as_python(fields, "demo")


@pytest.mark.parametrize("value", ["2", "yes", 7, [1]])
def test_another_value_is_a_422_that_names_the_field(client, value):
    answer = client.post("/generate", json={"prompt": "a", "special_tokens": value}, headers=JSON)
    assert answer.status_code == 422
    assert answer.get_json()["error"]["field"] == "special_tokens"


def test_a13_a_token_without_a_row_is_refused_in_a_prompt(tmp_path):
    client = app_of(write_model(tmp_path, "pad_config")).test_client()
    answer = client.post("/generate", json={"prompt": "Hi[PAD]", "n_tokens": 1}, headers=JSON)
    assert answer.status_code == 422
    assert f"Token id {N} is not" in answer.get_json()["error"]["message"]
    fields = {"prompt": "Hi[PAD]", "n_tokens": 1, "special_tokens": False}
    assert client.post("/generate", json=fields, headers=JSON).status_code == 200


@pytest.mark.parametrize("kept", [N, N + 4])
def test_a13_an_id_that_is_no_token_cannot_be_kept(tmp_path, kept):
    shape = replace(SHAPE, n_vocab=N + 6)
    client = app_of(write_model(tmp_path, "gap_json", shape)).test_client()
    answer = client.post("/generate", json={"prompt": "Hi", "kept": [kept]}, headers=JSON)
    assert answer.status_code == 422 and "no token's" in answer.get_json()["error"]["message"]


def test_a7_the_page_names_the_token_that_ended_a_text(tmp_path):
    write_model(tmp_path, "added_json", replace(SHAPE, n_vocab=N + 3))
    # Whatever this model says first ends its text.
    first = (
        app_of(tmp_path)
        .test_client()
        .post("/generate", json={"prompt": "Hi", "n_tokens": 1, "temperature": 0}, headers=JSON)
    )
    token = first.get_json()["tokens"][0]
    change(tmp_path, "generation_config.json", eos_token_id=[END, token["id"]])
    client = app_of(tmp_path).test_client()
    fields = {"prompt": "Hi", "n_tokens": 9, "temperature": 0}
    answer = client.post("/generate", json=fields, headers=JSON).get_json()
    assert answer["finish_reason"] == "endoftext" and answer["text"] == ""
    assert [one["id"] for one in answer["tokens"]] == [token["id"]]
    page = parse(client.post("/generate", data=fields).text)
    (done,) = (e for e in page if "data-finish-reason" in e.attributes)
    assert f"the last of them, {token['piece']}, ends the text" in done.words


def test_a_refused_folder_is_described_on_the_page(tmp_path):
    client = app_of(write_model(tmp_path, "lowercase")).test_client()
    page = parse(client.get("/").text)
    (model,) = (e for e in page if e.attributes.get("id") == "model")
    assert "normalizer is 'Lowercase'" in model.words
    assert "n_vocab 3,257" in model.words and "the folder is refused" in model.words
    assert "cut as GPT-2 cuts them" in model.words
    answer = client.post("/generate", json={"prompt": "Hi"}, headers=JSON)
    assert answer.status_code == 503 and "normalizer" in answer.get_json()["error"]["message"]
    # Ids of another tokenizer would be silently wrong.
    for address in ("/tokenize", "/tokens.json"):
        answer = client.post(address, json={"prompt": "Not"}, headers=JSON)
        assert answer.status_code == 503, address


def test_a5_a_folder_as_dialogpts_holds_a_dialogue_on_the_page(tmp_path):
    write_model(tmp_path, "dialogue_config")
    client, prompt = app_of(tmp_path).test_client(), ""
    for line in ("Hi there", "Not all, owls"):
        prompt += f"{line}<|endoftext|>"
        form = {"prompt": prompt, "n_tokens": "5", "seed": "1", "special_tokens": ["0", "1"]}
        page = parse(client.post("/generate", data=form).text)
        ids = page.id("strip").ids()
        assert ids.count(END) >= prompt.count("<|endoftext|>")
        prompt_ids = tokenized(client, prompt=prompt, special_tokens=True)
        assert ids[: len(prompt_ids)] == prompt_ids and len(ids) == len(prompt_ids) + 5
        fields = {**form, "special_tokens": True}
        answer = client.post("/generate", json=fields, headers=JSON).get_json()
        assert ids[len(prompt_ids) :] == [token["id"] for token in answer["tokens"]]
        prompt += f"{answer['text']}<|endoftext|>"


def inside_links(client, text: str, **form) -> list[str]:
    """The addresses of the inside views under a prompt's tokens."""
    page = parse(client.post("/tokenize", data={"prompt": text, **form}, headers=HTMX).text)
    hrefs = [e.attributes["href"] for e in page.all("a")]
    return [href for href in hrefs if href.startswith("/inside")]


def inside_ids(client, address: str) -> list[int]:
    """The ids of the text of an inside view, by its JSON."""
    path, _, query = address.partition("?")
    answer = client.get(f"/inside.json?{query}")
    assert answer.status_code == 200
    return [token["id"] for token in answer.get_json()["tokens"]]


@pytest.mark.parametrize("asked", ["0", "1"])
@pytest.mark.parametrize("who", ["client", "chat"])
def test_the_inside_views_read_special_tokens_as_the_strip_does(who, asked, request):
    client, text = request.getfixturevalue(who), {"client": TEXT, "chat": CHAT}[who]
    expected = tokenized(client, prompt=text, special_tokens=asked == "1")
    (link,) = inside_links(client, text, special_tokens=asked)
    is_default = (who == "chat") == (asked == "1")
    assert ("special_tokens=" not in link) == is_default and "kept=" not in link
    assert inside_ids(client, link) == expected

    page = parse(client.get(link).text)
    (box,) = (e for e in page if e.attributes.get("type") == "checkbox")
    assert ("checked" in box.attributes) == (asked == "1") and "hx-post" not in box.attributes
    queries = [parse_qs(urlsplit(e.attributes["href"]).query) for e in page.all("a")]
    own = [query for query in queries if query.get("prompt") == [text]]
    assert len(own) > 20 and all(("special_tokens" in query) != is_default for query in own)

    fields = {"prompt": text, "special_tokens": asked}
    with np.load(io.BytesIO(client.get("/inside.npz", query_string=fields).data)) as arrays:
        assert arrays["gpt2.inputs"].tolist() == expected
    table = client.get("/inside.csv", query_string=fields).text.splitlines()[1:]
    assert len(table) == len(expected) * (len(expected) + 1) // 2
    for number in range(1, 5):  # those that know of the text
        assert client.get(f"/inside/{number}", query_string=fields).status_code == 200


def test_the_form_of_the_inside_views_asks_for_special_tokens(client):
    for values, n in ((["0"], AS_CHARACTERS), (["0", "1"], len(IDS))):
        answer = client.post("/inside", data={"prompt": TEXT, "special_tokens": values})
        assert answer.status_code == 303
        assert len(inside_ids(client, answer.headers["Location"])) == n


def test_a_long_text_keeps_its_special_tokens_in_the_inside_views(client):
    text = "-" * 1600 + TEXT  # too long for the links of a view: its ids stand there
    expected = tokenized(client, prompt=text, special_tokens=True)
    (link,) = inside_links(client, text, special_tokens="1")
    assert inside_ids(client, link) == expected
    page = parse(client.get(link).text)
    (own,) = (e for e in page.all("a") if e.attributes.get("rel") == "bookmark")
    query = parse_qs(urlsplit(own.attributes["href"]).query)
    assert "prompt" not in query and query["special_tokens"] == ["1"]
    assert inside_ids(client, own.attributes["href"]) == expected
    assert "<|endoftext|>" in parse(client.get(own.attributes["href"]).text).id("inside-text").words


def test_programs_of_the_inside_views_read_special_tokens_as_the_view_does(client):
    fields = {"prompt": TEXT, "special_tokens": "1"}
    page = client.get("/inside/4", query_string=fields).text
    assert "special_tokens=True" in page
    assert "special_tokens=" not in client.get("/inside/4", query_string={"prompt": "Hi"}).text


def test_the_inside_views_refuse_another_reading_than_yes_and_no(client):
    answer = client.get("/inside", query_string={"prompt": TEXT, "special_tokens": "7"})
    assert answer.status_code == 422 and "The field special_tokens is" in answer.text


@pytest.mark.parametrize("kind", ["prefix_two", "bos_config", "strips"])
def test_the_inside_views_take_a_text_whose_tokens_are_not_its_bytes(tmp_path, kind):
    n_added = 3 if kind == "strips" else 0
    client = app_of(write_model(tmp_path, kind, replace(SHAPE, n_vocab=N + n_added))).test_client()
    for address in ("/", "/inside", "/bpe"):
        answer = client.get(address, query_string={"prompt": "Not <mask> all", "text": "a [X] b"})
        assert answer.status_code == 200
    for number in range(1, 14):
        answer = client.get(f"/inside/{number}", query_string={"prompt": "Not <mask> all"})
        assert answer.status_code == 200 and "does not hold" not in answer.text
