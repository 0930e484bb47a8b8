"""The memory of workers: each is a process that opens the model, as gunicorn's workers do.

The packed weights of a large model, and the compiled kernels, are on the disk before the workers
start; another process makes them. A worker's peak is therefore not that of making them.
Only Linux reports what processes share; :func:`can_weigh` says whether this system does.
"""

from pathlib import Path

from bench import shapes
from bench.child import Child

SMAPS = Path("/proc/self/smaps_rollup")
STATUS = Path("/proc/self/status")
KINDS = ("Rss", "Pss", "Private_Dirty")


def can_weigh() -> bool:
    return SMAPS.exists()


def weigh() -> dict[str, float]:
    """This process in MB: all it has mapped, its fair share of it, what is its own.

    ``Peak`` is the most it has had mapped at once since its start.
    """
    lines = SMAPS.read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    peak = int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return {**{kind: sizes[kind] for kind in KINDS}, "Peak": peak}


def make_files(directory: Path, pipe) -> None:
    """Packs the weights and compiles the kernels, unless that is done; reports."""
    from gpt2core.engine import compiling

    shapes.open_weights(directory)
    if loading := compiling.start():
        loading.join()
    pipe.send(None)


def worker(directory: Path, n_slots: int, pipe) -> None:
    """Opens the model, reports; runs all slots, reports."""
    from gpt2core.engine.engine import Engine

    hparams, weights = shapes.read_hparams(directory), shapes.open_weights(directory)
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
    maker = Child("the packer", make_files, directory)
    maker.receive()
    maker.process.join()
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
                "peak_of_one_mb": max(size["Peak"] for size in sizes),
                "private_of_one_mb": sizes[0]["Private_Dirty"],
                "together_mb": sum(size["Pss"] for size in sizes),
            }
        )
    for child in workers:
        child.dismiss()
    return rows
