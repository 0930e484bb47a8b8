"""OpenAI's own Python client against the real server: what it gets is what the model computes."""

import json
import math

import numpy as np
import openai
import pytest

from gpt2core import generate, gpt2
from gpt2core.sampling import log_softmax
from tests.helpers.small_models import TOLERANCES
from tests.helpers.web import HEROES, PATIENCE, ROBOT, STORY, STORY_IDS

# All tests run with both weights when slow tests are asked for; these always do.
IN_BOTH = pytest.mark.parametrize("weights", ["float32", "int8"])


def client_of(server, **options) -> openai.OpenAI:
    options = {"max_retries": 0, "timeout": PATIENCE, "api_key": "any", **options}
    return openai.OpenAI(base_url=f"{server.url}/v1", **options)


@pytest.fixture
def openai_client(served):
    with client_of(served) as client:
        yield client


@pytest.fixture
def complete(openai_client):
    """``complete(prompt, **arguments)``: greedy unless told otherwise."""

    def complete(prompt=STORY, **arguments):
        arguments = {"temperature": 0, "max_tokens": 8, **arguments}
        return openai_client.completions.create(model="demo", prompt=prompt, **arguments)

    return complete


@pytest.fixture
def expected(readable):
    """``expected(ids)``: the log-probabilities ``[n, n_vocab]`` of what follows each id."""

    def expected(ids):
        rows = gpt2(ids, **readable.params, n_head=readable.hparams.n_head)  # [n, n_vocab]
        return np.array([log_softmax(row) for row in rows])  # [n, n_vocab]

    return expected


def greedy(model, ids, n) -> str:
    return model.encoder.decode(generate(list(ids), model.params, model.hparams.n_head, n))


@IN_BOTH
def test_a_prompt_is_continued(complete, readable, weights):
    answer = complete()
    [choice] = answer.choices
    assert choice.text == greedy(readable, STORY_IDS, 8)
    assert (choice.finish_reason, choice.index, choice.logprobs) == ("length", 0, None)
    assert answer.object == "text_completion" and answer.model == "demo"
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": len(STORY_IDS),
        "completion_tokens": 8,
        "total_tokens": len(STORY_IDS) + 8,
    }  # fmt: skip
    assert answer.system_fingerprint.startswith(f"demo-{weights}-")


def test_prompts_and_ids_in_lists_are_continued_together(complete, readable):
    texts = [STORY, HEROES, "The"]
    ids = [readable.encoder.encode(text) for text in texts]
    wanted = [greedy(readable, one, 8) for one in ids]
    for prompt in (texts, ids):
        answer = complete(prompt)
        assert [choice.text for choice in answer.choices] == wanted
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage.prompt_tokens == sum(map(len, ids))
    assert complete(ids[0]).choices[0].text == wanted[0]


def test_more_choices_than_places_are_all_answered(complete):
    answer = complete([STORY, HEROES], n=11, temperature=1, seed=3, max_tokens=3)
    texts = [choice.text for choice in answer.choices]
    assert len(texts) == 22 and len(set(texts[:11])) > 1
    # A choice does not depend on the other prompts, nor on how many choices there are.
    alone = complete(HEROES, n=2, temperature=1, seed=3, max_tokens=3)
    assert [choice.text for choice in alone.choices] == texts[11:13]


