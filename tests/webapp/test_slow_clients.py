"""Slow clients: half-sent bodies, responses that are not read, idle connections.

They cost no thread: others are answered while they are there. And they are cut off.
"""

import resource
import time
from contextlib import ExitStack

import pytest

from tests.helpers.slow_clients import established, is_gone, slow_clients
from tests.helpers.web import HTMX, messages, shown, wait_until

PACED = {"app": "tests.helpers.paced:create_app()", "TEST_PACE": "0.03"}
# More than one worker has threads, so that slow clients would occupy all of them.
SMALL = {"half": 70, "readers": 70, "idle": 70}
FULL = {"half": 200, "readers": 200, "idle": 500}
LONGEST = 30  # seconds until a slow client is gone


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
