"""GET /openapi.json, and GET /api: the same for people, with examples that run as copied."""

import json
import shlex
from typing import Any
from urllib.parse import quote

from flask import Blueprint, jsonify, render_template, url_for
from flask.typing import ResponseReturnValue

from webapp.openapi import OPERATIONS, Operation, openapi_document
from webapp.services import get_model_server

blueprint = Blueprint("api", __name__)

STORY = "Once upon a time, there was"
EXAMPLES: dict[str, dict[str, Any]] = {
    "/tokenize": {"prompt": STORY},
    "/generate": {"prompt": STORY, "n_tokens": 20, "seed": 1, "stop": ["\n"]},
    "/next": {"prompt": STORY, "temperature": 0.7},
    "/score": {"prompt": STORY},
    "/v1/completions": {"prompt": STORY, "max_tokens": 20, "temperature": 0.7, "logprobs": 3},
}


@blueprint.get("/openapi.json")
def openapi() -> ResponseReturnValue:
    """The OpenAPI document."""
    root = url_for("pages.index").rstrip("/") or "/"
    return jsonify(openapi_document(get_model_server().label, root))


@blueprint.get("/api")
def page() -> ResponseReturnValue:
    """The addresses with their fields and a command for each."""
    schemas = openapi_document(get_model_server().label)["components"]["schemas"]
    rows = [
        {
            "operation": one,
            "fields": schemas[one.body.__name__]["properties"] if one.body else {},
            "curl": curl(one),
        }
        for one in OPERATIONS
    ]
    base_url = url_for("openai.models", _external=True).removesuffix("/models")
    return render_template("api/page.html", rows=rows, base_url=base_url)


def curl(one: Operation) -> str:
    """A command that asks this server for ``one``."""
    label, base_url = get_model_server().label, url_for("pages.index", _external=True).rstrip("/")
    command = f"curl -sS {shlex.quote(base_url + one.path.replace('{model}', quote(label)))}"
    if one.query:
        fields = EXAMPLES[one.path].items()
        parts = [f"--data-urlencode {shlex.quote(f'{name}={value}')}" for name, value in fields]
        return " \\\n  ".join([f"{command} -G -H 'Accept: application/json'", *parts])
    if not one.body:
        return command
    model = {"model": label} if one.path.startswith("/v1") else {}
    body = json.dumps({**model, **EXAMPLES[one.path]})
    return f"{command} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
