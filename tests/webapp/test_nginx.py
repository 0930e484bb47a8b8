"""The page behind Debian's nginx with ``deploy/nginx.conf``; needs the package nginx."""

import re
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.slow_clients import established, is_gone, slow_clients
from tests.helpers.web import HTMX, Server, free_port, messages, parse, shown, wait_until
from tests.webapp.test_slow_clients import FULL, LONGEST, PACED

pytestmark = pytest.mark.slow


@contextmanager
def nginx(directory, upstream: int):
    """nginx as configured, but for the two ports; its processes end with the block."""
    port = free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    assert "127.0.0.1:8000" in text and "listen 8080 " in text
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    text = text.replace("listen 8080 ", f"listen 127.0.0.1:{port} ")
    path = directory / "nginx.conf"
    path.write_text(f"daemon off;\npid {directory}/nginx.pid;\nerror_log stderr;\n{text}")
    log = (directory / "nginx.log").open("wb")
    process = subprocess.Popen(["nginx", "-c", str(path)], stdout=log, stderr=log)
    try:
        server = Server(process, port, directory / "nginx.log")
        wait_until(lambda: server.healthz()["status"] == "ok" if is_up(port) else False, "nginx")
        yield server
    finally:
        process.terminate()
        process.wait()
        log.close()


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def behind(own_server, tmp_path):
    """The page behind nginx: both servers."""
    with own_server(**PACED, GPT2_TRUSTED_PROXIES=1) as server:
        with nginx(tmp_path, server.port) as front:
            yield front, server


def test_addresses_are_those_of_the_proxy(behind):
    front, _ = behind
    forged = {"X-Forwarded-Prefix": "/forged", "X-Forwarded-Proto": "ftp"}
    with front.request("GET", "/api", headers=forged) as answer:
        assert parse(answer.read().decode()).id("base-url").text == f"{front.url}/v1"


def test_a_stream_passes_as_it_comes(behind):
    front, _ = behind
    with front.generate(HTMX, prompt="Echo: on", n_tokens=60) as stream:
        times = [time.monotonic() for line in stream if line == b"\n"]
    assert len(times) > 60
    assert times[-1] - times[0] > 60 * 0.03 / 4


def test_a_client_that_leaves_frees_its_place(behind):
    front, server = behind
    with front.generate(HTMX, prompt="Slow: on", n_tokens=240) as stream:
        server.wait_for_load(1)
        stream.readline()
    server.wait_for_load(0)


def test_slow_clients_delay_nobody_and_are_cut_off(behind):
    front, server = behind
    with ExitStack() as stack:
        stream = stack.enter_context(front.generate(HTMX, prompt="Echo: on", n_tokens=230))
        begun = time.monotonic()
        clients = [stack.enter_context(c) for c in slow_clients(front.port, **FULL)]
        slowest = 0.0
        for _ in range(10):
            asked = time.monotonic()
            assert front.healthz()["status"] == "ok"
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
        page = shown(messages(line.decode() for line in stream))
        assert page.text("continuation") == " on" * 230
        stream.close_connection()
        wait_until(lambda: not established(front.port), "no connection left", 2 * LONGEST)
        lasted = time.monotonic() - begun
        silent = clients[: FULL["half"]] + clients[FULL["half"] + FULL["readers"] :]
        assert all(map(is_gone, silent))
        print(f"nginx, {FULL}: /healthz within {slowest:.2f} s; all gone after {lasted:.1f} s")
        assert slowest < 1 and lasted < LONGEST + 10
    assert not re.search(r"\[(emerg|alert|crit)\]", front.log)
    assert "Traceback" not in server.log
