"""The page under an ASGI server, which is what Ray Serve's replicas are.

a2wsgi runs the WSGI app in threads. Two things are added to it. A request is read whole before a
thread gets it, so that no thread waits for a client. And the response of a client that has left
is closed, which cancels its generation; a2wsgi's own thread would wait for ever, because nothing
takes what it sends. Ray Serve cancels the call when the client leaves.
"""

import threading

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi import WSGIResponder

from webapp.request import CLIENT_LEFT

UNBOUNDED = 0


class StreamingMiddleware(WSGIMiddleware):
    """``app`` for an ASGI server, with ``n_threads`` threads and bodies up to ``max_body`` bytes.

    Of a longer body the beginning is read: too much for the app, which then refuses it.
    """

    def __init__(self, app, n_threads: int, max_body: int):
        super().__init__(app, workers=n_threads)
        self._max_body = max_body

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        body = await read_body(receive, self._max_body)
        if body is not None:
            responder = ClosingResponder(self.app, self.executor, UNBOUNDED)
            await responder(scope, whole(body), send)


async def read_body(receive, max_body: int) -> bytes | None:
    """The body of a request, at most one message more than ``max_body``; None without a client."""
    body, has_more = bytearray(), True
    while has_more and len(body) <= max_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    return bytes(body)


def whole(body: bytes):
    """An ASGI ``receive`` for a body that has been read."""

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class ClosingResponder(WSGIResponder):
    """One response. Its thread ends at its next message, or sooner, once the client has left."""

    def __init__(self, *args):
        super().__init__(*args)
        self._left = threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # also when the call is cancelled
            self._left.set()

    def wsgi(self, environ, start_response) -> None:
        environ["wsgi.input_terminated"] = True  # bodies without a length are complete, too
        environ[CLIENT_LEFT] = self._left.is_set
        super().wsgi(environ, start_response)

    def send(self, message) -> None:
        """Send a message. Raises BrokenPipeError once the client has left."""
        if self._left.is_set():
            raise BrokenPipeError("the client has left")
        self.loop.call_soon_threadsafe(self.send_queue.put_nowait, message)
