"""POST /tokenize and POST /generate, without a socket: three kinds of answer, one truth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web import HEROES, HEROES_IDS, HEROES_PIECES, HTMX, JSON, ROBOT, messages, parse, shown


def generate_json(client, **fields) -> dict:
    answer = client.post("/generate", data=fields, headers=JSON)
    assert answer.status_code == 200, answer.text
    return answer.json


def stream(client, **fields):
    answer = client.post("/generate", data=fields, headers=HTMX)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/event-stream"
    return shown(messages(answer.text.split("\n")[:-1]))


class TestTokenize:
    def test_json_has_each_token_with_its_bytes_and_place(self, client):
        answer = client.post("/tokenize", json={"prompt": HEROES}, headers=JSON).json
        assert answer["n_tokens"] == 7
        assert [token["id"] for token in answer["tokens"]] == HEROES_IDS
        assert [token["piece"] for token in answer["tokens"]] == HEROES_PIECES
        first = answer["tokens"][0]
        assert (first["bytes"], first["start"], first["end"]) == ("4e6f74", 0, 3)
        assert "".join(HEROES[t["start"] : t["end"]] for t in answer["tokens"]) == HEROES

    def test_tokens_of_one_character_all_point_at_it(self, client):
        tokens = client.post("/tokenize", data={"prompt": f"a{ROBOT}"}, headers=JSON).json["tokens"]
        assert len(tokens) > 2
        assert {(token["start"], token["end"]) for token in tokens[1:]} == {(1, 2)}
        assert "".join(token["bytes"] for token in tokens) == f"a{ROBOT}".encode().hex()

    def test_htmx_gets_the_strip_and_the_counts(self, client):
        page = parse(client.post("/tokenize", data={"prompt": HEROES}, headers=HTMX).text)
        assert page.id("prompt-strip").ids() == HEROES_IDS
        assert page.id("prompt-strip").pieces() == HEROES_PIECES
        assert "7 tokens" in page.id("counts").words

    def test_nothing_typed_is_no_error(self, client):
        assert client.post("/tokenize", data={"prompt": ""}, headers=JSON).json["n_tokens"] == 0
        assert client.post("/tokenize", data={}, headers=HTMX).status_code == 200

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    def test_the_bytes_of_the_tokens_are_the_text(self, app, text):
        answer = app.test_client().post("/tokenize", json={"prompt": text}, headers=JSON).json
        joined = bytes.fromhex("".join(token["bytes"] for token in answer["tokens"]))
        assert joined.decode() == text
        covered = {i for t in answer["tokens"] for i in range(t["start"], t["end"])}
        assert covered == set(range(len(text)))

    def test_long_texts_are_counted_whole_and_drawn_in_part(self, client):
        answer = client.post("/tokenize", data={"prompt": " a" * 20_000}, headers=HTMX)
        page = parse(answer.text)
        assert "20,000 tokens" in page.id("counts").words
        assert len(page.id("prompt-strip").ids()) < 5_000


class TestGenerate:
    FIELDS = {"prompt": HEROES, "n_tokens": 12, "temperature": 1, "top_k": 0, "seed": 42}

    def test_the_three_answers_tell_the_same_tokens(self, client):
        answer = generate_json(client, **self.FIELDS)
        made = [token["id"] for token in answer["tokens"]]
        streamed = stream(client, **self.FIELDS)
        page = parse(client.post("/generate", data=self.FIELDS).text)
        assert streamed.chips() == page.id("strip").ids() == HEROES_IDS + made
        assert streamed.text("continuation") == page.id("continuation").text == answer["text"]
        assert page.id("text").text == HEROES + answer["text"]

    def test_a_seed_makes_a_text_repeatable(self, client):
        texts = {generate_json(client, **self.FIELDS)["text"] for _ in range(3)}
        assert len(texts) == 1
        others = {generate_json(client, **{**self.FIELDS, "seed": n})["text"] for n in range(6)}
        assert len(others) > 1

    def test_a_seed_that_was_drawn_is_told_and_gives_the_text_again(self, client):
        fields = {**self.FIELDS, "seed": ""}
        first = generate_json(client, **fields)
        assert generate_json(client, **{**fields, "seed": first["seed"]})["text"] == first["text"]

    def test_temperature_zero_takes_the_likeliest_whatever_the_seed(self, client):
        fields = {**self.FIELDS, "temperature": 0}
        texts = {generate_json(client, **{**fields, "seed": n})["text"] for n in range(4)}
        assert len(texts) == 1
        again = {**fields, "temperature": 1, "top_k": 1}
        assert generate_json(client, **again)["text"] == texts.pop()

    def test_the_number_of_tokens_is_honoured(self, client):
        for n in (1, 2, 7):
            answer = generate_json(client, **{**self.FIELDS, "n_tokens": n})
            assert len(answer["tokens"]) == n or answer["finish_reason"] == "endoftext"

    def test_a_full_context_is_said_in_words(self, client):
        fields = {**self.FIELDS, "prompt": "a" + " a" * 252, "n_tokens": 50}
        answer = generate_json(client, **fields)
        assert answer["finish_reason"] in ("context", "endoftext")
        assert len(answer["tokens"]) <= 3
        if answer["finish_reason"] == "context":
            assert "context" in stream(client, **fields).words("status")

    def test_the_stream_speaks_of_its_progress(self, client):
        page = stream(client, **{**self.FIELDS, "n_tokens": 5})
        assert "5" in page.words("progress")
        assert page.words("status").startswith("Done")

    def test_script_and_fetch_libraries_get_json(self, client):
        for accept in ("application/json", "application/json, text/plain, */*"):
            answer = client.post("/generate", data=self.FIELDS, headers={"Accept": accept})
            assert answer.is_json

    def test_one_address_with_several_answers_is_told_to_caches(self, client):
        vary = client.post("/generate", data=self.FIELDS, headers=JSON).headers["Vary"]
        assert "Accept" in vary and "HX-Request" in vary

    def test_line_ends_of_a_form_without_javascript_are_what_was_typed(self, client):
        fields = {**self.FIELDS, "prompt": "two\r\nlines", "n_tokens": 1}
        page = parse(client.post("/generate", data=fields).text)
        assert page.id("strip").pieces()[:3] == ["two", "Ċ", "lines"]

    def test_line_ends_of_a_script_are_what_it_sent(self, client):
        fields = {**self.FIELDS, "prompt": "two\r\nlines", "n_tokens": 1}
        answer = client.post("/generate", json=fields, headers=JSON).json
        assert answer["prompt"] == "two\r\nlines"
        assert answer["prompt_tokens"] == 4

    def test_endoftext_typed_by_a_person_is_ordinary_text(self, client):
        fields = {**self.FIELDS, "prompt": "<|endoftext|>", "n_tokens": 1}
        assert generate_json(client, **fields)["prompt_tokens"] > 1

    @pytest.mark.parametrize("prompt", ["\n\t<b>&\"'</span></hx-partial>", "<hx-partial>x", " \n "])
    def test_markup_in_a_prompt_stays_text(self, client, prompt):
        fields = {**self.FIELDS, "prompt": prompt, "n_tokens": 1}
        page = stream(client, **fields)  # which checks that every tag is closed in order
        assert page.text("text").startswith(prompt) or page.text("prompt-text") == prompt
        whole = parse(client.post("/generate", data=fields).text)
        assert whole.id("prompt-text").text == prompt
