"""Texts of the bundled model alone and eight at once, for a process with kernels of its own.

``python -m tests.helpers.company N_TOKENS`` prints ``{"alone": [ids, …], "together": …}`` as
JSON. OpenBLAS chooses its kernels when it is loaded, by ``OPENBLAS_CORETYPE``.
"""

import json
import sys

from gpt2core import load_model
from gpt2core.engine.engine import Engine
from gpt2core.engine.scheduler import Scheduler
from gpt2core.engine.sequence import GeneratedToken
from gpt2core.sampling import SamplingParams

PROMPTS = ("Once upon a time", "The cat", "It was a very cold day, and the little bird was sad.")
N_TEXTS = 8
N_ALONE = 4  # of them are also generated alone


def texts(
    scheduler: Scheduler, jobs: list[tuple[list[int], int]], n_tokens: int
) -> list[list[int]]:
    """The ids that each (prompt, seed) gives, all submitted at once."""
    generations = [
        scheduler.submit(ids, n_tokens, SamplingParams(1.0, seed=seed)) for ids, seed in jobs
    ]
    return [
        [event.id for event in generation.events(600) if isinstance(event, GeneratedToken)]
        for generation in generations
    ]


def main() -> None:
    n_tokens = int(sys.argv[1])
    model = load_model("demo")
    engine = Engine(model.params, model.hparams, n_slots=N_TEXTS)
    scheduler = Scheduler(engine, (), max_queue=0)
    scheduler.start()
    encoded = [model.encoder.encode(prompt) for prompt in PROMPTS]
    jobs = [(encoded[seed % len(encoded)], seed) for seed in range(N_TEXTS)]
    alone = [texts(scheduler, [job], n_tokens)[0] for job in jobs[:N_ALONE]]
    together = texts(scheduler, jobs, n_tokens)
    scheduler.stop()
    print(json.dumps({"alone": alone, "together": together}))


if __name__ == "__main__":
    main()
