"""The inside views through HTTP: the time of a view, and the speed of eight clients beside it.

Each text is new to the server, so that every first view records a pass. Streams are measured
in turns with and without views, one view a second, so that a slow minute of the machine meets
both.
"""

import http.client
import random
import statistics
import threading
import time
from contextlib import closing
from urllib.parse import urlencode

from bench import server

N_CLIENTS = 8
STEP = "/inside/9"  # softmax: the row and the matrix of a head


def measure(port: int, n_vocab: int, n_ids: int, n_tokens: int, rounds: int) -> list[dict]:
    """Milliseconds of views, and tokens per second of the clients: medians of ``rounds``."""
    rng = random.Random(2)
    first, other, alone, beside = [], [], [], []
    for _ in range(rounds):
        text = new_text(rng, n_vocab, n_ids)
        first.append(view(port, text))
        other.append(view(port, {**text, "layer": "1"}))
        alone.append(server.rate(port, N_CLIENTS, n_tokens))
        with ViewsEachSecond(port, rng, n_vocab, n_ids):
            beside.append(server.rate(port, N_CLIENTS, n_tokens))
    rates = statistics.median(alone), statistics.median(beside)
    return [
        {"part": f"first view of {n_ids} tokens", "unit": "ms", "median": statistics.median(first)},
        {"part": "another layer", "unit": "ms", "median": statistics.median(other)},
        {"part": f"{N_CLIENTS} clients alone", "unit": "tokens/s", "median": rates[0]},
        {"part": "with a first view a second", "unit": "tokens/s", "median": rates[1]},
    ]


def new_text(rng: random.Random, n_vocab: int, n_ids: int) -> dict[str, str]:
    """Fields of a text of random ids."""
    return {"kept": ",".join(str(rng.randrange(n_vocab)) for _ in range(n_ids))}


def view(port: int, fields: dict[str, str]) -> float:
    """Milliseconds until a view has arrived whole. Raises RuntimeError if it is refused."""
    start = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", f"{STEP}?{urlencode(fields)}")
        with connection.getresponse() as response:
            response.read()
            if response.status != 200:
                raise RuntimeError(f"the view was answered with {response.status}")
    return 1e3 * (time.perf_counter() - start)


class ViewsEachSecond:
    """A context in which one new text a second is looked into."""

    def __init__(self, port: int, rng: random.Random, n_vocab: int, n_ids: int):
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port, rng, n_vocab, n_ids))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self, port: int, rng: random.Random, n_vocab: int, n_ids: int) -> None:
        while not self._done.is_set():
            due = time.monotonic() + 1
            view(port, new_text(rng, n_vocab, n_ids))
            self._done.wait(max(0, due - time.monotonic()))
