"""POST /tokenize and POST /generate, without a socket: three kinds of response, the same tokens."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core import gpt2
from gpt2core.engine.events import Failed, Generation, Unavailable
from gpt2core.engine.scheduler import Scheduler
from gpt2core.engine.sequence import GeneratedToken, GenerationOptions
from gpt2core.sampling import SamplingParams, log_softmax
from tests.helpers.small_models import TOLERANCE
from tests.helpers.web import (
    HEROES,
    HEROES_IDS,
    HEROES_PIECES,
    HTMX,
    JSON,
    ROBOT,
    messages,
    parse,
    shown,
    textarea_value,
)
from webapp.forms import LABELS, GenerationRequest, stop_lines
from webapp.routes import stream as routes
from webapp.token_messages import TokenMessages


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

    def test_an_empty_text_is_no_error(self, client):
        assert client.post("/tokenize", data={"prompt": ""}, headers=JSON).json["n_tokens"] == 0
        empty = {"data": "", "content_type": "application/x-www-form-urlencoded"}
        assert client.post("/tokenize", **empty, headers=HTMX).status_code == 200

    @pytest.mark.parametrize("path", ["/tokenize", "/generate", "/next", "/score"])
    def test_a_request_without_a_body_is_refused(self, client, path):
        assert client.post(path, headers=JSON).status_code == 415

    def test_a_browser_without_scripts_gets_the_page_with_every_submitted_field(self, client):
        text = "two\r\nlines " + "é" * 9_000  # more than an address can hold
        fields = {"prompt": text, "n_tokens": "x", "seed": " 7", "kept": "262"}
        answer = client.post("/tokenize", data=fields)
        assert answer.status_code == 200
        assert answer.text.startswith("<!doctype html>")
        page = parse(answer.text)
        assert textarea_value(page.id("prompt")) == text.replace("\r\n", "\n")
        assert page.id("prompt-strip").pieces()[:3] == ["two", "Ċ", "lines"]
        assert [page.id(name).attributes["value"] for name in ("n_tokens", "seed")] == ["x", " 7"]
        assert page.all("input", name="kept")[0].attributes["value"] == "262"

    def test_a_button_without_scripts_posts_there(self, client):
        (noscript,) = parse(client.get("/").text).all("noscript")
        (button,) = noscript.all("button")
        assert button.attributes["formaction"] == "/tokenize"
        assert button.attributes.get("formmethod", "post") == "post"

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

    def test_the_three_kinds_of_response_have_the_same_tokens(self, client):
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

    def test_a_drawn_seed_is_reported_and_gives_the_text_again(self, client):
        fields = {**self.FIELDS, "seed": ""}
        first = generate_json(client, **fields)
        assert generate_json(client, **{**fields, "seed": first["seed"]})["text"] == first["text"]

    def test_a_page_keeps_the_field_seed_as_submitted(self, client):
        for typed in ("", " 7"):
            page = parse(client.post("/generate", data={**self.FIELDS, "seed": typed}).text)
            assert page.id("seed").attributes["value"] == typed
        assert "seed 7" in page.id("progress").words

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

    def test_the_stream_reports_its_progress(self, client):
        page = stream(client, **{**self.FIELDS, "n_tokens": 5})
        assert "seed" in page.words("progress")
        assert page.words("status").startswith("Done: 5 tokens")

    def test_script_and_fetch_libraries_get_json(self, client):
        for accept in ("application/json", "application/json, text/plain, */*"):
            answer = client.post("/generate", data=self.FIELDS, headers={"Accept": accept})
            assert answer.is_json

    def test_caches_are_told_that_one_address_has_several_responses(self, client):
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

    def test_endoftext_in_a_prompt_is_ordinary_text(self, client):
        fields = {**self.FIELDS, "prompt": "<|endoftext|>", "n_tokens": 1}
        assert generate_json(client, **fields)["prompt_tokens"] > 1

    @pytest.mark.parametrize("prompt", ["\n\t<b>&\"'</span></hx-partial>", "<hx-partial>x", " \n "])
    def test_markup_in_a_prompt_stays_text(self, client, prompt):
        fields = {**self.FIELDS, "prompt": prompt, "n_tokens": 1}
        page = stream(client, **fields)  # which checks that every tag is closed in order
        assert page.text("text").startswith(prompt) or page.text("prompt-text") == prompt
        whole = parse(client.post("/generate", data=fields).text)
        assert whole.id("prompt-text").text == prompt


class TestClientsThatSendJson:
    """They get JSON if they accept anything, as ``fetch`` and ``requests`` do."""

    @pytest.mark.parametrize("accept", [None, "*/*", "application/json, text/plain, */*"])
    @pytest.mark.parametrize("path", ["/tokenize", "/generate"])
    def test_an_answer_and_an_error_are_json(self, client, path, accept):
        headers = {"Accept": accept} if accept else {}
        fields = {"prompt": HEROES, **({"n_tokens": 1} if path == "/generate" else {})}
        answer = client.post(path, json=fields, headers=headers)
        assert answer.status_code == 200 and answer.json["tokens"]
        answer = client.post(path, json={"prompt": 5}, headers=headers)
        assert answer.status_code == 422 and answer.json["error"]["field"] == "prompt"
        answer = client.post(path, data="{", content_type="application/json", headers=headers)
        assert answer.status_code == 415 and answer.json["error"]

    @pytest.mark.parametrize("accept", ["text/html", "text/html, */*;q=0.8"])
    def test_unless_html_is_preferred(self, client, accept):
        for path, fields in (("/tokenize", {}), ("/generate", {"n_tokens": 1, "kept": [262]})):
            body = {"prompt": HEROES, **fields}
            page = parse(client.post(path, json=body, headers={"Accept": accept}).text)
            assert textarea_value(page.id("prompt")) == HEROES
            assert page.id("n_tokens").attributes["value"] == str(fields.get("n_tokens", 200))

    def test_a_form_that_accepts_anything_gets_the_page(self, client):
        fields = {"prompt": HEROES, "n_tokens": 1}
        answer = client.post("/generate", data=fields, headers={"Accept": "*/*"})
        assert answer.mimetype == "text/html"


class TestUnavailable:
    FIELDS = {"prompt": "two\r\nlines", "n_tokens": "12", "temperature": "0.5", "kept": "262"}

    @pytest.fixture
    def busy(self, app, monkeypatch):
        def submit(*args, **options):
            raise Unavailable("8 texts are being <written>.", retry_after=5)

        monkeypatch.setattr(Scheduler, "submit", submit)

    def test_the_page_has_the_reason_and_every_submitted_field(self, client, busy):
        answer = client.post("/generate", data=self.FIELDS)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        page = parse(answer.text)
        (problem,) = page.id("problem").all(class_="problem")
        assert problem.words == "8 texts are being <written>."
        assert textarea_value(page.id("prompt")) == "two\nlines"
        assert page.all("input", name="kept")[0].attributes["value"] == "262"
        values = {name: page.id(name).attributes["value"] for name in ("n_tokens", "temperature")}
        assert values == {"n_tokens": "12", "temperature": "0.5"}
        assert page.id("prompt-strip").ids()

    @pytest.mark.parametrize("headers", [HTMX, JSON])
    def test_other_clients_get_the_reason_alone(self, client, busy, headers):
        answer = client.post("/generate", data=self.FIELDS, headers=headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert not answer.text.startswith("<!doctype")


class TestStream:
    """What stream_messages makes of a generation's events, without a model."""

    REQUEST = GenerationRequest(HEROES, HEROES_IDS, [], 9, SamplingParams(seed=1))

    @pytest.fixture
    def tokens(self, app):
        with app.test_request_context():
            return TokenMessages(routes.new_view(self.REQUEST), app.jinja_env)

    @pytest.fixture
    def handle(self, tokens):
        options = GenerationOptions(prepare=tokens.add)
        return Generation(HEROES_IDS, 9, self.REQUEST.sampling, options)

    @pytest.fixture
    def answer(self, app, handle, tokens):
        """``answer(token_seconds)``: the messages, one after the other."""

        def answer(token_seconds=0.0):
            with app.test_request_context():
                yield from routes.stream_messages(self.REQUEST, handle, tokens, token_seconds)

        return answer

    def put(self, handle, *finish_reasons):
        """What the serving thread does with a token for each of these."""
        for reason in finish_reasons:
            token = GeneratedToken(13, -1.0, (), reason)
            handle.put(handle.described(SimpleNamespace(describe=lambda token=token: token)))

    def test_every_token_brings_its_text_its_chip_and_the_progress(self, handle, answer):
        self.put(handle, None, None, "length")
        _, *tokens, end = [
            {partial.attributes["hx-target"] for partial in parse(message).all("hx-partial")}
            for message in messages(b"".join(answer()).decode().split("\n")[:-1])
        ]
        assert (
            tokens
            == [{"#continuation", "#strip", "#progress", "#status:has(.waiting)"}]
            + [{"#continuation", "#strip", "#progress"}] * 2
        )
        assert "#status" in end

    @pytest.mark.parametrize("token_seconds", [0.0, 0.15])
    def test_tokens_are_as_far_apart_as_the_pace_says(
        self, handle, answer, monkeypatch, token_seconds
    ):
        now = [100.0]
        monkeypatch.setattr(routes.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(routes.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
        self.put(handle, None, None, None, "length")
        _, *tokens, _ = [now[0] for _ in answer(token_seconds)]
        assert tokens == pytest.approx([100 + n * token_seconds for n in range(4)])

    @pytest.mark.parametrize("reason", ["length", "endoftext", "context"])
    def test_a_finished_stream_ends_with_its_finish_reason_as_data(self, handle, answer, reason):
        self.put(handle, reason)
        *_, last = answer()
        (message,) = messages(last.decode().split("\n")[:-1])
        assert parse(message).all(**{"data-finish-reason": reason})

    def test_a_failed_stream_has_no_finish_reason(self, handle, answer):
        handle.put(Failed("it broke"))
        whole = b"".join(answer()).decode()
        assert "it broke" in whole
        assert "data-finish-reason" not in whole

    def test_a_stream_that_cannot_begin_cancels_the_generation(self, handle, answer, monkeypatch):
        monkeypatch.setattr(routes, "new_view", lambda request: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(answer())
        assert handle.cancelled

    def test_tokens_after_a_stop_string_do_not_count(self, app):
        request = replace(self.REQUEST, stop=("..",))
        with app.test_request_context():
            tokens = TokenMessages(routes.new_view(request), app.jinja_env)
        handle = Generation(HEROES_IDS, 9, request.sampling, GenerationOptions(prepare=tokens.add))
        self.put(handle, *[None] * 4)  # the engine is ahead of what is sent
        with app.test_request_context():
            *_, last = routes.stream_messages(request, handle, tokens, 0.0)
        assert "Done: 0 tokens" in last.decode()
        assert handle.end_reason == "stop"
        assert tokens.view.continuation.n_added == 2  # its speed is that of the text


class TestRegenerate:
    """The button of a finished text: another seed, the same prompt and kept tokens."""

    QUOTE = 1  # the id of ", which was taken for the flag "1"

    def press(self, client, page):
        """The page after pressing Regenerate, as a browser without scripts submits the form."""
        (button,) = [b for b in page.id("after").all("button") if b.text == "Regenerate"]
        names = ("n_tokens", "temperature", "top_k", "top_p", "seed")
        fields = {name: page.id(name).attributes["value"] for name in names}
        fields["prompt"] = textarea_value(page.id("prompt"))
        fields[button.attributes["name"]] = button.attributes["value"]
        address = button.attributes.get("formaction", "/generate")
        return parse(client.post(address, data=fields).text)

    @pytest.mark.parametrize("kept", [[], [QUOTE], [2], [QUOTE, 262], [262, 749]])
    def test_the_chosen_first_tokens_stay(self, client, kept):
        fields = {"prompt": HEROES, "n_tokens": 2, "kept": ",".join(map(str, kept))}
        page = parse(client.post("/generate", data=fields).text)
        again = self.press(client, page)
        for state in (page, again):
            assert state.id("strip").ids()[: 7 + len(kept)] == HEROES_IDS + kept
            # Nothing else is kept: neither a generated token nor a flag read as an id.
            (button,) = [b for b in state.id("after").all("button") if b.text == "Regenerate"]
            assert button.attributes["value"] == ",".join(map(str, kept))

    def test_the_seed_is_another_one_and_the_field_is_empty(self, client):
        page = parse(client.post("/generate", data={"prompt": HEROES, "seed": "5"}).text)
        again = self.press(client, page)
        assert again.id("seed").attributes["value"] == ""
        assert not again.id("progress").words.endswith("seed 5")

    @pytest.mark.parametrize("flag", ["1", True])
    def test_the_flag_can_be_a_field_of_json(self, client, flag):
        fields = {"prompt": HEROES, "kept": [self.QUOTE], "n_tokens": 1, "seed": 7}
        answer = client.post("/generate", json={**fields, "regenerate": flag}).json
        assert answer["seed"] != 7  # a fresh one, but for one chance in 4 thousand million


class TestStop:
    FIELDS = {"prompt": HEROES, "n_tokens": 40, "seed": 5, "temperature": 1, "top_k": 0}

    @pytest.fixture
    def stop(self, client) -> str:
        """A string in the middle of what is written without stop strings."""
        text = generate_json(client, **self.FIELDS)["text"]
        return text[len(text) // 2 :][:3]

    def test_the_three_kinds_of_response_end_before_the_stop_string(self, client, stop):
        whole = generate_json(client, **self.FIELDS)["text"]
        fields = {**self.FIELDS, "stop": stop_lines([stop])}
        answer = generate_json(client, **fields)
        assert answer["text"] == whole[: whole.index(stop)]
        assert answer["finish_reason"] == "stop"
        streamed = stream(client, **fields)
        page = parse(client.post("/generate", data=fields).text)
        assert streamed.text("continuation") == page.id("continuation").text == answer["text"]
        ids = HEROES_IDS + [token["id"] for token in answer["tokens"]]
        assert streamed.chips() == page.id("strip").ids() == ids
        assert streamed.words("status") == page.id("status").words
        assert "a text to stop at" in page.id("status").words

    @pytest.mark.parametrize("spelled", [str, lambda stop: [stop]])
    def test_in_json_it_is_a_string_or_a_list(self, client, stop, spelled):
        answer = client.post("/generate", json={**self.FIELDS, "stop": spelled(stop)}, headers=JSON)
        assert answer.json["finish_reason"] == "stop"
        assert stop not in answer.json["text"]

    def test_a_text_that_stops_at_once_is_empty(self, client):
        first = generate_json(client, **self.FIELDS)["text"][:1]
        fields = {**self.FIELDS, "stop": stop_lines([first])}
        assert generate_json(client, **fields)["text"] == ""
        assert stream(client, **fields).words("status").startswith("Done: 0 tokens")
        page = parse(client.post("/generate", data=fields).text)
        assert page.id("status").words.startswith("Done: 0 tokens")
        # What comes next is shown whatever the text is to stop at.
        assert parse(client.post("/next", data=fields).text).all(class_="candidate")

    def test_a_link_fills_the_field_and_an_error_stands_beside_it(self, client):
        page = parse(client.get("/", query_string={"stop": "\\n\n."}).text)
        assert textarea_value(page.id("stops")) == "\\n\n."
        answer = client.post("/generate", data={**self.FIELDS, "stop": "1\n2\n3\n4\n5"})
        assert answer.status_code == 422
        assert "at most 4" in parse(answer.text).id("error-stop").text


class TestPace:
    FIELDS = {"prompt": HEROES, "n_tokens": "4", "seed": "5", "temperature": "1"}

    def stream(self, client, **fields) -> str:
        answer = client.post("/generate", data={**self.FIELDS, **fields}, headers=HTMX)
        assert answer.status_code == 200, answer.text
        return answer.text

    def test_a_step_is_one_token(self, client):
        assert "Done: 1 token written." in self.stream(client, pace="step")
        assert "Done: 4 tokens," in self.stream(client, pace="full")

    def test_steps_give_the_tokens_of_one_generation(self, client):
        whole = client.post("/generate", json={**self.FIELDS, "temperature": 2}).json["tokens"]
        ids = []
        for _ in whole:
            kept = ",".join(map(str, ids))
            answer = self.stream(client, pace="step", temperature="2", kept=kept)
            assert "seed 5" in answer
            ids.append(int(re.findall(r'data-id="(\d+)"', answer)[-1]))
        assert ids == [token["id"] for token in whole]

    def test_a_text_that_is_continued_anywhere_is_that_of_one_generation(self, client):
        fields = {**self.FIELDS, "temperature": 2, "n_tokens": 8}
        ids = [token["id"] for token in client.post("/generate", json=fields).json["tokens"]]
        for n in (1, len(ids) - 1):
            rest = client.post("/generate", json={**fields, "kept": ids[:n], "n_tokens": 8 - n})
            assert [token["id"] for token in rest.json["tokens"]] == ids[n:]

    def test_json_knows_no_pace(self, client):
        answer = client.post("/generate", json={**self.FIELDS, "pace": "step"})
        assert answer.status_code == 422 and answer.json["error"]["field"] == "pace"

    def test_another_pace_is_an_error_that_lists_them(self, client):
        answer = client.post("/generate", data={**self.FIELDS, "pace": "fast"}, headers=HTMX)
        assert answer.status_code == 422
        message = parse(answer.text).text
        assert "'fast'" in message and "step, slow, full" in message


class TestAppend:
    def test_kept_tokens_are_shown_and_nothing_is_generated(self, client, monkeypatch):
        monkeypatch.setattr(routes, "submit", None)
        fields = {"prompt": "Not", "kept": "477,10281", "n_tokens": "40"}
        answer = client.post("/append", data=fields, headers=HTMX)
        assert answer.status_code == 200
        root = parse(answer.text)
        (strip,) = root.all("hx-partial", **{"hx-target": "#strip"})
        assert strip.ids() == [3673, 477, 10281]
        (text,) = root.all("hx-partial", **{"hx-target": "#text"})
        assert text.text.strip() == "Not all heroes"

    def test_invalid_fields_are_refused(self, client):
        answer = client.post("/append", data={"prompt": "", "kept": "1"}, headers=HTMX)
        assert answer.status_code == 422


class TestNextAsJson:
    FIELDS = {"prompt": HEROES, "kept": [262], "temperature": 2.0, "top_k": 4}

    @pytest.mark.parametrize("options", [{"headers": JSON}, {}])
    def test_it_has_the_likeliest_tokens_of_the_readable_model(self, client, demo, options):
        answer = client.post("/next", json=self.FIELDS, **options)
        assert answer.status_code == 200
        found = answer.json
        assert (found["model"], found["weights"]) == ("demo", "float32")
        assert found["prompt"] == HEROES and found["prompt_tokens"] == len(HEROES_IDS)
        logits = gpt2([*HEROES_IDS, 262], **demo.params, n_head=demo.hparams.n_head)[-1]
        logprobs = log_softmax(logits)  # [n_vocab]
        order = np.argsort(-logits, kind="stable")[:10]
        assert [one["id"] for one in found["candidates"]] == order.tolist()
        hot = np.exp(logits[order[:4]] / 2)  # [top_k]
        for i, one in enumerate(found["candidates"]):
            assert one["piece"] == demo.encoder.decoder[one["id"]]
            assert bytes.fromhex(one["bytes"]) == demo.encoder.token_bytes(one["id"])
            assert abs(one["logprob"] - logprobs[one["id"]]) <= TOLERANCE
            share = hot[i] / hot.sum() if i < 4 else 0
            assert abs(one["sampling_probability"] - share) <= TOLERANCE

    def test_a_form_gets_the_same_answer(self, client):
        form = client.post("/next", data={**self.FIELDS, "kept": "262"}, headers=JSON)
        assert form.json == client.post("/next", json=self.FIELDS).json

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"prompt": ""}, "prompt"), ({}, "prompt"), ({"prompt": "a", "top_p": 0}, "top_p"),
            ({"prompt": "a", "n_tokens": 2}, "n_tokens"), ({"prompt": "a", "seed": 1}, "seed"),
        ],
    )  # fmt: skip
    def test_an_invalid_field_is_an_error_and_no_hint(self, client, fields, field):
        answer = client.post("/next", json=fields)
        assert answer.status_code == 422
        assert answer.json["error"]["field"] == field


