"""One line in the log for each request, and the id that names the request.

The outermost part of the app. A :class:`Record` lies in the WSGI environment while its request is
answered; when the response has ended, whatever way, the record is handed on: to the log, and to
the metrics if they are on.

Invariants: nothing that a client has typed is ever logged: no address, no query, no message of an
exception, which may quote a text. An id is a client's own only if a trusted proxy hands it on,
and it has few harmless characters.
"""

import json
import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from gpt2core.engine.events import RefusalReason, Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

RECORD = "glyph.record"  # its name in the WSGI environment
ID_HEADER, ID_VARIABLE = "X-Request-ID", "HTTP_X_REQUEST_ID"
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# gunicorn's own lines that quote a request.
QUOTING = ("Error handling request", "Invalid request from")


@dataclass
class Record:
    """What is known of one request, from its first byte to the end of its response."""

    request_id: str = field(default_factory=lambda: secrets.token_hex(8))
    method: str = "other"  # one of METHODS
    route: str | None = None  # the rule of the address, as /inside/<int:number>
    endpoint: str | None = None
    status: int = 0
    refusal: RefusalReason | None = None
    # What the model server was asked to compute for it.
    submitted: list[Request[Any]] = field(default_factory=list)
    began: float = field(default_factory=monotonic)
    seconds: float = 0.0  # until the end of the response

    def to_json(self) -> dict[str, Any]:
        """The line of the log; see docs/monitoring.md."""
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "duration_seconds": round(self.seconds, 4),
        }
        if self.submitted:
            line["prompt_tokens"] = sum(len(one.ids) for one in self.submitted)
            line["generated_tokens"] = sum(one.n_generated for one in self.submitted)
            reasons = {one.end_reason for one in self.submitted if one.end_reason}
            line["finish_reasons"] = sorted(reasons)
        if self.refusal:
            line["refused"] = self.refusal
        return line


Ended = Callable[[Record], None]


class RequestLog:
    """WSGI middleware that makes a record of each request, and hands it on at its end."""

    def __init__(self, app: "WSGIApplication", trusts_ids: bool, ended: Iterable[Ended]):
        """``trusts_ids``: whether a proxy in front sets or checks ``X-Request-ID``."""
        self._app, self._trusts_ids, self._ended = app, trusts_ids, tuple(ended)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        environ[RECORD] = record = self._begin(environ)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            record.status = int(status[:3])
            return start_response(status, [*headers, (ID_HEADER, record.request_id)], *error)

        return RecordedResponse(self._app(environ, start), record, self._end)

    def _begin(self, environ: "WSGIEnvironment") -> Record:
        method, given = environ.get("REQUEST_METHOD", ""), environ.get(ID_VARIABLE, "")
        record = Record(method=method if method in METHODS else "other")
        if self._trusts_ids and ID.fullmatch(given):
            record.request_id = given
        return record

    def _end(self, record: Record) -> None:
        record.seconds = monotonic() - record.began
        for ended in self._ended:
            ended(record)


class RecordedResponse:
    """The body of a response. Its end, or that of its client, is the end of the request."""

    def __init__(self, body: Iterable[bytes], record: Record, end: Ended):
        self._body, self._record, self._end = body, record, end
        self._chunks = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception as error:
            log_failure(self._record, error)
            raise  # so that the server cuts the connection, and the client sees it

    def close(self) -> None:
        """Called by the server at the end, whatever that is."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._end(self._record)


def write_line(record: Record) -> None:
    """Log a request that has ended."""
    if log.isEnabledFor(logging.INFO):
        log.info(json.dumps(record.to_json()))


def log_failure(record: Record, error: BaseException) -> None:
    """Log an exception that is a defect of ours: its type and where it was raised, no message."""
    found: BaseException | None = error
    parts = []
    while found is not None:
        frames = "".join(traceback.format_tb(found.__traceback__))
        parts.append(f"{frames}{type(found).__qualname__} (its message may quote a text)")
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    causes = "\n\nThe above exception was the context of:\n\n".join(reversed(parts))
    log.error(
        "request %s failed: %s\nTraceback (most recent call last):\n%s",
        record.request_id,
        record.route,
        causes,
    )


def switch_on() -> None:
    """Write the lines to stderr, unless the program has configured logging by itself."""
    log.setLevel(logging.INFO)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)


def hide_requests_of_gunicorn() -> None:
    """Keep addresses and exceptions' messages out of gunicorn's own lines."""
    logging.getLogger("gunicorn.error").addFilter(without_request)


def without_request(line: logging.LogRecord) -> bool:
    """A logging filter that removes what a line quotes of a request."""
    if str(line.msg).startswith(QUOTING):
        kind = line.exc_info[0].__name__ if line.exc_info and line.exc_info[0] else "not HTTP"
        line.msg, line.args, line.exc_info = f"A request failed: {kind}", (), None
    return True
