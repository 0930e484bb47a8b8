"""OpenAI's API: GET /v1/models, POST /v1/completions.

For programs that are written for it: clients, evaluation harnesses, command-line tools. Each
answer and each error has OpenAI's shape. Invariants: everything is checked, and the first job
has its place in the queue, before the first byte is sent; a client that leaves frees its places.
"""

import hmac
import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from flask_limiter import RateLimitExceeded
from werkzeug.exceptions import ClientDisconnected, HTTPException

from gpt2core.engine.events import ClientLimit, Unavailable
from gpt2core.errors import InputError, ModelFileError
from webapp import error_handlers, limits, sse
from webapp.completions import Run, check_completion
from webapp.generating import HEARTBEAT_SECONDS
from webapp.openai_schemas import ApiError, parse_body
from webapp.request import client_left, current_record
from webapp.request_log import log_failure
from webapp.services import get_model_server, get_settings
from webapp.streaming import event_stream
from webapp.work import current_work

blueprint = Blueprint("openai", __name__, url_prefix="/v1")

NO_CHAT = (
    "GPT-2 only continues texts: it was never trained on conversations, so there are no chat "
    "completions here. Use POST /v1/completions with a prompt."
)
ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@blueprint.before_request
def check_key() -> None:
    """Raise ApiError unless the request has the key, if one is set."""
    key = get_settings().api_key
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if key and not hmac.compare_digest(given.encode("latin-1", "replace"), key.encode()):
        raise ApiError(
            401,
            "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'.",
            code="invalid_api_key",
        )


@blueprint.get("/models")
def models() -> ResponseReturnValue:
    """The one model that is served."""
    return jsonify(object="list", data=[model_object()])


@blueprint.get("/models/<path:name>")
def model(name: str) -> ResponseReturnValue:
    """The model by its name. Raises ApiError (404) for another."""
    found = model_object()
    if name != found["id"]:
        raise ApiError(404, f"The model {name[:80]!r} does not exist.", "model", "model_not_found")
    return jsonify(found)


def model_object() -> dict[str, Any]:
    server = get_model_server()
    return {"id": server.label, "object": "model", "created": server.created, "owned_by": "glyph"}


@blueprint.post("/completions")
def completions() -> ResponseReturnValue:
    """Continue prompts, score them, or both: one JSON object, or a stream of them."""
    body = parse_body(json_body())
    server, settings = get_model_server(), get_settings()
    completion = check_completion(body, server, settings.max_chars)
    run = Run(completion, server, current_work(), settings.max_batch)
    if body.stream:
        return event_stream(stream_chunks(run))
    for _ in run.changes(HEARTBEAT_SECONDS):
        if client_left():
            run.cancel()
            raise ClientDisconnected
    whole = [choice.take() for choice in run.choices]
    return jsonify({**run.chunk([one for one in whole if one]), "usage": run.usage})


def json_body() -> dict[str, Any]:
    """The JSON object of the request. Raises ApiError.

    A form of another site cannot have a content type of JSON.
    """
    if not request.is_json:
        raise ApiError(415, "Send the request as JSON, with 'Content-Type: application/json'.")
    try:
        values = request.get_json(silent=True)
    except RecursionError:
        values = None
    if not isinstance(values, dict):
        raise ApiError(400, "The body of the request is not a JSON object.")
    return values


def stream_chunks(run: Run) -> Iterator[bytes]:
    """The parts of the choices as server-sent events, as they come, and the end mark."""
    options = run.completion.body.stream_options
    with_usage = options is not None and bool(options.include_usage)
    no_usage = {"usage": None} if with_usage else {}
    try:
        for choice in run.changes(HEARTBEAT_SECONDS):
            part = choice.take() if choice else None
            yield data({**run.chunk([part]), **no_usage}) if part else sse.HEARTBEAT
        if with_usage:
            yield data({**run.chunk([]), "usage": run.usage})
        yield sse.message("[DONE]")
    except Unavailable as error:
        yield data({"error": error_object(503, str(error))})
    except Exception as error:  # the status is sent, and the text must not pass for complete
        log_failure(current_record(), error)
        yield data({"error": error_object(500, "Something broke on our side.")})
    finally:  # also if the client leaves, which closes this generator
        run.cancel()


def data(value: dict[str, Any]) -> bytes:
    return sse.message(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


# Errors


def error_object(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": param, "code": code}


@blueprint.errorhandler(ApiError)
def api_error(error: ApiError) -> ResponseReturnValue:
    return jsonify(error=error_object(error.status, str(error), error.param, error.code)), (
        error.status
    )


@blueprint.errorhandler(InputError)
def invalid_input(error: InputError) -> ResponseReturnValue:
    return api_error(ApiError(400, str(error), error.field))


@blueprint.errorhandler(Unavailable)
def unavailable(error: Unavailable) -> ResponseReturnValue:
    """503: the queue is full, or the model is not ready."""
    current_record().refusal = error.reason
    if isinstance(error, ClientLimit):
        return too_many(str(error), error.retry_after)
    answer = jsonify(error=error_object(503, str(error)))
    return answer, 503, {"Retry-After": str(error.retry_after)}


@blueprint.errorhandler(RateLimitExceeded)
def rate_limit_exceeded(error: RateLimitExceeded) -> ResponseReturnValue:
    return unavailable(limits.client_limit(error))


def too_many(message: str, retry_after: int) -> ResponseReturnValue:
    """429, as OpenAI's clients know it: they wait and try again."""
    error = {"message": message, "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    return jsonify(error=error), 429, {"Retry-After": str(retry_after)}


@blueprint.errorhandler(ModelFileError)
def model_file_error(error: ModelFileError) -> ResponseReturnValue:
    return api_error(ApiError(503, str(error)))


@blueprint.errorhandler(HTTPException)
def http_error(error: HTTPException) -> ResponseReturnValue:
    return api_error(ApiError(error.code or 500, error.description or error.name))


@blueprint.errorhandler(Exception)
def unexpected_error(error: Exception) -> ResponseReturnValue:
    """500: a defect of ours. The traceback goes to the log, not to the client."""
    log_failure(current_record(), error)
    return api_error(ApiError(500, "Something broke on our side."))


@blueprint.route("/chat/completions", methods=ANY_METHOD)
def chat_completions() -> ResponseReturnValue:
    """404, with the reason."""
    raise ApiError(404, NO_CHAT, code="unknown_url")


@blueprint.app_errorhandler(404)
@blueprint.app_errorhandler(405)
def unknown(error: HTTPException) -> ResponseReturnValue:
    """404 and 405 for addresses below /v1 that no route has; the other ones have pages."""
    if not f"{request.path}/".startswith("/v1/"):
        return error_handlers.http_error(error)
    message = (
        f"Unknown request: {request.method} {request.path[:80]}. There are GET /v1/models and "
        "POST /v1/completions."
    )
    status = error.code or 404
    # Its own headers stay, such as the methods that a 405 allows; the body is ours.
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return jsonify(error=error_object(status, message, code="unknown_url")), status, headers
