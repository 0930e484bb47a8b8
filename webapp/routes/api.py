"""GET /openapi.json, and GET /api: the same for people, with examples that run as copied."""

import json
import shlex
from typing import Any

from flask import Blueprint, jsonify, render_template, url_for
from flask.typing import ResponseReturnValue

from webapp.openapi import OPERATIONS, openapi_document
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
    return jsonify(openapi_document())


@blueprint.get("/api")
def page() -> ResponseReturnValue:
    """The addresses with their fields and a command for each."""
    schemas = openapi_document()["components"]["schemas"]
    rows = [
        {
            "operation": one,
            "fields": schemas[one.body.__name__]["properties"] if one.body else {},
            "curl": curl(one.path),
        }
        for one in OPERATIONS
    ]
    base_url = url_for("openai.unknown", _external=True).rstrip("/")
    return render_template("api/page.html", rows=rows, base_url=base_url)


def curl(path: str) -> str:
    """A command that asks this server at ``path``."""
    command = f"curl -sS {shlex.quote(url_for('pages.index', _external=True).rstrip('/') + path)}"
    if path not in EXAMPLES:
        return command
    body = EXAMPLES[path]
    if path.startswith("/v1"):
        body = {"model": get_model_server().label, **body}
    return (
        f"{command} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}"
    )