class TestTokenizeOddInput:
    def test_json_without_a_prompt_says_what_to_send(self, client):
        answer = client.post("/tokenize", json={"text": "hi"})
        assert answer.status_code == 422
        assert "prompt" in answer.json["error"]["message"]

    def test_the_page_gets_the_beginning_of_a_text_that_is_too_long(self, client):
        answer = client.post("/tokenize", data={"prompt": "a" * 100_050}, headers=HTMX)
        root = parse(answer.text)
        assert answer.status_code == 200
        assert "100,000 characters" in root.id("counts").words
        assert "50 more follow" in root.id("left-out").words
        (error,) = root.all("hx-partial", **{"hx-target": "#error-prompt"})
        assert "100,050" in error.words
        answer = client.post("/tokenize", data={"prompt": "a" * 100_050}, headers=JSON)
        assert answer.status_code == 422  # a program is told


class TestNext:
    @pytest.mark.parametrize(
        ("field", "value"), [("temperature", "-3"), ("top_k", "many"), ("top_p", "2")]
    )
    def test_the_hint_is_about_the_setting_that_is_wrong(self, client, field, value):
        fields = {"prompt": "Once", field: value}
        [hint] = parse(client.post("/next", data=fields).text).all(class_="hint")
        page = parse(client.post("/generate", data=fields).text)
        assert hint.words == page.id(f"error-{field}").words
        assert hint.words.startswith(LABELS[field])

    def test_without_a_text_the_hint_asks_for_one(self, client):
        [hint] = parse(client.post("/next", data={"prompt": ""}).text).all(class_="hint")
        assert (
            hint.words == "The model’s best guesses appear here once there is a text to continue."
        )