@IN_BOTH
def test_a_stream_has_the_text_of_the_whole_answer(complete):
    arguments = {"n": 3, "temperature": 1, "seed": 5, "logprobs": 2, "max_tokens": 12}
    whole = complete(f"{STORY} {ROBOT}", echo=True, **arguments)
    texts, tokens, reasons = ["", "", ""], [[], [], []], [None, None, None]
    chunks = list(complete(f"{STORY} {ROBOT}", echo=True, stream=True, **arguments))
    for chunk in chunks:
        [choice] = chunk.choices
        assert reasons[choice.index] is None  # nothing follows the finish reason
        texts[choice.index] += choice.text
        tokens[choice.index] += zip(
            choice.logprobs.tokens, choice.logprobs.text_offset, strict=True
        )
        reasons[choice.index] = choice.finish_reason
        assert chunk.usage is None
    for choice in whole.choices:
        at, logprobs = choice.index, choice.logprobs
        assert texts[at] == choice.text and reasons[at] == choice.finish_reason
        assert tokens[at] == list(zip(logprobs.tokens, logprobs.text_offset, strict=True))
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_with_the_usage_on_request(complete):
    *chunks, last = complete(stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.total_tokens == len(STORY_IDS) + 8
    assert all(chunk.usage is None for chunk in chunks)


def test_log_probabilities_are_the_models_own(complete, readable, expected, tolerance):
    answer = complete(temperature=1.5, top_p=0.9, seed=1, logprobs=20, frequency_penalty=1)
    logprobs = answer.choices[0].logprobs
    ids = readable.encoder.encode(STORY)
    for token, logprob, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        row = expected(ids)[-1]  # [n_vocab]
        order = np.argsort(-row, kind="stable")[:20]
        texts = [readable.encoder.decode([id]) for id in order]
        assert list(top)[:20] == texts
        assert np.abs(np.array(list(top.values()))[:20] - row[order]).max() <= tolerance
        assert token in top and len(top) in (20, 21)
        [id] = readable.encoder.encode(token)
        assert abs(logprob - row[id]) <= tolerance
        ids.append(id)
    assert logprobs.text_offset[0] == len(STORY)


@IN_BOTH
def test_a_text_is_scored_by_echo_without_new_tokens(complete, readable, expected, weights):
    text = f"{STORY}{ROBOT}é"
    answer = complete(text, echo=True, logprobs=1, max_tokens=0)
    choice, ids = answer.choices[0], readable.encoder.encode(text)
    assert (choice.text, choice.finish_reason) == (text, "length")
    assert answer.usage.completion_tokens == 0
    logprobs, rows = choice.logprobs, expected(ids)
    assert logprobs.token_logprobs[0] is None is logprobs.top_logprobs[0]
    wanted = rows[np.arange(len(ids) - 1), ids[1:]]
    assert np.abs(np.array(logprobs.token_logprobs[1:]) - wanted).max() <= TOLERANCES[weights]
    likeliest = [max(top.values()) for top in logprobs.top_logprobs[1:]]
    assert np.abs(np.array(likeliest) - rows[:-1].max(axis=1)).max() <= TOLERANCES[weights]
    # Tokens that are part of a character are bytes; all share the character's offset.
    parts = [t for t in logprobs.tokens if t.startswith("bytes:")]
    assert (
        parts
        and b"".join(
            t.removeprefix("bytes:").encode().decode("unicode_escape").encode("latin-1")
            for t in parts
        )
        == ROBOT.encode()
    )
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert token.startswith("bytes:") or text[offset:].startswith(token)


def test_a_full_context_can_be_scored_and_one_token_more_is_refused(complete, readable):
    n_ctx = readable.hparams.n_ctx
    scored = complete([262] * n_ctx, echo=True, logprobs=0, max_tokens=0)
    logprobs = scored.choices[0].logprobs
    assert len(logprobs.tokens) == n_ctx
    assert [list(top) for top in logprobs.top_logprobs[1:3]] == [[" the"], [" the"]]
    with pytest.raises(openai.BadRequestError) as found:
        complete([262] * n_ctx, max_tokens=1)
    error = found.value
    assert error.code == "context_length_exceeded"
    assert str(n_ctx) in error.message and str(n_ctx + 1) in error.message


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_ends_before_a_stop_string(complete, readable, stream):
    whole = greedy(readable, STORY_IDS, 30)
    stop = whole[len(whole) // 2 :][:4]
    answer = complete(stop=["never", stop], max_tokens=30, stream=stream)
    choices = [c for chunk in answer for c in chunk.choices] if stream else answer.choices
    assert "".join(choice.text for choice in choices) == whole[: whole.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_an_absent_prompt_begins_a_text(openai_client, readable):
    answer = openai_client.completions.create(
        model="demo", prompt=None, temperature=0, max_tokens=5, extra_body={"top_k": 5}
    )
    assert answer.choices[0].text == greedy(readable, [readable.encoder.endoftext], 5)
    assert answer.usage.prompt_tokens == 1


def test_biases_and_penalties_change_what_is_written(complete, readable):
    [id] = readable.encoder.encode(" the")
    forced = complete(logit_bias={str(id): 100}, max_tokens=4)
    assert forced.choices[0].text == " the" * 4
    # A penalty of 2 for each time soon outweighs the bias.
    arguments = {"logit_bias": {str(id): 100}, "max_tokens": 60}
    assert complete(**arguments).choices[0].text == " the" * 60
    assert complete(**arguments, frequency_penalty=2).choices[0].text != " the" * 60


def test_top_k_is_an_extra_argument_and_top_p_0_takes_the_likeliest(complete):
    wanted = complete().choices[0].text
    for arguments in ({"extra_body": {"top_k": 1}}, {"top_p": 0}):
        assert complete(temperature=2, **arguments).choices[0].text == wanted


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, ["'gpt-4'", "'demo'"]),
        ({"extra_body": {"best_of": 3}}, openai.BadRequestError, ["argument supplied: best_of"]),
        ({"max_tokens": "5"}, openai.BadRequestError, ["max_tokens", "whole number"]),
        ({"max_tokens": True}, openai.BadRequestError, ["max_tokens"]),
        ({"temperature": 2.1}, openai.BadRequestError, ["temperature", "from 0 to 2"]),
        ({"n": 0}, openai.BadRequestError, ["n:", "1 to 128"]),
        ({"logprobs": 21}, openai.BadRequestError, ["logprobs", "0 to 20"]),
        ({"stop": ["a"] * 5}, openai.BadRequestError, ["stop", "up to 4"]),
        ({"stop": ""}, openai.BadRequestError, ["stop"]),
        ({"logit_bias": {"x": 1}}, openai.BadRequestError, ["'x'", "logit_bias"]),
        ({"logit_bias": {"5": 101}}, openai.BadRequestError, ["logit_bias"]),
        ({"prompt": [[]]}, openai.BadRequestError, ["prompt", "list of token ids"]),
        ({"prompt": [1, "a"]}, openai.BadRequestError, ["prompt"]),
        ({"prompt": [10**6]}, openai.BadRequestError, ["1000000"]),
        ({"prompt": ["a"] * 50, "n": 100}, openai.BadRequestError, ["2,048"]),
        ({"stream_options": {}}, openai.BadRequestError, ["stream_options"]),
        ({"stream_options": {"x": 1}}, openai.BadRequestError, ["stream_options.x"]),
    ],
)
def test_an_invalid_argument_is_an_error_that_names_it(openai_client, arguments, kind, words):
    with pytest.raises(kind) as found:
        openai_client.completions.create(**{"model": "demo", "prompt": STORY, **arguments})
    error = found.value
    assert all(word in error.message for word in words)
    assert error.type == "invalid_request_error" and error.param


