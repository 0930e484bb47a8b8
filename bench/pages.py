"""Each page of the inside views through HTTP: milliseconds and kilobytes, by length of the text.

Texts are random ids, new to the server, so the first page of each records a pass; the others
find the recording. The guided reading searches the model when it is opened first.
"""

import random
import statistics

from bench.views import fetch, new_text
from gpt2core.hparams import HParams

FIRST = "/inside"
SEARCHED = "/inside/reading"


def measure(port: int, hparams: HParams, n_ids: int, rounds: int) -> list[dict]:
    """A row for each page: milliseconds, the median of ``rounds``, and kilobytes."""
    rng, times, sizes = random.Random(3), {}, {}
    for _ in range(rounds):
        text = new_text(rng, hparams.n_vocab, n_ids)
        for path, fields in pages(hparams).items():
            ms, n_bytes = fetch(port, path, text | fields)
            times.setdefault(path, []).append(ms)
            sizes[path] = n_bytes
    times["search of the guided reading"] = [fetch(port, SEARCHED, {})[0]]
    times["guided reading"] = [fetch(port, SEARCHED, {})[0] for _ in range(rounds)]
    return [
        {
            "page": path if path != FIRST else f"{path}, and the pass",
            "tokens": n_ids,
            "ms": statistics.median(ms),
            "kb": sizes.get(path, 0) / 1e3,
        }
        for path, ms in times.items()
    ]


def pages(hparams: HParams) -> dict[str, dict[str, str]]:
    """Path -> fields beside the text. The first one is opened first."""
    middle = hparams.n_layer // 2
    return {
        FIRST: {},
        "/inside/9": {"layer": str(middle)},
        "/inside/heads": {},
        "/inside/lens": {},
        "/inside/attribution": {"part": f"{middle}.attn"},
        "/inside/sampling": {},
        "/inside/neurons": {"layer": str(middle)},
        "/inside/neighbours": {"layer": str(middle)},
        "/inside/ablate": {"parts": f"{middle}.0", "to": "mean"},
    }
