"""Both texts of an ablation through HTTP, against two ordinary texts at once.

The texts of ``/inside/ablate/texts`` are two generations of the scheduler, of which one has
gates, so they should arrive as fast as any two. Both kinds are measured in turns.
"""

import http.client
import statistics
import time
from contextlib import closing
from urllib.parse import urlencode

from bench import server
from gpt2core.hparams import HParams

PATH = "/inside/ablate/texts"
PROMPT = "Reader number 1 asks for a story about"


def measure(port: int, hparams: HParams, n_tokens: int, rounds: int) -> list[dict]:
    """Tokens a second of both texts together, and of two texts without gates.

    The share is the median of what neighbouring runs give.
    """
    part = f"{hparams.n_layer // 2}.0"
    ordinary, pairs = [], []
    for _ in range(rounds):
        ordinary.append(server.rate(port, 2, n_tokens))
        pairs.append(rate(port, part, n_tokens))
    shares = [both / without for without, both in zip(ordinary, pairs, strict=True)]
    return [
        {"texts": name, "tokens_per_s": statistics.median(rates), "share": share}
        for name, rates, share in (
            ("two ordinary", ordinary, 1.0),
            (f"with and without head {part}", pairs, statistics.median(shares)),
        )
    ]


def rate(port: int, part: str, n_tokens: int) -> float:
    """Tokens a second of both texts of an ablation, from the first pair to the last."""
    fields = {"prompt": PROMPT, "parts": part, "n_tokens": n_tokens, "temperature": 0}
    times: list[float] = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", f"{PATH}?{urlencode(fields)}", headers={"HX-Request": "true"})
        with connection.getresponse() as response:
            for line in response:
                times += [time.perf_counter()] * line.count(b'hx-target="#text-')
    if len(times) != 2 * n_tokens:
        raise RuntimeError(f"{len(times)} tokens came, not {2 * n_tokens}")
    return (len(times) - 2) / (times[-1] - times[0])
