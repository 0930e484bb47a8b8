"""Exceptions to responses: a message beside the field, JSON, or a page.

Routes raise; this module alone turns that into a response of the kind the client asked for.
Invariants: the status is never 200; a response has a message that we wrote, and never a
traceback; the message of an invalid field stands beside that field.
"""

from flask import Flask, Response, jsonify, render_template
from flask.typing import ResponseReturnValue
from flask_limiter import RateLimitExceeded
from werkzeug.exceptions import HTTPException

from gpt2core.engine.events import ClientLimit, Unavailable
from gpt2core.errors import InputError, ModelFileError
from webapp import limits
from webapp.forms import VISIBLE_FIELDS, FormErrors
from webapp.page import render_page
from webapp.request import (
    current_record,
    has_impossible_host,
    remembered_fields,
    request_id,
    response_kind,
    submitted_fields,
)
from webapp.request_log import log_failure

SENTENCES = {
    404: "There is no such page here.",
    405: "This address does not take that kind of request.",
    413: "The text is too long to be taken at all.",
    415: "Send the fields as a form or as a JSON object.",
}


def register(app: Flask) -> None:
    """Make ``app`` answer exceptions with the handlers below."""
    app.register_error_handler(FormErrors, invalid_form)
    app.register_error_handler(InputError, invalid_field)
    app.register_error_handler(Unavailable, unavailable)
    app.register_error_handler(RateLimitExceeded, rate_limit_exceeded)
    app.register_error_handler(ModelFileError, model_file_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, unexpected_error)


def invalid_field(error: InputError) -> ResponseReturnValue:
    """422 for one field, as for a form with one invalid field."""
    return invalid_form(FormErrors([error], remembered_fields()))


def invalid_form(error: FormErrors) -> ResponseReturnValue:
    """422 with each message beside its field."""
    kind, messages = response_kind(), error.by_field()
    if kind == "json":
        first = error.errors[0]
        return json_error(422, str(first), field=first.field, **first.numbers)
    if kind == "htmx":
        return render_template(
            "parts/form_errors.html", fields=VISIBLE_FIELDS, messages=messages
        ), 422
    return render_page(error.values, messages=messages), 422


def unavailable(error: Unavailable) -> ResponseReturnValue:
    """503, or 429 for one client's limit; a page repeats the submitted fields, for the next try."""
    status = 429 if isinstance(error, ClientLimit) else 503
    headers = {"Retry-After": str(error.retry_after)}
    current_record().refusal = error.reason
    if response_kind() == "page" and remembered_fields():
        return render_page(remembered_fields(), problem=str(error)), status, headers
    return *plain_error(status, str(error)), headers


def rate_limit_exceeded(error: RateLimitExceeded) -> ResponseReturnValue:
    """429 for one client's rate, noticed before any field is read."""
    try:
        submitted_fields()
    except (InputError, HTTPException):
        pass  # nothing that a page could repeat
    return unavailable(limits.client_limit(error))


def model_file_error(error: ModelFileError) -> ResponseReturnValue:
    """503: the model's files are missing or damaged."""
    return plain_error(503, str(error))


def http_error(error: HTTPException) -> ResponseReturnValue:
    """Flask's own 4xx, in words that a user understands."""
    status = error.code or 500
    body, _ = plain_error(status, SENTENCES.get(status, error.description or ""))
    # The error's own headers stay, such as the methods that a 405 allows; the body is ours.
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return body, status, headers


def unexpected_error(error: Exception) -> ResponseReturnValue:
    """500: a defect of ours. The traceback goes to the log, not to the client."""
    log_failure(current_record(), error)
    return plain_error(500, "Something broke on our side. The server's log has the details.")


def plain_error(status: int, message: str) -> tuple[Response | str, int]:
    """An error that belongs to no field."""
    if has_impossible_host():  # no page can be made, because no address can
        message = "The request names an impossible host.\n"
        return Response(message, mimetype="text/plain"), 400
    kind = response_kind()
    if kind == "json":
        return json_error(status, message)
    # What an operator can find in the log; not what the user can mend.
    reference = request_id() if status >= 500 or status == 429 else None
    if kind == "htmx":
        return render_template("parts/problem.html", message=message, reference=reference), status
    page = render_template("error.html", status=status, message=message, reference=reference)
    return page, status


def json_error(status: int, message: str, **details: object) -> tuple[Response, int]:
    """``{"error": {"message", "field", …the numbers}}``."""
    return jsonify(error={"message": message, **details}), status
