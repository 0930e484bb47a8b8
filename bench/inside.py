"""What the inside views compute, timed part by part: no page, no drawing.

Runs in the benchmark's own process with as many threads as NumPy's BLAS takes there. The
parts are timed in turns, so that a slow minute of the machine meets all of them.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench import shapes
from gpt2core.inside import attribution, heads, interventions, lens, recording
from gpt2core.model import Params, gpt2

N_LENS_TOKENS = 12  # columns of the lens on a page


def measure(directory: Path, ids: list[int], rounds: int) -> list[dict]:
    """A row for each part: milliseconds, the median of ``rounds``."""
    params = shapes.read_params(directory)
    work = parts(params, shapes.read_hparams(directory).n_head, ids)
    times: dict[str, list[float]] = {name: [] for name in work}
    for task in work.values():
        task()  # reads the weights from disk
    for _ in range(rounds):
        for name, task in work.items():
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return [
        {"part": name, "tokens": len(ids), "ms": 1e3 * statistics.median(times[name])}
        for name in work
    ]


def parts(params: Params, n_head: int, ids: list[int]) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    recorded = recording.record_pass(ids, params, n_head)
    last, token = len(ids) - 1, int(recorded.last_logits.argmax())
    direction = attribution.logit_direction(recorded, last, token)
    head = interventions.Component(recorded.n_layer // 2, "attn", 0)
    last_tokens = range(max(0, len(ids) - N_LENS_TOKENS), len(ids))

    def first_view() -> None:
        first = recording.record_pass(ids, params, n_head)
        lens.lens(first, last)
        attribution.attribution(first, last, token)
        heads.head_shares(first, last, direction)

    return {
        "pass, not recorded": lambda: gpt2(ids, **params, n_head=n_head),
        "pass, recorded": lambda: recording.record_pass(ids, params, n_head),
        "first view: pass, lens of a token, attribution, heads": first_view,
        "one layer opened": lambda: recording.replay_block(recorded, recorded.n_layer // 2),
        "lens of one token": lambda: lens.lens(recorded, last),
        f"lens of {len(last_tokens)} tokens": lambda: lens.lens_grid(recorded, last_tokens),
        "attribution by part": lambda: attribution.attribution(recorded, last, token),
        "one head of the middle layer removed": lambda: interventions.ablate(
            recorded, last, [head]
        ),
        "one state of the middle layer carried over": lambda: interventions.patched_logits(
            recorded, recorded, recorded.n_layer // 2, [last], last, [0, token]
        ),
        "attribution of all heads": lambda: heads.head_shares(recorded, last, direction),
    }
