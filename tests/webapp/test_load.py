"""Many clients at once: closed tabs, clients that do not read, killed workers.

On real gunicorn and real sockets. Small sizes run always, the full ones are marked slow.
"""

import os
import random
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from urllib.parse import urlencode

import pytest

from tests.helpers.processes import children, resources
from tests.helpers.web import HTMX, PATIENCE, messages, shown, wait_until

PROMPTS = ["Once upon a time", "Not all heroes", "naïve café 🤖", "The old king said", "1 2 3"]


def small_and_full(small, full):
    return pytest.mark.parametrize("n", [small, pytest.param(full, marks=pytest.mark.slow)])


def fields_of(client: int, n_tokens: int = 12) -> dict:
    """A request that only this client makes."""
    prompt = PROMPTS[client % len(PROMPTS)]
    return {"prompt": prompt, "n_tokens": n_tokens, "temperature": 1, "seed": client}


def streamed_text(server, fields: dict, begun: Semaphore | None = None) -> str:
    """The continuation as the page shows it. Fails if the stream is not complete."""
    with server.generate(HTMX, **fields) as response:
        assert response.status == 200
        if begun:
            begun.release()
        page = shown(messages(line.decode() for line in response))
    assert "Done" in page.words("status"), page.words("status")
    return page.text("continuation")


@small_and_full(10, 32)
def test_many_clients_at_once_get_the_texts_they_get_alone(own_server, n):
    with own_server(GPT2_MAX_BATCH=8, GPT2_MAX_PER_CLIENT=40) as server:
        alone = [server.generate_json(**fields_of(client))["text"] for client in range(n)]
        with ThreadPoolExecutor(n) as clients:
            together = list(
                clients.map(lambda client: streamed_text(server, fields_of(client)), range(n))
            )
        assert together == alone
        server.wait_for_load(0)


@small_and_full(24, 200)
def test_closed_tabs_leave_nothing_behind(own_server, n):
    rng = random.Random(7)

    def open_and_close(seconds: float):
        with server.generate(HTMX, **fields_of(int(seconds * 1000), 200)) as response:
            response.read1(1)
            time.sleep(seconds)

    with own_server(GPT2_MAX_BATCH=4, GPT2_MAX_QUEUE=64) as server:
        (pid,) = children(server.process.pid)
        with ThreadPoolExecutor(24) as tabs:
            list(tabs.map(open_and_close, [0.2] * 24))
        server.wait_for_load(0)
        before = resources(pid)
        with ThreadPoolExecutor(24) as tabs:
            list(tabs.map(open_and_close, [rng.uniform(0, 0.6) for _ in range(n)]))
        server.wait_for_load(0)

        def as_before():
            now = resources(pid)
            # gunicorn's pool of threads (batch + queue + 24, see its conf) grows and stays.
            return now.threads <= 4 + 64 + 24 + 8 and now.files <= before.files + 1

        wait_until(as_before, "threads and files released")
        assert resources(pid).resident_mb < before.resident_mb + 38
        assert streamed_text(server, fields_of(1))


def test_a_client_that_stops_reading_does_not_delay_the_others(server):
    expected = server.generate_json(**fields_of(3))["text"]
    asleep = socket.socket()
    asleep.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    asleep.settimeout(PATIENCE)
    asleep.connect(("127.0.0.1", server.port))
    body = urlencode(fields_of(9, 200)).encode()
    asleep.sendall(
        b"POST /generate HTTP/1.1\r\nHost: x\r\nHX-Request: true\r\nConnection: close\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    with asleep:
        assert asleep.recv(200).startswith(b"HTTP/1.1 200")
        assert streamed_text(server, fields_of(3)) == expected
        server.wait_for_load(0)  # its text is generated, whether it is read or not
        rest = b"".join(iter(lambda: asleep.recv(65536), b""))
        assert b"Done" in rest


@small_and_full(4, 16)
def test_sigterm_lets_streams_finish(own_server, n):
    with own_server(app="tests.helpers.paced:create_app()", TEST_PACE=0.01) as server:
        with ThreadPoolExecutor(n) as clients:
            fields, begun = {"prompt": "Echo: word", "n_tokens": 30}, Semaphore(0)
            texts = [clients.submit(streamed_text, server, fields, begun) for _ in range(n)]
            for _ in range(n):
                assert begun.acquire(timeout=PATIENCE)
            assert server.stop() == 0
            assert [text.result() for text in texts] == [" word" * 30] * n


def test_a_killed_worker_is_replaced_and_the_others_go_on(own_server):
    with own_server(WEB_CONCURRENCY=2) as server:
        wait_until(lambda: len(children(server.process.pid)) == 2, "two workers")
        killed, kept = children(server.process.pid)
        os.kill(killed, signal.SIGKILL)

        def replaced():
            now = children(server.process.pid)
            return len(now) == 2 and killed not in now

        wait_until(replaced, "a new worker")
        assert kept in children(server.process.pid)
        texts = {streamed_text(server, fields_of(5)) for _ in range(6)}
        assert len(texts) == 1
