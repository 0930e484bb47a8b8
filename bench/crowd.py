"""The clients of ``python -m bench soak``: each kind repeats what its like do all day.

A client is a thread with an address of its own (``127.0.0.N``), because the server limits what one
address may have. Every request ends in one call of :meth:`Record.add`: with an outcome that is
expected of its kind, or with one that is not, which is kept whole for the report.

Invariant: a client ends soon after ``record.over`` is set.
"""

import http.client
import random
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.helpers import hostile
from tests.helpers.slow_clients import slow_clients

FORM = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}
SENTENCE = "Once upon a time there was a little robot who wanted to see how it thinks. "
BUSY = (429, 503)  # with Retry-After: the server is full, or the client has enough
LONGEST = 120.0  # seconds until an answer must have begun; a client that is cut off notices before


@dataclass
class Record:
    """What the clients have met so far. Shared by all threads."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind, outcome)
    unexplained: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    first_tokens: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds)
    n_unexplained: int = 0
    n_tokens: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str) -> None:
        """Count an outcome that is expected."""
        with self._lock:
            self.outcomes[kind, outcome] += 1

    def add_unexplained(self, kind: str, what: str) -> None:
        """Keep an outcome that is not expected."""
        with self._lock:
            self.n_unexplained += 1
            self.unexplained.append(f"{kind}: {what}")

    def add_text(self, first_token: float, n_tokens: int) -> None:
        """Count a text that has arrived whole: seconds to its first token, and its tokens."""
        with self._lock:
            self.first_tokens.append((time.monotonic(), first_token))
            self.n_tokens += n_tokens


@dataclass
class Client:
    """One client: where it connects from, and its own random numbers."""

    kind: str
    port: int
    number: int
    record: Record
    rng: random.Random

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request on a connection of its own. The response closes it."""
        source = (f"127.0.{1 + self.number // 250}.{1 + self.number % 250}", 0)
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=LONGEST, source_address=source
        )
        headers = {"Connection": "close", **(headers or {})}
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders(body)
        return connection.getresponse()

    def post(self, path: str, **fields: Any) -> http.client.HTTPResponse:
        """Submit a form as the page does."""
        return self.request("POST", path, urlencode(fields).encode(), FORM)

    def finish(self, response: http.client.HTTPResponse, expected: tuple[int, ...]) -> bytes:
        """Read an answer and count it: its status is expected, or says when to come back."""
        with response:
            body = response.read()
        busy = response.status in BUSY and response.headers.get("Retry-After")
        if response.status in expected or busy:
            self.record.add(self.kind, str(response.status))
        else:
            self.record.add_unexplained(self.kind, f"{response.status} {body[:300]!r}")
        if busy:
            self.pause(1)
        return body

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is over."""
        self.record.over.wait(seconds * self.rng.uniform(0.5, 1.5))


def read_text(client: Client, n_tokens: int | None = None) -> None:
    """Generate a text and read it to its end."""
    n_tokens = n_tokens or client.rng.randint(20, 200)
    begun = time.monotonic()
    prompt = SENTENCE * client.rng.randint(1, 8)
    seed = client.rng.randrange(2**32)
    response = client.post("/generate", prompt=prompt, n_tokens=n_tokens, seed=seed, temperature=1)
    if response.status != 200:
        client.finish(response, ())
        return
    first, n_chips, lines = 0.0, 0, []
    with response:
        for line in response:
            lines.append(line)
            if b'data-index="' in line and b"generated" in line:
                first = first or time.monotonic() - begun
                n_chips += line.count(b"data-index=")
    if not any(b"Done" in line for line in lines):
        client.record.add_unexplained(client.kind, f"a text ended in {b''.join(lines[-3:])!r}")
        return
    client.record.add(client.kind, "text")
    client.record.add_text(first, n_chips)
    client.pause(1)


def leave(client: Client) -> None:
    """Begin to read a text and close the connection."""
    response = client.post("/generate", prompt=SENTENCE, n_tokens=200, temperature=1)
    if response.status != 200:
        client.finish(response, ())
        return
    with response:
        response.read1(1)
        client.pause(0.5)
    client.record.add(client.kind, "left")


def type_text(client: Client) -> None:
    """Type a sentence: tokens after each word, candidates at its end."""
    words = SENTENCE.split()
    for n in range(1, len(words) + 1):
        if client.record.over.is_set():
            return
        client.finish(client.post("/tokenize", prompt=" ".join(words[:n])), (200,))
        client.pause(0.2)
    client.finish(client.post("/next", prompt=SENTENCE), (200, 204))


def look_inside(client: Client) -> None:
    """Open a view of a text that is new to the server, and another layer of it."""
    text = ",".join(str(client.rng.randrange(50257)) for _ in range(40))
    for layer in (0, 1):
        client.finish(client.request("GET", f"/inside/9?kept={text}&layer={layer}"), (200,))
    client.pause(2)


def score(client: Client) -> None:
    """Have a text scored that is longer than the context."""
    text = SENTENCE * client.rng.randint(20, 80)
    client.finish(client.post("/score", prompt=text), (200,))
    client.pause(2)


def complete(client: Client) -> None:
    """A program: two completions by the API, not streamed."""
    body = b'{"model": "%s", "prompt": "Once upon a time", "max_tokens": 30, "n": 2}'
    models = client.request("GET", "/v1/models")
    name = client.finish(models, (200,)).partition(b'"id":"')[2].partition(b'"')[0]
    headers = {"Content-Type": "application/json"}
    client.finish(client.request("POST", "/v1/completions", body % name, headers), (200,))
    client.pause(1)


def take_all(client: Client) -> None:
    """Ask for many texts at once from one address: most are refused."""
    threads = [threading.Thread(target=read_text, args=(client, 50)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.pause(10)


def attack(client: Client) -> None:
    """Send requests that no honest client sends."""
    case = hostile.case(client.rng.randrange(2**40))
    try:
        with client.request(case.method, case.address, case.body, case.headers) as response:
            body = response.read()
    except (OSError, http.client.HTTPException) as error:
        client.record.add(client.kind, type(error).__name__)  # the server may hang up
        return
    refused = response.status in BUSY and response.headers.get("Retry-After")
    if (response.status >= 500 and not refused) or b"Traceback" in body:
        client.record.add_unexplained(client.kind, f"{response.status} to {case}")
    client.record.add(client.kind, "answered")
    client.pause(0.1)


def be_slow(client: Client) -> None:
    """Hold connections until the server closes them: half a body, nothing read, nothing sent."""
    sockets = slow_clients(client.port, half=1, readers=1, idle=1)
    client.pause(60)  # longer than the server waits for any of them
    for one in sockets:
        with one:
            client.record.add(client.kind, "closed" if _is_closed(one) else "open")
            if not client.record.over.is_set() and not _is_closed(one):
                client.record.add_unexplained(client.kind, "still connected after a minute")


def _is_closed(one: socket.socket) -> bool:
    """Whether the server has closed the connection, after what it had sent is read."""
    one.setblocking(False)
    try:
        while one.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


# What each kind does, and how many there are of it.
KINDS: dict[str, tuple[Callable[[Client], None], int]] = {
    "reader": (read_text, 10),
    "leaver": (leave, 3),
    "typist": (type_text, 4),
    "inside": (look_inside, 1),
    "score": (score, 1),
    "program": (complete, 1),
    "greedy": (take_all, 1),
    "hostile": (attack, 2),
    "slow": (be_slow, 20),
}


def start(port: int, record: Record) -> list[threading.Thread]:
    """Start all clients."""
    threads, number = [], 0
    for kind, (act, count) in KINDS.items():
        for _ in range(count):
            client = Client(kind, port, number, record, random.Random(number))
            threads.append(threading.Thread(target=_repeat, args=(client, act), daemon=True))
            number += 1
    for thread in threads:
        thread.start()
    return threads


def _repeat(client: Client, act: Callable[[Client], None]) -> None:
    """Do the same again until the run is over. An error of the connection is unexplained."""
    while not client.record.over.is_set():
        try:
            act(client)
        except (OSError, http.client.HTTPException) as error:
            if not client.record.over.is_set():
                client.record.add_unexplained(client.kind, repr(error))
