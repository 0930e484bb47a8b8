"""gunicorn's threaded worker, with threads that never wait for a client.

gunicorn's own ``gthread`` reads requests and writes responses in the thread that answers them, so
clients that send or read slowly occupy all threads. Here the worker's main loop reads a request
until it is complete, and a thread gets it whole; what the network does not take of a response is
kept and sent by the loop. ``gunicorn.conf.py`` names this class.

Invariants: only the loop's thread touches the poller; only the loop closes a socket. A client
that moves less than ``MIN_PROGRESS`` bytes in ``PATIENCE`` seconds while the server waits for it
is cut off, and so are those that hold most, beyond ``MAX_HELD`` bytes in all.
"""

import errno
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from webapp.connection import NOT_NOW, PATIENCE, Connection

LINGER = 2.0  # seconds for a client to close its side after the last response
MAX_HELD = 128 * 2**20  # bytes of incomplete requests and unsent responses, over all clients
CHUNK = 64 * 1024
Act = Callable[[Connection, object], None]
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BufferingWorker(ThreadWorker):  # type: ignore[misc]
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._max_connections = self.worker_connections
        self.worker_connections += 1  # beyond them gunicorn would not accept; here one gives way
        self._connections: set[Connection] = set()
        self._next_check = 0.0
        self._stop_at: float | None = None  # when a stopping worker drops idle connections

    @property
    def max_body(self) -> int:
        """Bytes of the largest body that the app takes."""
        return int(self.app.callable.config["MAX_CONTENT_LENGTH"])

    # Reading

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection. If there are too many, the one that waited longest gives way."""
        if self.nr_conns >= self._max_connections:
            self._drop_oldest()
        try:
            raw, address = listener.accept()
            server = listener.getsockname()
            conn = Connection(raw, address, server, self.cfg, self.max_body, self._defer_rest)
        except OSError as error:  # no file is left for it, or the client has left already
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._drop_oldest()
            return
        self.nr_conns += 1
        self._connections.add(conn)
        conn.wait()
        self._watch(conn, selectors.EVENT_READ, self._read)

    def _read(self, conn: Connection, _: object) -> None:
        try:
            data = conn.raw.recv(CHUNK)
        except NOT_NOW:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
            return
        if not conn.received:
            conn.wait()
        conn.moved += len(data)
        while data and not conn.is_complete:
            conn.receive(data)
            # What TLS has decrypted already makes no socket readable.
            data = conn.raw.recv(CHUNK) if self.cfg.is_ssl and conn.raw.pending() else b""
        if conn.is_invalid:
            self._unwatch(conn)
            conn.sock.sendall(BAD_REQUEST)
            self._close(conn)
        elif conn.is_complete:
            self._answer(conn)

    def _answer(self, conn: Connection) -> None:
        """Hand a complete request to a thread."""
        self._unwatch(conn)
        conn.take_request()
        conn.is_handled = True
        self.enqueue_req(conn)

    def finish_request(self, conn: Connection, future: "Future[bool]") -> None:
        """A thread has answered: send the rest, then read the next request or close."""
        conn.is_handled = False
        done = not future.cancelled() and future.exception() is None
        conn.keeps = done and bool(future.result()) and not conn.is_last and self.alive
        if conn.sock.is_cut:
            self._drop(conn)
        elif conn.sock.unsent:
            self.send_rest(conn)
        else:
            self._go_on(conn)

    def _go_on(self, conn: Connection) -> None:
        """The response is sent: wait for the next request, or for the client to close."""
        if not conn.keeps:
            self._close(conn)
            return
        conn.begin_request(conn.rest, self.max_body)
        if conn.is_complete:
            self._answer(conn)
            return
        conn.wait(PATIENCE if conn.received else self.cfg.keepalive)
        self._watch(conn, selectors.EVENT_READ, self._read)

    # Writing

    def _defer_rest(self, conn: Connection) -> None:
        self.method_queue.defer(self.send_rest, conn)

    def send_rest(self, conn: Connection) -> None:
        """Send what is unsent as soon as the network takes it."""
        if conn.sock.unsent and conn in self._connections and not conn.is_watched:
            conn.wait()
            self._watch(conn, selectors.EVENT_WRITE, self._write)

    def _write(self, conn: Connection, _: object) -> None:
        try:
            conn.moved += conn.sock.flush()
        except OSError:
            self._drop(conn)
            return
        if not conn.sock.unsent:
            self._unwatch(conn)
            if not conn.is_handled:
                self._go_on(conn)

    # Closing

    def _close(self, conn: Connection) -> None:
        """Close this side and wait for the other, so that the client reads all of the response."""
        try:
            conn.raw.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return
        conn.has_head = False
        conn.wait(LINGER)
        self._watch(conn, selectors.EVENT_READ, self._discard)

    def _discard(self, conn: Connection, _: object) -> None:
        try:
            if conn.raw.recv(CHUNK):
                return
        except NOT_NOW:
            return
        except OSError:
            pass
        self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        """End a connection at once; one that a thread answers is closed after that."""
        self._unwatch(conn)
        if conn.is_handled:
            conn.sock.cut()
            return
        conn.raw.close()
        self._connections.discard(conn)
        self.nr_conns -= 1

    def _drop_oldest(self) -> None:
        waiting = [conn for conn in self._connections if conn.is_watched and not conn.is_handled]
        if waiting:
            self._drop(min(waiting, key=lambda conn: conn.deadline))

    def murder_keepalived(self, force: bool = False) -> None:
        """Cut off the clients that make no progress. gunicorn calls it after each event."""
        now = time.monotonic()
        if now < self._next_check and not force:
            return
        self._next_check = now + 0.5
        if not self.alive and self._stop_at is None:
            self._stop_at = now + LINGER
        is_stopping = self._stop_at is not None and now >= self._stop_at
        for conn in list(self._connections):
            is_idle = conn.is_watched and not conn.n_held
            if conn.is_slow(now) or (is_idle and is_stopping):
                self._drop(conn)
        held = sorted(self._connections, key=lambda conn: conn.n_held)
        while held and sum(conn.n_held for conn in held) > MAX_HELD:
            self._drop(held.pop())

    # The poller

    def _watch(self, conn: Connection, event: int, act: Act) -> None:
        conn.is_watched = True
        self.poller.register(conn.raw, event, partial(act, conn))

    def _unwatch(self, conn: Connection) -> None:
        if conn.is_watched:
            conn.is_watched = False
            self.poller.unregister(conn.raw)
