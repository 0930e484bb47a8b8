"""Exceptions to answers: beside the field, as JSON, or as a page.

Every route raises; this module alone turns that into a response, in the form the client
asked for. Invariants: the status is never 200; a sentence we wrote is shown, a traceback
never; the message of a bad field stands beside that field.
"""

import logging

from flask import Flask, jsonify, render_template
from werkzeug.exceptions import HTTPException

from gpt2core.engine.events import Unavailable
from gpt2core.errors import InputError, ModelFileError
from webapp.forms import LABELS, FormErrors
from webapp.page import render_page
from webapp.request import response_kind, typed

log = logging.getLogger(__name__)

SENTENCES = {
    404: "There is no such page here.",
    405: "This address does not take that kind of request.",
    413: "The text is too long to be taken at all.",
    415: "Send the fields as a form or as a JSON object.",
}


def register(app: Flask) -> None:
    """Make ``app`` answer exceptions as this module says."""
    app.register_error_handler(FormErrors, bad_form)
    app.register_error_handler(InputError, lambda error: bad_form(FormErrors([error], typed())))
    app.register_error_handler(Unavailable, unavailable)
    app.register_error_handler(ModelFileError, lambda error: plain_error(503, str(error)))
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, unexpected)


def bad_form(error: FormErrors):
    """422 with each message beside its field."""
    kind, messages = response_kind(), error.by_field()
    if kind == "json":
        first = error.errors[0]
        return json_error(422, str(first), field=first.field, **first.numbers)
    if kind == "htmx":
        fields = ["prompt", *LABELS]
        return render_template("parts/form_errors.html", fields=fields, messages=messages), 422
    return render_page(error.values, messages=messages), 422


def unavailable(error: Unavailable):
    """503 with ``Retry-After``; a page has what was typed, to be sent once more."""
    headers = {"Retry-After": str(error.retry_after)}
    if response_kind() == "page" and typed():
        return render_page(typed(), problem=str(error)), 503, headers
    return *plain_error(503, str(error)), headers


def http_error(error: HTTPException):
    """Flask's own 4xx, in words a person can use."""
    body, status = plain_error(error.code, SENTENCES.get(error.code, error.description))
    # What an error adds, as 405 tells the methods that are allowed; the body is ours.
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return body, status, headers


def unexpected(error: Exception):
    """500: our mistake. The traceback goes to the log, not to the reader."""
    log.exception("a request failed")
    return plain_error(500, "Something broke on our side. The server's log has the details.")


def plain_error(status: int, message: str):
    """An error that belongs to no field."""
    kind = response_kind()
    if kind == "json":
        return json_error(status, message)
    if kind == "htmx":
        return render_template("parts/problem.html", message=message), status
    return render_template("error.html", status=status, message=message), status


def json_error(status: int, message: str, **details):
    """``{"error": {"message", "field", …the numbers}}``."""
    return jsonify(error={"message": message, **details}), status
