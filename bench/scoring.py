"""What a text that is scored costs a client that receives a stream.

One client receives one text after the other. Windows follow each other in pairs: one at whose
beginning another client posts a long text to ``/score``, and that ends with its connection, and
one without. The order changes from pair to pair. The share of a pair is the rate of the window
with scoring over that of the other one. Then the whole text is scored, alone and beside the stream.
"""

import http.client
import json
import threading
import time
from contextlib import closing

from bench import server
from bench.tokenizers import english
from bench.views import Window, rate_in, row

WINDOW = 6.0  # seconds
JSON = {"Content-Type": "application/json"}


class Reader:
    """A client that receives texts of ``n_tokens``, one after the other, until it is stopped."""

    def __init__(self, port: int, n_tokens: int):
        self._recorded: list[server.Chunks] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(port, n_tokens), daemon=True)
        self._thread.start()

    def _read(self, port: int, n_tokens: int) -> None:
        while not self._stopped.is_set():
            self._recorded.append([])
            server.record(port, "A reader asks for a story about", n_tokens, self._recorded[-1])

    def wait_for_tokens(self) -> None:
        """Wait until a text is there."""
        while len(self._recorded) < 2 and self._thread.is_alive():
            time.sleep(0.02)

    def times(self) -> list[list[float]]:
        """When the tokens of each text arrived. Stops the client."""
        self._stopped.set()
        self._thread.join()
        return [server.token_times(chunks) for chunks in self._recorded]


def measure(port: int, n_chars: int, n_tokens: int, rounds: int) -> list[dict]:
    """Tokens a second of the stream, its share beside scoring, and the time of a whole text."""
    text = english(n_chars)
    reader = Reader(port, n_tokens)
    reader.wait_for_tokens()
    windows = []
    for i in range(rounds):
        order = (False, True) if i % 2 == 0 else (True, False)
        pair = {scores: spend_window(port, text if scores else None) for scores in order}
        windows.append((pair[False], pair[True]))
    begin = time.perf_counter()
    score(port, text)
    beside = time.perf_counter() - begin
    times = reader.times()
    begin = time.perf_counter()
    score(port, text)
    alone = time.perf_counter() - begin
    rates = [(rate_in(times, without), rate_in(times, scoring)) for without, scoring in windows]
    rates = [pair for pair in rates if pair[0]]
    if not rates:
        raise RuntimeError("no token came in a whole window")
    without, scoring = zip(*rates, strict=True)
    return [
        row("one stream, nothing scored", "tokens/s", list(without)),
        row("one stream, a text scored", "tokens/s", list(scoring)),
        row("share of the rate", "%", [100 * after / before for before, after in rates]),
        row(f"{n_chars:,} characters scored alone", "s", [alone]),
        row(f"{n_chars:,} characters scored beside a stream", "s", [beside]),
    ]


def spend_window(port: int, text: str | None) -> Window:
    """``WINDOW`` seconds, during which ``text`` is scored, if there is one."""
    begin = time.perf_counter()
    if text is None:
        time.sleep(WINDOW)
        return begin, time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("POST", "/score", json.dumps({"prompt": text}), JSON)
        time.sleep(max(0.0, begin + WINDOW - time.perf_counter()))
        end = time.perf_counter()
    wait_until_only_the_stream_runs(port)
    return begin, end


def wait_until_only_the_stream_runs(port: int) -> None:
    """Wait until the server has noticed that a client has left."""
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            connection.request("GET", "/healthz")
            load = json.load(connection.getresponse())
        if load["running"] + load["waiting"] <= 1:
            return
        time.sleep(0.1)


def score(port: int, text: str) -> dict:
    """The scores of a text. Raises RuntimeError if it is refused."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=3600)) as connection:
        connection.request("POST", "/score", json.dumps({"prompt": text}), JSON)
        with connection.getresponse() as response:
            found = json.load(response)
            if response.status != 200:
                raise RuntimeError(f"the text was answered with {response.status}: {found}")
    return found
