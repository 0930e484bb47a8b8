"""gunicorn's worker: requests in every framing, whole or in pieces, one after the other."""

import json
import socket
from http.client import HTTPResponse

import pytest

from tests.helpers.web import PATIENCE

FORM = "application/x-www-form-urlencoded"
PROMPT = b"prompt=Not+all+heroes"
HEAD = f"POST /tokenize HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Type: {FORM}\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def wire(server):
    """A connection to the server."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as wire:
        yield wire


def answer(wire) -> tuple[int, bytes]:
    """The next response: status and body."""
    response = HTTPResponse(wire)
    response.begin()
    return response.status, response.read()


def sized(body: bytes) -> bytes:
    return HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


CHUNKED = HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%s\r\n" % (len(part), part) for part in (PROMPT[:5], PROMPT[5:])
) + b"0\r\n\r\n"  # fmt: skip


@pytest.mark.parametrize("request_", [sized(PROMPT), CHUNKED], ids=["sized", "chunked"])
def test_a_body_arrives_whole_however_it_is_sent(wire, request_):
    for n in (len(request_), 7):
        for at in range(0, len(request_), n):
            wire.sendall(request_[at : at + n])
        status, body = answer(wire)
        assert status == 200 and json.loads(body)["n_tokens"] == 3


def test_requests_that_come_together_are_answered_in_order(wire):
    last = HEALTH.replace(b"Host", b"Connection: close\r\nHost")
    wire.sendall(HEALTH + sized(PROMPT) + last)
    came = b"".join(iter(lambda: wire.recv(4096), b""))
    answers = came.split(b"HTTP/1.1 200 OK")[1:]
    assert [b"n_tokens" in one for one in answers] == [False, True, False]


def test_a_client_that_asks_first_is_told_to_go_on(wire):
    body = PROMPT
    wire.sendall(HEAD.encode() + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert wire.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
    wire.sendall(body)
    assert answer(wire)[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_comes(wire):
    wire.sendall(HEAD.encode() + b"Content-Length: 999999999\r\n\r\nprompt=a")
    status, body = answer(wire)
    assert status == 413 and json.loads(body)["error"]["message"]
    assert wire.recv(1) == b""  # what follows is not taken for a request


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        HEAD.encode() + b"Content-Length: -1\r\n\r\n",
        HEAD.encode() + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        HEAD.encode() + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nxy\r\n",
        HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nNa me: x\r\n\r\n",
    ],
    ids=lambda value: ascii(value)[2:40],
)
def test_nonsense_is_a_4xx_or_a_closed_connection(server, wire, nonsense):
    try:
        wire.sendall(nonsense)
        came = b"".join(iter(lambda: wire.recv(4096), b""))
    except ConnectionResetError:
        came = b""
    assert not came or came.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert server.healthz()["status"] == "ok"
    assert "Traceback" not in server.log
