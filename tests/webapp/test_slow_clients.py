"""Slow clients: half-sent bodies, responses that are not read, idle connections.

They cost no thread: others are answered while they are there. And they are cut off.
"""

import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.web import HTMX, PATIENCE, messages, shown, wait_until

PACED = {"app": "tests.helpers.paced:create_app()", "TEST_PACE": "0.03"}
# More than one worker has threads, so that slow clients would occupy all of them.
SMALL = {"half": 70, "readers": 70, "idle": 70}
FULL = {"half": 200, "readers": 200, "idle": 500}
HALF = (
    b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 9000\r\n\r\nprompt=" + b"a+b+c+" * 1000
)
# Many requests for a file on one connection: the responses fill every buffer of it.
FILES = b"GET /htmx/htmx.js HTTP/1.1\r\nHost: x\r\n\r\n" * 200
LONGEST = 30  # seconds until a slow client is gone


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


@pytest.mark.parametrize("counts", [SMALL, pytest.param(FULL, marks=pytest.mark.slow)])
def test_slow_clients_delay_nobody_and_are_cut_off(own_server, counts):
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, min(4096, most)), most))
    with ExitStack() as stack:
        server = stack.enter_context(own_server(**PACED))
        stream = stack.enter_context(server.generate(HTMX, prompt="Echo: on", n_tokens=230))
        begun = time.monotonic()
        clients = [stack.enter_context(c) for c in slow_clients(server.port, **counts)]
        there = counts["half"] + counts["idle"]
        silent = clients[: counts["half"]] + clients[counts["half"] + counts["readers"] :]
        slowest = 0.0
        for _ in range(10):
            asked = time.monotonic()
            assert server.healthz()["status"] == "ok"
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
        # They are all still there, so they were no reason to wait.
        if counts is SMALL:
            assert sum(map(is_gone, silent)) == 0 and len(silent) == there
        page = shown(messages(line.decode() for line in stream))
        assert page.text("continuation") == " on" * 230
        wait_until(lambda: not established(server.port), "no connection left", 2 * LONGEST)
        lasted = time.monotonic() - begun
        assert all(map(is_gone, silent))
        assert "Traceback" not in server.log
        print(f"{counts}: /healthz within {slowest:.2f} s; all gone after {lasted:.1f} s")
        if counts is FULL:  # the promise of docs/deploying.md
            assert slowest < 1
            assert lasted < LONGEST + 10
