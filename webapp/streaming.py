"""Server-sent events as a response of Flask: what every route that streams returns.

Above ``sse``, which makes the bytes of one message; below the routes.
"""

from collections.abc import Iterator

from flask import Response, stream_with_context

from webapp import sse


def event_stream(messages: Iterator[bytes]) -> Response:
    """A response that sends each of ``messages`` as it comes."""
    return Response(
        stream_with_context(messages), mimetype="text/event-stream", headers=sse.HEADERS
    )
