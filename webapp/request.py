"""The request being answered: which kind of response the client wants, the fields it sent.

Below the routes and the error handlers, which all answer in one of three forms. Only the
routes and this module read Flask's request. Invariant: text of a browser's form has
the line ends that its text area shows.
"""

import re
import socket
from typing import Any, Literal, TypeAlias

from flask import g
from htmx_flask import request
from werkzeug.exceptions import UnsupportedMediaType

from gpt2core.tokenizer.decoding import replace_surrogates

Kind: TypeAlias = Literal["page", "json", "htmx"]
KIND_OF_TYPE: dict[str, Kind] = {
    "text/html": "page",
    "application/json": "json",
    "text/event-stream": "htmx",
}
LINE_END = re.compile(r"\r\n?")


def response_kind() -> Kind:
    """What the client asked for: ``"htmx"`` partials, ``"json"`` or a whole ``"page"``."""
    if request.htmx:
        return "htmx"
    # A client that sends JSON, or wants a file of it, and accepts anything is a program.
    about_json = request.is_json or request.path.endswith(".json")
    default = "application/json" if about_json else "text/html"
    # On a tie best_match returns the first, so the default comes first.
    best = request.accept_mimetypes.best_match([default, *KIND_OF_TYPE], default=default)
    return KIND_OF_TYPE[best]


def submitted_fields() -> dict[str, Any]:
    """The fields of this request, from a form or a JSON object, by name.

    They are remembered, so that an error can show the form again. Raises
    UnsupportedMediaType for anything but a form or a JSON object.
    """
    fields = json_fields() if request.is_json else form_fields()
    if "regenerate" in request.args:
        # A button has one value only. Regenerate sends the tokens to keep, and this flag
        # stands in its address.
        fields["regenerate"] = request.args["regenerate"]
    g.submitted_fields = fields
    return fields


def query_fields() -> dict[str, str]:
    """The fields of the address; of one that comes twice the last, that of a pressed button."""
    return {name: values[-1] for name, values in request.args.lists()}


def current_page() -> tuple[str, dict[str, Any]]:
    """The endpoint that answers, and the variable parts of its address."""
    return request.endpoint or "", dict(request.view_args or {})


def remembered_fields() -> dict[str, Any]:
    """What :func:`submitted_fields` returned for this request; empty before its first call."""
    fields: dict[str, Any] = g.get("submitted_fields", {})
    return fields


def json_fields() -> dict[str, Any]:
    try:
        values = request.get_json(silent=True)
    except RecursionError:  # a hundred thousand opening brackets, for example
        values = None
    if not isinstance(values, dict):
        raise UnsupportedMediaType
    # JSON can spell half a surrogate pair ("\\ud800"), which no response can repeat.
    return {k: replace_surrogates(v) if isinstance(v, str) else v for k, v in values.items()}


def form_fields() -> dict[str, Any]:
    # Of a field that comes twice the last value counts: the pressed button comes last.
    fields = {name: values[-1] for name, values in request.form.lists()}
    # htmx sends a text as it is; a browser's own submission writes each line end as CR LF.
    if response_kind() == "page" and "prompt" in fields:
        fields["prompt"] = unix_line_ends(fields["prompt"])
    return fields


def unix_line_ends(text: str) -> str:
    """``text`` with CR LF and CR as LF, the only line end that a text area knows."""
    return LINE_END.sub("\n", text)


def wants_compressed_file() -> bool:
    """Whether this request is for a script or style, whole, and accepts gzip."""
    is_file = request.endpoint in ("static", "pages.htmx_file") and not request.range
    return is_file and request.accept_encodings["gzip"] > 0


def client_left() -> bool:
    """Whether the client closed the connection, if the server (gunicorn) lets us look."""
    client = request.environ.get("gunicorn.socket")
    if client is None:
        return False
    try:
        return bool(client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except BlockingIOError:
        return False  # open, and nothing to read
    except ValueError:
        return False  # encrypted (gunicorn's own TLS): peeking is not possible
    except OSError:
        return True
