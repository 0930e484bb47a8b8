"""Slow clients: half-sent bodies, responses that are not read, idle connections."""

import socket
import time
from pathlib import Path

from tests.helpers.web import PATIENCE

HALF = (
    b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 9000\r\n\r\nprompt=" + b"a+b+c+" * 1000
)
# Many requests for a file on one connection: the responses fill every buffer of it.
FILES = b"GET /htmx/htmx.js HTTP/1.1\r\nHost: x\r\n\r\n" * 200


def connect(port: int, number: int) -> socket.socket:
    """A connection with small buffers, from one of several addresses of this machine."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.settimeout(PATIENCE)
    client.bind((f"127.0.0.{2 + number % 20}", 0))
    client.connect(("127.0.0.1", port))
    return client


def slow_clients(port: int, half: int, readers: int, idle: int) -> list[socket.socket]:
    """Clients that have sent half a body, that read nothing, and that do nothing."""
    clients = [connect(port, number) for number in range(half + readers + idle)]
    for client in clients[:half]:
        client.sendall(HALF)
    for client in clients[half : half + readers]:
        client.sendall(FILES)
        time.sleep(0.01)  # not all at the same instant, which would be another test
    return clients


def is_gone(client: socket.socket) -> bool:
    """Whether the server has closed the connection. Reads nothing that has come."""
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def established(port: int) -> int:
    """The server's connections that are open, as the system counts them."""
    listed = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in listed]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
