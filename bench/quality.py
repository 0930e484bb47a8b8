"""What int8 weights cost: one text predicted with float32 and with int8, beside llama.cpp.

Every engine has the same weights and reads the same windows, those of ``gpt2core.scoring``: of
``n_ctx`` tokens, each overlapping half of the one before, with every token but the first scored
once. The bits per byte of float32 are therefore those of ``tools/bits_per_byte.py``. Logits are
compared with those of this project's float32 engine, at all scored places.
"""

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import shapes
from bench.arena import installed
from bench.peers import PEERS
from gpt2core.engine.engine import Engine
from gpt2core.sampling import log_softmax
from gpt2core.scoring import windows
from gpt2core.store.loader import Model
from tools.bits_per_byte import encode_works, read_works

Array = NDArray[np.float32]
ComputeLogits = Callable[[list[int], int], Array]  # ids [n], n_logits -> [n_logits, n_vocab]

REFERENCE = "gpt2core"
Q8_BLOCK = 32  # inputs of a column that share a scale in llama.cpp's Q8_0


@dataclass
class Tally:
    """What one engine's logits add up to."""

    nats: float = 0.0
    n_places: int = 0
    n_same: int = 0  # places with the reference's likeliest token
    largest_difference: float = 0.0  # of a logit from the reference's

    def add(self, logits: Array, reference: Array, targets: list[int]) -> None:
        """Count places. ``logits`` and ``reference`` are ``[n, n_vocab]``, ``targets [n]``."""
        for row, expected, target in zip(logits, reference, targets, strict=True):
            self.nats -= float(log_softmax(row)[target])
            self.n_same += int(row.argmax() == expected.argmax())
            used = expected > -np.inf  # [n_vocab]
            difference = float(np.abs(row[used] - expected[used]).max())
            self.largest_difference = max(self.largest_difference, difference)
        self.n_places += len(targets)


def measure(model: Model, text: Path, threads: int) -> list[dict]:
    """A row for each engine that is installed. Raises InputError for a text without words."""
    works = read_works(text)
    ids = encode_works(works, model.encoder).tolist()
    with tempfile.TemporaryDirectory() as folder:
        engines = own_engines(model) | llama_engines(model, Path(folder), threads)
        tallies = tally(engines, ids, model)
    n_bytes = sum(len(work.encode()) for work in works)
    return [row(name, one, tallies[REFERENCE], n_bytes) for name, one in tallies.items()]


def tally(engines: dict[str, ComputeLogits], ids: list[int], model: Model) -> dict[str, Tally]:
    """All engines on all windows of the text ``ids``."""
    tallies = {name: Tally() for name in engines}
    for window in windows(len(ids), model.hparams.n_ctx):
        part = ids[window.start : window.end]
        read, targets = part[:-1], part[-window.n_new :]
        reference = engines[REFERENCE](read, len(targets))  # [n_new, n_vocab]
        for name, compute in engines.items():
            logits = reference if name == REFERENCE else compute(read, len(targets))
            logits[:, list(model.unused_ids)] = -np.inf
            tallies[name].add(logits, reference, targets)
    return tallies


def row(name: str, own: Tally, reference: Tally, n_bytes: int) -> dict:
    """A row of the table."""
    return {
        "name": name,
        "bits_per_byte": own.nats / math.log(2) / n_bytes,
        "percent_more": 100 * (own.nats / reference.nats - 1),
        "same_likeliest_percent": 100 * own.n_same / own.n_places,
        "largest_logit_difference": own.largest_difference,
        "places": own.n_places,
    }


def own_engines(model: Model) -> dict[str, ComputeLogits]:
    """This project's engine with both kinds of weights."""
    return {
        REFERENCE: own_logits(model.engine(precision="float32")),
        "gpt2core-int8": own_logits(model.engine(precision="int8")),
    }


def own_logits(engine: Engine) -> ComputeLogits:
    """A function that computes logits with a slot of ``engine``, a token a step."""

    def compute(ids: list[int], n_logits: int) -> Array:
        slot, n_before = engine.open(), len(ids) - n_logits
        try:
            rows = [engine.prefill(slot, ids[: n_before + 1])]
            rows += [engine.step([slot], [token_id])[0] for token_id in ids[n_before + 1 :]]
        finally:
            engine.close(slot)
        return np.stack(rows)  # [n_logits, n_vocab]

    return compute


def llama_engines(model: Model, folder: Path, threads: int) -> dict[str, ComputeLogits]:
    """llama.cpp with both kinds of weights, as far as it is installed and can hold the model.

    Writes the model's weights to ``folder``. What is left out is reported on stderr.
    """
    engines = {}
    for name in ("llama-cpp", "llama-cpp-q8"):
        if not installed(name):
            print(f"not installed: {name}", file=sys.stderr)
        elif name == "llama-cpp-q8" and model.hparams.n_embd % Q8_BLOCK:
            print(
                f"{name} is left out: Q8_0 needs matrices of a multiple of {Q8_BLOCK} rows, "
                f"and n_embd is {model.hparams.n_embd}.",
                file=sys.stderr,
            )
        else:
            shapes.write_model(folder, model.hparams, model.params)
            engines[name] = PEERS[name](folder, threads, 1).logits
    return engines
