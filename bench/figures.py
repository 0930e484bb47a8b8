"""What the charts of ``docs/performance.md`` show, measured: ``python -m bench charts``.

``sequences``: several sequences at once. ``length``: one sequence by the tokens in its context.
``sizes``: one sequence of models of all sizes. Every point is a race of its own (see ``Arena``):
medians and quartiles of its rounds, and beside them the bounds of memory from the bandwidth
measured in the same rounds. ``charts.py`` draws the figures, and reads nothing else.

Invariant: the figures hold no date and no path, so the same measurement gives the same file.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import shapes
from bench.arena import Arena, Result, open_arena
from bench.peers import PEERS
from bench.report import processor
from gpt2core.errors import WriteError
from gpt2core.files import atomic_write, check_space, read_json, remove
from gpt2core.hparams import HParams
from gpt2core.store.packed_files import n_bytes

FILE = "figures.json"
OURS = ("gpt2core", "gpt2core-int8")
ENGINES = (*OURS, "llama-cpp", "llama-cpp-q8")
SEQUENCES = (1, 2, 4, 8)
LENGTHS = (32, 256, 512, 992)
PROMPT_TOKENS = 32  # where the length is not what is varied
# Weights of an engine.
PRECISIONS = {
    "gpt2core": "float32",
    "gpt2core-int8": "int8",
    "llama-cpp": "float32",
    "llama-cpp-q8": "Q8_0",
}


@dataclass(frozen=True)
class Plan:
    """What is measured, and how."""

    shape: str  # of the charts "sequences" and "length"
    sizes: tuple[str, ...]  # of the chart "sizes"
    threads: int
    rounds: int
    n_tokens: int  # written in each run
    directory: Path  # the models' folders are made in it
    keep: bool  # the models' folders afterwards

    def command(self) -> str:
        """The command that measures the same, wherever its files are."""
        return (
            f"python -m bench charts --shape {self.shape} --sizes {','.join(self.sizes)} "
            f"--threads {self.threads} --rounds {self.rounds} --n_tokens {self.n_tokens}"
        )


def measure(plan: Plan) -> dict:
    """All figures, as they stand in ``figures.json``."""
    charts = {}
    with model_folder(plan, plan.shape) as directory:
        with open_arena([*ENGINES, "roofline"], directory, plan.threads, max(SEQUENCES)) as arena:
            hparams = shapes.SHAPES[plan.shape]
            charts["sequences"] = [
                {"x": n, **race(arena, plan, hparams, n, PROMPT_TOKENS)} for n in SEQUENCES
            ]
            charts["length"] = [
                {"x": length, **race(arena, plan, hparams, 1, length)}
                for length in LENGTHS
                if length + plan.n_tokens <= hparams.n_ctx
            ]
    charts["sizes"] = [point for name in plan.sizes for point in measure_size(plan, name)]
    return {
        "command": plan.command(),
        "processor": processor(),
        "threads": plan.threads,
        "rounds": plan.rounds,
        "shape": plan.shape,
        "charts": charts,
    }


def measure_size(plan: Plan, name: str) -> Iterator[dict]:
    """The point of one size; none, and a line on stderr, if its files do not fit on the disk."""
    hparams = shapes.SHAPES[name]
    try:
        check_space(plan.directory, missing_bytes(plan, name))
    except WriteError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return
    with model_folder(plan, name) as directory:
        with Arena([*OURS, "roofline"], directory, plan.threads, 1) as arena:
            point = race(arena, plan, hparams, 1, PROMPT_TOKENS)
    yield {"x": hparams.n_params, "label": name, **point}


def missing_bytes(plan: Plan, name: str) -> int:
    """What a size takes on the disk beside the files that are there: weights, packed ones."""
    hparams, folder = shapes.SHAPES[name], model_path(plan, name)
    needed = 4 * hparams.n_params + n_bytes(hparams, "float32") + n_bytes(hparams, "int8")
    there = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return max(0, needed - there)


def model_path(plan: Plan, name: str) -> Path:
    return plan.directory / f"bench-{name}"


@contextmanager
def model_folder(plan: Plan, name: str) -> Iterator[Path]:
    """The folder of a model, which is removed afterwards unless it is to be kept."""
    directory = model_path(plan, name)
    try:
        shapes.write_model(directory, shapes.SHAPES[name])
        yield directory
    finally:
        if not plan.keep:
            remove(directory)


def race(arena: Arena, plan: Plan, hparams: HParams, n_sequences: int, n_prompt: int) -> dict:
    """One point: all engines of the arena continue ``n_sequences`` prompts."""
    prompts = shapes.random_prompts(hparams, n_sequences, n_prompt)
    results = arena.race(prompts, plan.n_tokens, plan.rounds)
    return point(results, hparams, n_sequences, n_prompt, plan.n_tokens)


def point(
    results: dict[str, Result], hparams: HParams, n_sequences: int, n_prompt: int, n_tokens: int
) -> dict:
    """Tokens a second of every engine, and the bounds of one sequence of that length.

    ``rates`` are of all sequences together. A bound is the bandwidth over the bytes that a step
    must read: all weights, and the keys and values of the tokens before, half of the new ones
    on average.
    """
    n_steps = n_tokens - 1
    engines = {name: result for name, result in results.items() if name != "roofline"}
    weights = PEERS["roofline"].weight_bytes * hparams.n_params  # what its time is for
    bandwidth = weights * n_steps / results["roofline"].median_rest()  # bytes a second
    n_before = n_prompt + n_tokens / 2
    weight_bytes = {PRECISIONS[name]: PEERS[name].weight_bytes for name in engines}
    return {
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "rates": {
            name: spread([n_sequences * n_steps / seconds for seconds in result.rest])
            for name, result in engines.items()
        },
        "bounds": {
            precision: bandwidth / step_bytes(hparams, n_bytes_each, n_before)
            for precision, n_bytes_each in weight_bytes.items()
        },
    }


def step_bytes(hparams: HParams, weight_bytes: float, n_before: float) -> float:
    """Bytes that a step of one sequence reads with ``n_before`` tokens in its context."""
    cached = 2 * hparams.n_layer * hparams.n_embd * 4  # keys and values of one token, float32
    return weight_bytes * hparams.n_params + cached * n_before


def spread(rates: list[float]) -> dict[str, float]:
    """The median and the quartiles."""
    cuts = statistics.quantiles(rates, n=4, method="inclusive") if len(rates) > 1 else 3 * rates
    return dict(zip(("quartile_1", "median", "quartile_3"), cuts, strict=True))


def rows(figures: dict) -> list[dict]:
    """The figures as a table: a row for each engine at each point."""
    return [
        {
            "chart": chart,
            "at": point.get("label", str(point["x"])),
            "name": name,
            "tokens_per_s": rate["median"],
            "quartile_1": rate["quartile_1"],
            "quartile_3": rate["quartile_3"],
            "bound_of_one": point["bounds"][PRECISIONS[name]],
            "gb_per_s_read": point["bandwidth_gb_per_s"],
        }
        for chart, points in figures["charts"].items()
        for point in points
        for name, rate in point["rates"].items()
    ]


def write(figures: dict, folder: Path) -> None:
    """Write ``figures.json``."""
    with atomic_write(folder / FILE) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict:
    """The figures in ``figures.json``. Raises ModelFileError if it cannot be read."""
    return read_json(folder / FILE)
