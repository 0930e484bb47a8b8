"""The page as clients see it: a real gunicorn, real sockets, tokens timed as they arrive.

A client receives the same stream of partials as a browser. A token counts when a chip with a
new ``data-index`` has arrived. Streams are only recorded while they run, chunk by chunk, and
parsed afterwards: readers of a page have processors of their own, these take the server's.
"""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from tests.helpers.web import free_port, messages, parse

ROOT = Path(__file__).parent.parent
MESSAGE_END = b"\n\n"
FORM = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}

Chunks = list[tuple[float, bytes]]  # of a stream, each with the second when it came


@contextmanager
def running(directory: Path, threads: int, max_batch: int, **settings: int) -> Iterator[int]:
    """The port of a server that has loaded the model in ``directory``."""
    with started(directory, threads, GPT2_MAX_BATCH=max_batch, **settings) as (port, _):
        wait_until_ready(port)
        yield port


@contextmanager
def started(
    directory: Path, threads: int, log: IO[str] | None = None, **settings: int
) -> Iterator[tuple[int, int]]:
    """The port and the process of a server. It writes its log to ``log``."""
    port = free_port()
    environment = {
        **os.environ,
        "GPT2_MODEL": str(directory.resolve()),
        "GPT2_REQUEST_LOG": "off",
        "GPT2_THREADS": str(threads),
        **{name: str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--log-level", "warning", "webapp:create_app()"],
        cwd=ROOT, env=environment, stderr=log,
    )  # fmt: skip
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(port: int) -> None:
    """Wait until the server generates a token."""
    for _ in range(300):
        try:
            if token_times(record(port, "Hello", 1)):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server does not answer")


def record(port: int, prompt: str, n_tokens: int, chunks: Chunks | None = None) -> Chunks:
    """One client: the stream of one generation, appended to ``chunks`` as it arrives."""
    chunks = [] if chunks is None else chunks
    body = urlencode({"prompt": prompt, "n_tokens": n_tokens, "temperature": 0})
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("POST", "/generate", body, FORM)
        with connection.getresponse() as response:
            while chunk := response.read1():
                chunks.append((time.perf_counter(), chunk))
    return chunks


def token_times(chunks: Chunks) -> list[float]:
    """When each generated token arrived, in seconds.

    A chip can arrive twice: alone, and again in the group of its completed character.
    """
    arrived: dict[str, float] = {}
    unfinished = b""
    for second, chunk in chunks:
        *complete, unfinished = (unfinished + chunk).split(MESSAGE_END)
        for message in complete:
            for text in messages([*message.decode().split("\n"), ""]):  # none in a heartbeat
                for chip in parse(text).all(class_="generated"):
                    arrived.setdefault(chip.attributes["data-index"], second)
    return list(arrived.values())


class Streams:
    """Clients that each receive a text of ``n_tokens``; they begin at once."""

    def __init__(self, port: int, n_clients: int, n_tokens: int):
        self._n_tokens = n_tokens
        self._recorded: list[Chunks] = [[] for _ in range(n_clients)]
        self._threads = [
            threading.Thread(
                target=record,
                args=(port, f"Reader number {i} asks for a story about", n_tokens, chunks),
            )
            for i, chunks in enumerate(self._recorded)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def any_done(self) -> bool:
        """Whether one of the texts has ended."""
        return not all(thread.is_alive() for thread in self._threads)

    def wait_for_tokens(self) -> None:
        """Wait until every client has received a token, or one has ended."""
        while not self.any_done:
            if all(any(b"generated" in one for _, one in chunks) for chunks in self._recorded):
                return
            time.sleep(0.02)

    def times(self) -> list[list[float]]:
        """When the tokens of each client arrived, once all have ended."""
        for thread in self._threads:
            thread.join()
        times = [token_times(chunks) for chunks in self._recorded]
        short = [len(one) for one in times if len(one) != self._n_tokens]
        if short:
            raise RuntimeError(f"texts of {short} tokens came, not of {self._n_tokens}")
        return times


def rate(port: int, n_readers: int, n_tokens: int) -> float:
    """Tokens per second of all clients together, while all of them receive tokens.

    Raises RuntimeError if they never do at once, because the texts are too short.
    """
    times = Streams(port, n_readers, n_tokens).times()
    begin, end = max(one[0] for one in times), min(one[-1] for one in times)
    if begin >= end:
        raise RuntimeError(f"{n_readers} readers never read at once: {n_tokens} is too few tokens")
    return sum(begin < second <= end for one in times for second in one) / (end - begin)
