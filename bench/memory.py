"""What workers weigh: each a process that opens the model, as gunicorn's workers do.

Only Linux tells what processes share; :func:`can_weigh` says whether this system does.
"""

from pathlib import Path

from bench import shapes
from bench.child import Child

SMAPS = Path("/proc/self/smaps_rollup")
KINDS = ("Rss", "Pss", "Private_Dirty")


def can_weigh() -> bool:
    return SMAPS.exists()


def weigh() -> dict[str, float]:
    """This process in MB: all it has mapped, its fair share of it, what is its own."""
    lines = SMAPS.read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {kind: sizes[kind] for kind in KINDS}


def worker(directory: Path, n_slots: int, pipe) -> None:
    """Opens the model, reports; runs all slots, reports."""
    from gpt2core.engine.engine import Engine
    from gpt2core.settings import Settings
    from gpt2core.store.packed_files import open_packed
    from gpt2core.store.weights import load_params

    hparams = shapes.read_hparams(directory)
    precision = Settings.from_environment("weights").weights
    weights = open_packed(directory / "model.safetensors", hparams, load_params, precision)
    engine = Engine(weights, hparams, n_slots)
    pipe.recv()
    pipe.send(weigh())
    slots = [engine.open() for _ in range(n_slots)]
    for when in (1, n_slots):
        for slot in slots[:when]:
            if not engine.length(slot):
                engine.prefill(slot, list(range(200)))
        for step in range(20):
            engine.step(slots[:when], [step] * when)
        pipe.recv()
        pipe.send(weigh())
    pipe.recv()


def measure(directory: Path, n_workers: int, n_slots: int) -> list[dict]:
    """A row for each moment: MB of one worker, and of all together counted once.

    Raises ProcessEnded if a worker dies.
    """
    names = [f"worker {i + 1}" for i in range(n_workers)]
    workers = [Child(name, worker, directory, n_slots) for name in names]
    rows = []
    for moment in ("before the first request", "after one request", f"after {n_slots} at once"):
        for child in workers:
            child.send(None)
        sizes = [child.receive() for child in workers]
        rows.append(
            {
                "moment": moment,
                "rss_of_one_mb": sizes[0]["Rss"],
                "private_of_one_mb": sizes[0]["Private_Dirty"],
                "together_mb": sum(size["Pss"] for size in sizes),
            }
        )
    for child in workers:
        child.dismiss()
    return rows
