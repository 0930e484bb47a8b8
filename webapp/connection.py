"""A client's connection: its request as it arrives, and what is still to be sent.

Below ``worker``, whose loop owns the sockets. Invariant: nothing here waits for the client.
"""

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import h11
from gunicorn import http, sock
from gunicorn.workers.gthread import TConn

PATIENCE = 10.0  # seconds
MIN_PROGRESS = 1024  # bytes of a body or a response; a head has to be complete
MAX_HEAD = 64 * 1024  # bytes; gunicorn has lower limits for a line and for the number of fields
SEND_BUFFER = 256 * 1024  # bytes that the system keeps for a client that does not read
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Outgoing:
    """A client's socket as the threads see it: sending never waits, and there is no more to read.

    ``on_unsent`` is called when the network has not taken everything.
    """

    def __init__(self, raw: socket.socket, on_unsent: Callable[[], None]):
        self.raw, self._on_unsent = raw, on_unsent
        self.unsent = bytearray()
        self.is_cut = False
        self._lock = threading.Lock()

    def sendall(self, data: bytes) -> None:
        """Send ``data``, now or later. Raises BrokenPipeError once the client is cut off."""
        with self._lock:
            if self.is_cut:
                raise BrokenPipeError(errno.EPIPE, "the client was cut off")
            n = 0 if self.unsent else self._send(data)
            self.unsent += memoryview(data)[n:]
            waits = bool(self.unsent)
        if waits:
            self._on_unsent()

    def send(self, data: bytes) -> int:
        self.sendall(data)
        return len(data)

    def flush(self) -> int:
        """Send what the network takes of the rest; the number of bytes. Raises OSError."""
        with self._lock:
            n = self._send(self.unsent)
            del self.unsent[:n]
            return n

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.raw.send(data)
        except NOT_NOW:
            return 0

    def cut(self) -> None:
        """End the connection; threads that use it notice at their next call."""
        with self._lock:
            self.is_cut = True
            self.unsent.clear()
            try:
                self.raw.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client has left

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What :func:`webapp.request.client_left` peeks at; nothing else, the request was read."""
        return self.raw.recv(size, flags) if flags & socket.MSG_PEEK else b""

    def getpeername(self) -> Any:
        return self.raw.getpeername()

    def ignore(self, *_: object) -> None:
        """The loop decides when a socket blocks, times out and closes."""

    setblocking = settimeout = shutdown = close = ignore


class Connection(TConn):  # type: ignore[misc]
    """One client: the request that is being read, and the response that is being sent."""

    def __init__(
        self,
        raw: socket.socket,
        client: Any,
        server: Any,
        cfg: Any,
        max_body: int,
        on_unsent: Callable[["Connection"], None],
    ):
        super().__init__(cfg, raw, client, server)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.raw: Any = sock.ssl_wrap_socket(raw, cfg) if cfg.is_ssl else raw
        self.sock = Outgoing(self.raw, lambda: on_unsent(self))
        self.initialized = True  # in gunicorn's terms: handle() has nothing to prepare
        self.is_watched = self.is_handled = self.keeps = False
        self.deadline, self.moved = 0.0, 0  # when progress is checked; bytes since the last check
        self.begin_request(b"", max_body)

    def begin_request(self, data: bytes, max_body: int) -> None:
        """Expect the next request, of which ``data`` has come already."""
        self.received, self._max_body = bytearray(), max_body
        self.has_head = self.is_complete = self.is_last = self.is_invalid = False
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.rest = b""  # what came after the request: the beginning of the next one
        if data:
            self.receive(data)

    def receive(self, data: bytes) -> None:
        """Take bytes of the request.

        ``is_complete`` is whether there is enough to answer: all of it, or too much, or nonsense.
        """
        self.received += data
        try:
            self._http.receive_data(data)
            while not self.is_complete:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    break
                if isinstance(event, h11.Request):
                    self._take_head(event)
                elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                    self.is_complete = True
            if len(self.received) > self._max_body + MAX_HEAD:
                self.is_complete = self.is_last = True
        except h11.RemoteProtocolError:
            # Of a head, gunicorn's own parser says what is wrong; a body would fail in the app.
            self.is_complete = self.is_last = True
            self.is_invalid = self.has_head
        if self.is_complete and not self.is_last:
            self.rest = self._http.trailing_data[0]

    def _take_head(self, head: h11.Request) -> None:
        self.has_head = True
        sizes = [int(value) for name, value in head.headers if name == b"content-length"]
        if sizes and sizes[0] > self._max_body:  # the app refuses it, and reads nothing
            self.is_complete = self.is_last = True
        elif self._http.they_are_waiting_for_100_continue:
            self.sock.sendall(CONTINUE)

    def take_request(self) -> None:
        """Give the complete request to gunicorn's parser."""
        end = len(self.received) - len(self.rest)
        self.parser = http.get_parser(self.cfg, [bytes(self.received[:end])], self.client)
        self.received.clear()
        self.data_ready = True

    @property
    def n_held(self) -> int:
        """Bytes in memory that wait for this client."""
        return len(self.received) + len(self.sock.unsent)

    def wait(self, seconds: float = PATIENCE) -> None:
        """Begin a period in which the client has to make progress."""
        self.deadline, self.moved = time.monotonic() + seconds, 0

    def is_slow(self, now: float) -> bool:
        """Whether a period ended without progress; a new one begins after one with progress."""
        if not self.is_watched or now < self.deadline:
            return False
        if self.moved < MIN_PROGRESS or not (self.has_head or self.sock.unsent):
            return True
        self.wait()
        return False
