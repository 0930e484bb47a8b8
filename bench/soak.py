"""An hour of mixed traffic at full load: what grows, what fails, how long a text takes to begin.

The clients of ``crowd.py`` run against a real gunicorn. Every ten seconds the worker process is
looked at: resident memory, threads, open files. A row of the table is a tenth of the run; the last
rows compare the minutes after the first sixth with the end.
"""

import math
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import crowd, server
from bench.crowd import Record
from gpt2core.settings import Settings
from tests.helpers.processes import Resources, children, resources

SAMPLE_SECONDS = 10.0
N_ROWS = 10
WARM_UP = 1 / 6  # of the run: caches and pools of threads fill
GROWTH = {"resident_mb": 1.05, "files": 1.10}  # of the end over the middle
SETTINGS = {"GPT2_MAX_BATCH": 8, "GPT2_MAX_QUEUE": 16, "GPT2_MAX_PER_CLIENT": 4}
# gunicorn's pool has a thread more whenever all are busy, up to its size;
# the others are those of the server, the engine, the recordings and the kernels.
MAX_THREADS = Settings(max_batch=8, max_queue=16).server_threads + 8


@dataclass(frozen=True)
class Sample:
    """The worker at one moment."""

    when: float  # seconds of time.monotonic
    worker: Resources


def measure(directory: Path, threads: int, minutes: float) -> tuple[list[dict], bool]:
    """The table, and whether nothing grows without bound and every outcome is explained."""
    record, samples = Record(), []
    with tempfile.TemporaryFile("w+") as log:
        with server.started(directory, threads, log=log, **SETTINGS) as (port, pid):
            server.wait_until_ready(port)
            [worker] = children(pid)
            begun = time.monotonic()
            clients = crowd.start(port, record)
            while time.monotonic() < begun + 60 * minutes:
                time.sleep(min(SAMPLE_SECONDS, 6 * minutes))
                samples.append(Sample(time.monotonic(), resources(worker)))
            record.over.set()
            for client in clients:
                client.join(crowd.LONGEST)
        log.seek(0)
        failures = re.findall(r"^.*(?:Traceback|\[CRITICAL\]|\[ERROR\]).*$", log.read(), re.M)
    for line in [*record.unexplained, *failures[:20]]:
        print(f"unexplained: {line}", file=sys.stderr)
    n_unexplained = record.n_unexplained + len(failures)
    for (kind, outcome), count in sorted(record.outcomes.items()):
        print(f"{kind}: {outcome} {count:,} times", file=sys.stderr)
    grown = growth(samples, begun, 60 * minutes)
    rows = [row(record, samples, begun, 60 * minutes, n) for n in range(N_ROWS)]
    rows.append(total(record, samples, n_unexplained))
    for name, factor in grown.items():
        print(f"{name}: the end is {factor:.3f} times the middle", file=sys.stderr)
    flat = all(factor <= GROWTH[name] for name, factor in grown.items())
    bounded = max(sample.worker.threads for sample in samples) <= MAX_THREADS
    return rows, flat and bounded and not n_unexplained


def growth(samples: list[Sample], begun: float, seconds: float) -> dict[str, float]:
    """Medians of the last sixth of the run over those of the sixth after the warm-up."""

    def median(name: str, first: float, last: float) -> float:
        inside = [s for s in samples if first <= (s.when - begun) / seconds <= last]
        return statistics.median(getattr(s.worker, name) for s in inside or samples)

    return {
        name: median(name, 1 - WARM_UP, math.inf) / median(name, WARM_UP, 2 * WARM_UP)
        for name in GROWTH
    }


def row(record: Record, samples: list[Sample], begun: float, seconds: float, n: int) -> dict:
    """One part of the run: the process at its end, and the texts that arrived in it."""
    first, last = (begun + seconds * (n + i) / N_ROWS for i in (0, 1))
    there = [s for s in samples if first < s.when <= last] or samples[-1:]
    waits = [wait for when, wait in record.first_tokens if first < when <= last]
    return {"minutes": (last - begun) / 60, **facts(there[-1].worker, waits), "unexplained": ""}


def total(record: Record, samples: list[Sample], n_unexplained: int) -> dict:
    """The whole run."""
    waits = [wait for _, wait in record.first_tokens]
    return {"minutes": "all", **facts(samples[-1].worker, waits), "unexplained": n_unexplained}


def facts(worker: Resources, waits: list[float]) -> dict:
    """The process, and percentiles of the seconds to the first token, the queue included."""
    cuts = statistics.quantiles(waits, n=100, method="inclusive") if len(waits) > 1 else 99 * [0.0]
    return {
        "resident_mb": worker.resident_mb,
        "threads": worker.threads,
        "files": worker.files,
        "texts": len(waits),
        "first_token_p50_s": cuts[49],
        "first_token_p99_s": cuts[98],
    }
