"""The inside views through HTTP: the time of a view, and what a first view costs eight streams.

Each text is new to the server, so that every first view records a pass. While eight clients
receive tokens, windows of one second follow each other in pairs: one in which a first view is
opened at its beginning, one in which nothing is. The order changes from pair to pair, because
texts that grow longer become slower. The loss of a pair is the share of tokens that the window
with the view has less.
"""

import http.client
import random
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlencode

from bench import server

N_CLIENTS = 8
STEP = "/inside/9"  # softmax: the row and the matrix of a head
WINDOW = 1.0  # seconds; a first view of 124M takes about half of it

Window = tuple[float, float]  # seconds of time.perf_counter, begin and end


def measure(port: int, n_vocab: int, n_ids: int, n_tokens: int, rounds: int) -> list[dict]:
    """Milliseconds of views, tokens a second of the clients, and the loss of each pair.

    Each of ``rounds`` is one run of eight texts of ``n_tokens``, with as many pairs as fit.
    """
    rng = random.Random(2)
    first, other, beside_clients = [], [], []
    pairs: list[tuple[float, float]] = []
    for _ in range(rounds):
        text = new_text(rng, n_vocab, n_ids)
        first.append(view(port, text))
        other.append(view(port, {**text, "layer": "1"}))
        pairs += paired_rates(
            port,
            n_tokens,
            lambda: beside_clients.append(view(port, new_text(rng, n_vocab, n_ids))),
        )
    if not pairs:
        raise RuntimeError("the texts ended before a pair of windows; ask for more --n_tokens")
    without, beside = zip(*pairs, strict=True)
    losses = [100 * (1 - after / before) for before, after in pairs]
    return [
        row(f"first view of {n_ids} tokens", "ms", first),
        row("another layer", "ms", other),
        row(f"first view beside {N_CLIENTS} clients", "ms", beside_clients),
        row(f"{N_CLIENTS} clients, no view opened", "tokens/s", list(without)),
        row(f"{N_CLIENTS} clients, one first view opened", "tokens/s", list(beside)),
        row("loss over that second", "%", losses),
    ]


def row(part: str, unit: str, values: list[float]) -> dict:
    """A row of the table: the median, and the quartiles as its spread."""
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values
    )
    return {
        "part": part,
        "unit": unit,
        "median": median,
        "quartile_1": low,
        "quartile_3": high,
        "n": len(values),
    }


def paired_rates(
    port: int, n_tokens: int, open_view: Callable[[], object]
) -> list[tuple[float, float]]:
    """(tokens a second without, with a view opened) of each pair while all clients receive."""
    streams = server.Streams(port, N_CLIENTS, n_tokens)
    windows: list[tuple[Window, Window]] = []
    streams.wait_for_tokens()
    while not streams.any_done:
        order = (None, open_view) if len(windows) % 2 == 0 else (open_view, None)
        one, two = (spend_window(action) for action in order)
        windows.append((one, two) if order[0] is None else (two, one))
    times = streams.times()
    begin, end = max(one[0] for one in times), min(one[-1] for one in times)
    return [
        (rate_in(times, without), rate_in(times, beside))
        for without, beside in windows
        if begin <= min(without[0], beside[0]) and max(without[1], beside[1]) <= end
    ]


def spend_window(action: Callable[[], object] | None) -> Window:
    """``WINDOW`` seconds, at whose beginning ``action`` is done; longer if that takes longer."""
    begin = time.perf_counter()
    if action:
        action()
    time.sleep(max(0.0, begin + WINDOW - time.perf_counter()))
    return begin, time.perf_counter()


def rate_in(times: list[list[float]], window: Window) -> float:
    """Tokens a second of all clients in a window."""
    begin, end = window
    return sum(begin < second <= end for one in times for second in one) / (end - begin)


def new_text(rng: random.Random, n_vocab: int, n_ids: int) -> dict[str, str]:
    """Fields of a text of random ids."""
    return {"kept": ",".join(str(rng.randrange(n_vocab)) for _ in range(n_ids))}


def view(port: int, fields: dict[str, str]) -> float:
    """Milliseconds until a view has arrived whole. Raises RuntimeError if it is refused."""
    return fetch(port, STEP, fields)[0]


def fetch(port: int, path: str, fields: dict[str, str]) -> tuple[float, int]:
    """Milliseconds until a page has arrived whole, and its bytes. Raises RuntimeError."""
    start = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("GET", f"{path}?{urlencode(fields)}")
        with connection.getresponse() as response:
            body = response.read()
            if response.status != 200:
                raise RuntimeError(f"{path} was answered with {response.status}")
    return 1e3 * (time.perf_counter() - start), len(body)
