"""Server-sent events as a response of Flask: what every route that streams returns.

Above ``sse``, which makes the bytes of one message; below the routes.
"""

from collections.abc import Iterator

from flask import Response, render_template, stream_with_context

from webapp import sse
from webapp.request import current_record, request_id
from webapp.request_log import log_failure

BROKEN = "Something broke on our side before the end. The server's log has the details."


def event_stream(messages: Iterator[bytes], problem_id: str = "problem") -> Response:
    """A response that sends each of ``messages`` as it comes.

    ``problem_id`` is the element of the page that shows what went wrong.
    """
    return Response(
        stream_with_context(to_the_end(messages, problem_id)),
        mimetype="text/event-stream",
        headers=sse.HEADERS,
    )


def to_the_end(messages: Iterator[bytes], problem_id: str) -> Iterator[bytes]:
    """The messages; after a defect of ours, one that says so."""
    try:
        yield from messages
    except Exception as error:  # the status is sent, and the page must not wait for more
        log_failure(current_record(), error)
        shown = {"message": BROKEN, "reference": request_id(), "target": problem_id}
        yield sse.message(render_template("stream/broken.html", **shown))
