"""The OpenAPI document of the JSON addresses, from the objects that check their requests.

Source: the OpenAPI Specification, version 3.1, whose schemas are those of JSON Schema, which
pydantic writes.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from webapp import answers
from webapp.openai_schemas import CompletionBody
from webapp.schemas import GenerateBody, NextBody, ScoreBody, TokenizeBody

REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Operation:
    """One address with its method, its body if it has one, and what it answers."""

    method: str
    path: str
    summary: str
    body: type[BaseModel] | None
    answer: type[BaseModel]
    error: type[BaseModel]
    invalid: int  # the status of an invalid request


def ours(path: str, summary: str, body: type[BaseModel], answer: type[BaseModel]) -> Operation:
    return Operation("post", path, summary, body, answer, answers.ErrorAnswer, 422)


OPERATIONS = (
    ours("/tokenize", "Cut a text into tokens", TokenizeBody, answers.TokenizeAnswer),
    ours("/generate", "Continue a text", GenerateBody, answers.GenerateAnswer),
    ours("/next", "The likeliest tokens after a text", NextBody, answers.NextAnswer),
    ours("/score", "How probable each token of a text is", ScoreBody, answers.ScoreAnswer),
    Operation(
        "get", "/v1/models", "The model that is served", None, answers.ModelsAnswer,
        answers.OpenaiErrorAnswer, 401,
    ),
    Operation(
        "post", "/v1/completions", "Continue or score texts, as OpenAI's API", CompletionBody,
        answers.CompletionAnswer, answers.OpenaiErrorAnswer, 400,
    ),
)  # fmt: skip


def openapi_document() -> dict[str, Any]:
    """The whole document."""
    requests = [one.body for one in OPERATIONS if one.body is not None]
    responses = [one.answer for one in OPERATIONS] + [one.error for one in OPERATIONS]
    _, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys([*requests, *responses])],
        ref_template=REFERENCE,
    )
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = operation_object(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ġlyph",
            "version": "1",
            "description": "GPT-2's tokens, texts and probabilities. JSON in, JSON out.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def operation_object(one: Operation) -> dict[str, Any]:
    """One operation as the document has it."""
    found: dict[str, Any] = {
        "summary": one.summary,
        "responses": {
            "200": response("The answer", one.answer),
            str(one.invalid): response("The request is invalid", one.error),
            "503": response("Busy, or the model is not ready: see Retry-After", one.error),
            "default": response("Any other error", one.error),
        },
    }
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": content(one.body)}
    if one.path.startswith("/v1"):
        found["security"] = [{}, {"key": []}]  # a key only if the server has one
    return found


def response(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, "content": content(model)}


def content(model: type[BaseModel]) -> dict[str, Any]:
    reference = REFERENCE.format(model=model.__name__)
    return {"application/json": {"schema": {"$ref": reference}}}
