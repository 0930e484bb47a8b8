"""The OpenAPI document and its page: what they say is what the server does."""

import json
import subprocess

import pytest
from pydantic import ValidationError

from tests.helpers.paths import ROOT
from tests.helpers.web import JSON, ROBOT, STORY, environment, parse
from webapp import answers
from webapp.openapi import OPERATIONS, openapi_document

BODIES = {
    "/tokenize": {"prompt": f"{STORY} {ROBOT}"},
    "/generate": {"prompt": STORY, "n_tokens": 3, "seed": 1},
    "/next": {"prompt": f"{STORY} {ROBOT}", "temperature": 2, "kept": [262]},
    "/score": {"prompt": f"{STORY} {ROBOT}"},
    "/v1/completions": {
        "model": "demo", "prompt": STORY, "max_tokens": 2, "echo": True, "logprobs": 2,
    },
}  # fmt: skip


def request(client, operation, body):
    path = operation.path.format(model="demo")
    if operation.method == "get":
        return client.get(path, query_string=body if operation.query else None, headers=JSON)
    return client.post(path, json=body, headers=JSON)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_answers_and_errors_fit_their_schemas(client, operation):
    answer = request(client, operation, BODIES.get(operation.path))
    assert answer.status_code == 200
    operation.answer.model_validate_json(answer.text)
    with pytest.raises(ValidationError):
        operation.answer.model_validate({**answer.json, "another": 1})
    if operation.body:
        wrong = request(client, operation, {**BODIES[operation.path], "another": 1})
        assert wrong.status_code == operation.invalid
        operation.error.model_validate_json(wrong.text)


@pytest.mark.parametrize(
    ("fields", "n_parts"),
    [
        ({"echo": True, "logprobs": 2}, 2),  # the first waits for the scores of the prompt
        ({"logprobs": 2}, 5),  # one for each token
    ],
)
def test_each_part_of_a_stream_fits_the_schema(client, fields, n_parts):
    body = {"model": "demo", "prompt": STORY, "max_tokens": 8, "temperature": 0, "stream": True}
    body |= {"stream_options": {"include_usage": True}, **fields}
    text = client.post("/v1/completions", json=body).text
    *parts, last = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert last == "[DONE]" and len(parts) >= n_parts
    for part in parts:
        answers.CompletionAnswer.model_validate_json(part)


def test_the_document_has_the_fields_that_requests_are_checked_by(client):
    document = client.get("/openapi.json").json
    assert document == json.loads(json.dumps(openapi_document("demo")))
    schemas = document["components"]["schemas"]
    for operation in OPERATIONS:
        assert operation.method in document["paths"][operation.path]
        if operation.body:
            schema = schemas[operation.body.__name__]
            assert set(schema["properties"]) == set(operation.body.model_fields)
            assert schema["additionalProperties"] is False
    names = {"/tokenize", "/generate", "/next", "/score", "/v1/models"}
    names |= {"/v1/models/{model}", "/v1/completions"}
    assert set(document["paths"]) == names


def test_every_reference_of_the_document_has_a_target():
    text = json.dumps(openapi_document("demo"))
    schemas = openapi_document("demo")["components"]["schemas"]
    targets = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert targets and targets <= set(schemas)


def test_the_examples_of_the_page_run_as_they_are_copied(server):
    with server.request("GET", "/api") as response:
        page = parse(response.read().decode())
    commands = [one.text for one in page.all(class_="example-command")]
    assert len(commands) == len(OPERATIONS)
    for command, operation in zip(commands, OPERATIONS, strict=True):
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, env=environment(), timeout=60
        )
        assert done.returncode == 0, done.stderr
        operation.answer.model_validate_json(done.stdout)
    assert page.id("base-url").text == f"{server.url}/v1"


def test_the_curl_lines_of_the_readme_run_as_they_are_copied(server):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("curl ")]
    schemas = {
        "/generate": answers.GenerateAnswer,
        "/score": answers.ScoreAnswer,
        "/v1/completions": answers.CompletionAnswer,
    }
    assert len(commands) == len(schemas)
    for command, (path, schema) in zip(commands, schemas.items(), strict=True):
        assert command.endswith(f" localhost:8000{path}")
        here = command.replace("localhost:8000", server.url)  # the port is another one
        done = subprocess.run(
            ["sh", "-c", here], capture_output=True, env=environment(), timeout=60
        )
        assert done.returncode == 0, done.stderr
        schema.model_validate_json(done.stdout)