def test_models_are_listed_and_found(openai_client):
    assert [model.id for model in openai_client.models.list()] == ["demo"]
    assert openai_client.models.retrieve("demo").owned_by
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("124M")


def test_chat_is_refused_with_the_reason(openai_client):
    with pytest.raises(openai.NotFoundError, match="never trained on conversations"):
        openai_client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "hi"}]
        )


def test_another_method_and_another_address_are_refused_in_the_same_shape(client):
    answer = client.put("/v1/models")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "PUT /v1/models" in answer.json["error"]["message"]
    for path in ("/v1", "/v1/", "/v1/embeddings", "/v1/completions/x"):
        answer = client.post(path, json={})
        assert answer.status_code == 404 and answer.json["error"]["code"] == "unknown_url"
    assert client.get("/v2", headers={"Accept": "text/html"}).mimetype == "text/html"


def test_a_client_that_stops_reading_frees_all_its_places(slow_server):
    with client_of(slow_server) as client:
        stream = client.completions.create(
            model="demo", prompt=["Slow: a", "Slow: b"], n=2, max_tokens=200, stream=True
        )
        next(iter(stream))
        slow_server.wait_for_load(4)
        stream.close()
        slow_server.wait_for_load(0)
        with pytest.raises(openai.APITimeoutError):
            client.completions.create(
                model="demo", prompt=["Slow: a"] * 3, max_tokens=200, timeout=1
            )
        slow_server.wait_for_load(0)


def test_a_failure_in_a_stream_is_an_error_and_not_an_end(slow_server):
    with client_of(slow_server) as client:
        with pytest.raises(openai.InternalServerError, match="the model has a fault"):
            client.completions.create(model="demo", prompt="Fail", max_tokens=9)
        stream = client.completions.create(model="demo", prompt="Fail", max_tokens=9, stream=True)
        with pytest.raises(openai.APIError, match="the model has a fault"):
            list(stream)


def test_a_full_queue_is_an_error_that_says_when_to_try_again(own_server):
    settings = {
        "app": "tests.helpers.paced:create_app()",
        "GPT2_MAX_BATCH": 1,
        "GPT2_MAX_QUEUE": 1,
        "GPT2_MAX_PER_CLIENT": 9,
    }
    with own_server(**settings) as server, client_of(server) as client:
        streams = [
            client.completions.create(model="demo", prompt="Slow: a", max_tokens=200, stream=True)
            for _ in range(2)
        ]
        with pytest.raises(openai.InternalServerError) as found:
            client.completions.create(model="demo", prompt="Echo: a")
        assert found.value.status_code == 503
        assert int(found.value.response.headers["Retry-After"]) > 0
        for stream in streams:
            stream.close()
        server.wait_for_load(0)
        # The client's own retries then succeed.
        assert client.completions.create(model="demo", prompt="Echo: a", max_tokens=2)


def test_a_key_is_asked_for_if_one_is_set(own_server):
    with own_server(GPT2_API_KEY="secret") as server:
        for key in ("wrong", "secre", "secret2"):
            with client_of(server, api_key=key) as client:
                with pytest.raises(openai.AuthenticationError) as found:
                    client.models.list()
            assert found.value.code == "invalid_api_key"
        with client_of(server, api_key="secret") as client:
            assert client.models.list().data
        with server.request("GET", "/") as response:  # the page needs none
            assert response.status == 200


@IN_BOTH
def test_perplexity_of_the_score_api_is_that_of_the_openai_api(served, complete, weights):
    with served.request("POST", "/score", {"prompt": STORY}, {"Accept": "application/json"}) as one:
        found = json.load(one)
    logprobs = complete(STORY, echo=True, logprobs=0, max_tokens=0).choices[0].logprobs
    total = sum(logprobs.token_logprobs[1:])
    assert found["logprob"] == pytest.approx(total, abs=1e-4)
    assert found["weights"] == weights
    assert found["perplexity"] == pytest.approx(math.exp(-total / (len(STORY_IDS) - 1)), rel=1e-4)
