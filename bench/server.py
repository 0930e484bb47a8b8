"""The page as readers see it: real gunicorn, real sockets, tokens counted as they arrive."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).parent.parent
TOKEN = b'hx-target="#continuation" hx-swap="beforeend"'  # each token's message has it once
FORM = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}


@contextmanager
def running(directory: Path, threads: int, max_batch: int):
    """The port of a server that has loaded the model in ``directory``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "GPT2_MODEL": str(directory.resolve()),
        "GPT2_MAX_BATCH": str(max_batch),
        "GPT2_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--log-level", "warning", "webapp:create_app()"], cwd=ROOT, env=environment
    )
    try:
        wait_until_ready(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(port: int) -> None:
    """Until a text of one token is written."""
    for _ in range(300):
        try:
            if read(port, "Hello", 1):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server does not answer")


def read(port: int, prompt: str, n_tokens: int) -> list[float]:
    """One reader: when each token of a text came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body = urlencode({"prompt": prompt, "n_tokens": n_tokens, "temperature": 0})
    connection.request("POST", "/generate", body, FORM)
    times = []
    with connection.getresponse() as response:
        for line in response:
            if TOKEN in line:
                times.append(time.perf_counter())
    return times


def rate(port: int, n_readers: int, n_tokens: int) -> float:
    """Tokens per second of all readers, from the moment when the last of them has begun."""
    times: list[list[float]] = [[] for _ in range(n_readers)]

    def reader(i: int) -> None:
        times[i] = read(port, f"Reader number {i} asks for a story about", n_tokens)

    threads = [threading.Thread(target=reader, args=(i,)) for i in range(n_readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    short = [len(came) for came in times if len(came) != n_tokens]
    if short:
        raise RuntimeError(f"texts of {short} tokens came, not of {n_tokens}")
    begin, end = max(came[0] for came in times), min(came[-1] for came in times)
    return sum(begin < t <= end for came in times for t in came) / (end - begin)
