"""The request being answered: which kind of response the client wants, the fields it sent.

Below the routes and the error handlers, which all answer in one of three forms. Only the
routes and this module read Flask's request. Invariant: text of a browser's form has
the line ends that its text area shows.
"""

import ipaddress
import re
import socket
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl

from flask import g
from htmx_flask import request
from werkzeug.exceptions import BadHost, UnsupportedMediaType

from gpt2core.tokenizer.decoding import replace_surrogates
from webapp.request_log import RECORD, Record
from webapp.schemas import Body, check_names, check_types

Kind: TypeAlias = Literal["page", "json", "htmx"]
KIND_OF_TYPE: dict[str, Kind] = {
    "text/html": "page",
    "application/json": "json",
    "text/event-stream": "htmx",
}
LINE_END = re.compile(r"\r\n?")
URL_ENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
# How the paths begin where the model computes.
WORK = ("/generate", "/score", "/v1/completions", "/inside")
# What proxies add to a request.
FORWARDED = {"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA"}
# RFC 9110, 15.2: a client ignores it, whether it expects one or not.
INTERIM_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Where servers other than gunicorn put a function: whether the client left (deploy/asgi.py).
CLIENT_LEFT = "webapp.client_left"


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


def submitted_fields(body: type[Body] | None = None) -> dict[str, Any]:
    """The fields of this request, from a form or a JSON object, by name.

    They are remembered, so that an error can show the form again. Raises
    UnsupportedMediaType for anything but a form or a JSON object, and InputError for a JSON
    object that has other fields, or other types, than ``body``.
    """
    fields = json_fields(body) if request.is_json else form_fields()
    if "regenerate" in request.args:
        # A button has one value only. Regenerate sends the tokens to keep, and this flag
        # stands in its address.
        fields["regenerate"] = request.args["regenerate"]
    g.submitted_fields = fields
    return fields


def current_record() -> Record:
    """What the log will have of this request."""
    record: Record = request.environ.setdefault(RECORD, Record())
    return record


def name_route() -> None:
    """Keep in the record which route answers; an unknown address is none."""
    record = current_record()
    record.endpoint = request.endpoint
    record.route = request.url_rule.rule if request.url_rule else None


def request_id() -> str:
    """The id of this request in the log, for messages and for ``X-Request-ID``."""
    return current_record().request_id


def query_fields() -> dict[str, str]:
    """The fields of the address; of one that comes twice the last, that of a pressed button."""
    return {name: values[-1] for name, values in request.args.lists()}


def query_values(name: str) -> list[str]:
    """All values of one field of the address, as ticked boxes of one name give."""
    return list(request.args.getlist(name))


def current_page() -> tuple[str, dict[str, Any]]:
    """The endpoint that answers, and the variable parts of its address."""
    return request.endpoint or "", dict(request.view_args or {})


def remembered_fields() -> dict[str, Any]:
    """What :func:`submitted_fields` returned for this request; empty before its first call."""
    fields: dict[str, Any] = g.get("submitted_fields", {})
    return fields


def json_fields(body: type[Body] | None = None) -> dict[str, Any]:
    try:
        values = request.get_json(silent=True)
    except RecursionError:  # a hundred thousand opening brackets, for example
        values = None
    if not isinstance(values, dict):
        raise UnsupportedMediaType
    # JSON can spell half a surrogate pair ("\\ud800"), which no response can repeat.
    fields = {k: replace_surrogates(v) if isinstance(v, str) else v for k, v in values.items()}
    g.submitted_fields = fields
    if body is not None:
        check_names(fields, body)
        check_types(fields, body)
    if isinstance(fields.get("stop"), str):  # one string as it is, not the lines of a form
        fields["stop"] = [fields["stop"]]
    return fields


def form_fields() -> dict[str, Any]:
    if request.mimetype not in (URL_ENCODED, MULTIPART):
        raise UnsupportedMediaType
    # Of a field that comes twice the last value counts: the pressed button comes last.
    if request.mimetype == URL_ENCODED:
        # Flask would read the byte %FF, which is not UTF-8, as the three characters "%FF".
        text = request.get_data(parse_form_data=False).decode(errors="replace")
        fields = dict(parse_qsl(text, keep_blank_values=True, errors="replace"))
    else:
        fields = {name: values[-1] for name, values in request.form.lists()}
    # htmx sends a text as it is; a browser's own submission writes each line end as CR LF.
    if response_kind() == "page" and "prompt" in fields:
        fields["prompt"] = unix_line_ends(fields["prompt"])
    return fields


def unix_line_ends(text: str) -> str:
    """``text`` with CR LF and CR as LF, the only line end that a text area knows."""
    return LINE_END.sub("\n", text)


def has_impossible_host() -> bool:
    """Whether the header Host is no name of a host, so that no address can be made."""
    return isinstance(request.routing_exception, BadHost)


def is_from_another_site() -> bool:
    """Whether a page of another site makes this request, other than by a link that is followed.

    Browsers say so in headers that no page can change; other clients do not send them.
    """
    headers = request.headers
    if headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
        return False
    is_document = headers.get("Sec-Fetch-Dest", "document") == "document"
    is_link = headers.get("Sec-Fetch-Mode") == "navigate" and is_document
    return not (is_link and request.method in ("GET", "HEAD"))


def starts_work() -> bool:
    """Whether this request has the model compute a text, scores or a recording.

    Candidates for the next token do not count: the page asks for them while a user types.
    """
    if request.path == "/":  # a link that generates without scripts
        return "generate" in request.args
    return str(request.path).startswith(WORK)


def client_name() -> str:
    """The client's address, as far as it is known; of IPv6 its network.

    One IPv6 subscriber has at least all the 2**64 addresses of a network.
    """
    address = request.remote_addr or ""
    try:
        is_network = ipaddress.ip_address(address).version == 6
    except ValueError:  # a socket file has no address, and proxies send what they like
        return address
    return str(ipaddress.ip_network((address, 64), strict=False)) if is_network else address


def is_on_this_network() -> bool:
    """Whether the client is on this machine or a private network, and comes through no proxy."""
    if FORWARDED & request.environ.keys():
        return False
    if not request.remote_addr:  # a socket file
        return True
    address: Any = ipaddress.ip_address(request.remote_addr)
    return not (getattr(address, "ipv4_mapped", None) or address).is_global


def client_left() -> bool:
    """Whether the client closed the connection, if the server (gunicorn, Ray Serve) lets us look.

    A client that has closed its sending side only waits for the answer. It cannot be told from
    one that has left until something is sent, hence the interim response: if the client has
    left, the connection is reset, which the next call notices.
    """
    if CLIENT_LEFT in request.environ:
        return bool(request.environ[CLIENT_LEFT]())
    client = request.environ.get("gunicorn.socket")
    if client is None:
        return False
    try:
        is_closing = client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        if is_closing and "sent_interim" not in g and is_http_1_1():
            g.sent_interim = True
            client.sendall(INTERIM_RESPONSE)
        if is_closing:
            client.getpeername()  # an OSError once the connection is reset
        return False
    except BlockingIOError:
        return False  # open, and nothing to read
    except ValueError:
        return False  # encrypted (gunicorn's own TLS): peeking is not possible
    except OSError:
        return True


def is_http_1_1() -> bool:
    """Whether the client knows interim responses; HTTP/1.0 has none."""
    return bool(request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1")
