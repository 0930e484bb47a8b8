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
from webapp.schemas import GenerateBody, NextBody, ScoreBody, ScoreQuery, TokenizeBody

REFERENCE = "#/components/schemas/{model}"


PAGE, STREAM = "text/html", "text/event-stream"
TEXT = {"type": "string"}
# Version 3.1 does not say what the schema of a stream describes; programs take it for each event.
SCHEMAS = {PAGE: TEXT, STREAM: {"type": "object", "properties": {"data": TEXT}}}


@dataclass(frozen=True)
class Operation:
    """One address with its method, its fields if it has some, and what it answers.

    ``body`` is that of a POST. ``query`` is that of a GET. ``others`` are the media types that
    an answer can have instead of JSON: those for browsers, and streams.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel]
    error: type[BaseModel]
    invalid: int  # the status of an invalid request
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    others: tuple[str, ...] = ()

    @property
    def error_types(self) -> tuple[str, ...]:
        """Media types of errors beside JSON; a stream that is refused does not begin."""
        return tuple(kind for kind in self.others if kind != STREAM)


def ours(
    path: str,
    summary: str,
    body: type[BaseModel],
    answer: type[BaseModel],
    others: tuple[str, ...] = (PAGE,),
) -> Operation:
    return Operation(
        "post", path, summary, answer, answers.ErrorAnswer, 422, body=body, others=others
    )


def openais(
    method: str, path: str, summary: str, answer: type[BaseModel], invalid: int, **others: Any
) -> Operation:
    return Operation(method, path, summary, answer, answers.OpenaiErrorAnswer, invalid, **others)


OPERATIONS = (
    ours("/tokenize", "Cut a text into tokens", TokenizeBody, answers.TokenizeAnswer),
    ours("/generate", "Continue a text", GenerateBody, answers.GenerateAnswer, (PAGE, STREAM)),
    ours("/next", "The likeliest tokens after a text", NextBody, answers.NextAnswer),
    ours("/score", "How probable each token of a text is", ScoreBody, answers.ScoreAnswer),
    Operation(
        "get", "/score", "The same, as a link", answers.ScoreAnswer, answers.ErrorAnswer, 422,
        query=ScoreQuery, others=(PAGE,),
    ),
    openais("get", "/v1/models", "The model that is served", answers.ModelsAnswer, 401),
    openais("get", "/v1/models/{model}", "A model by its name", answers.ModelAnswer, 404),
    openais(
        "post", "/v1/completions", "Continue or score texts, as OpenAI's API",
        answers.CompletionAnswer, 400, body=CompletionBody, others=(STREAM,),
    ),
)  # fmt: skip


def openapi_document(model: str, root: str = "/") -> dict[str, Any]:
    """The document of a server whose model has the name ``model``, below the path ``root``."""
    requests = [one.body for one in OPERATIONS if one.body is not None]
    responses = [one.answer for one in OPERATIONS] + [one.error for one in OPERATIONS]
    _, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys([*requests, *responses])],
        ref_template=REFERENCE,
    )
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = operation_object(one, model)
    schemas["$defs"]["CompletionBody"]["properties"]["model"]["enum"] = [model]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ġlyph",
            "version": "1",
            "description": "GPT-2's tokens, texts and probabilities. JSON in, JSON out, unless "
            "Accept prefers a page.",
        },
        "servers": [{"url": root}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def operation_object(one: Operation, model: str) -> dict[str, Any]:
    """One operation as the document has it."""

    def error(description: str) -> dict[str, Any]:
        return response(description, one.error, one.error_types)

    found: dict[str, Any] = {
        "summary": one.summary,
        "parameters": [*path_parameters(one.path, model), *query_parameters(one.query)],
        "responses": {
            "200": response("The answer", one.answer, one.others),
            str(one.invalid): error("The request is invalid"),
            "503": error("Busy, or the model is not ready: see Retry-After"),
            "default": error("Any other error"),
        },
    }
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": content(one.body)}
    if one.path.startswith("/v1"):
        found["security"] = [{}, {"key": []}]  # a key only if the server has one
    return found


def path_parameters(path: str, model: str) -> list[dict[str, Any]]:
    """The part of an address that varies, if it has one: ``{model}``."""
    schema = {"type": "string", "enum": [model]}
    parameter = {"name": "model", "in": "path", "required": True, "schema": schema}
    return [parameter] if "{model}" in path else []


def query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    """The fields of a query, none of them required."""
    properties = query.model_json_schema()["properties"] if query else {}
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def response(
    description: str, model: type[BaseModel], others: tuple[str, ...] = ()
) -> dict[str, Any]:
    texts = {kind: {"schema": SCHEMAS[kind]} for kind in others}
    return {"description": description, "content": {**content(model), **texts}}


def content(model: type[BaseModel]) -> dict[str, Any]:
    reference = REFERENCE.format(model=model.__name__)
    return {"application/json": {"schema": {"$ref": reference}}}
