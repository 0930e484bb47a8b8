"""An hour of mixed traffic at full load: what grows, what fails, how long a text takes to begin.

The clients of ``crowd.py`` run against a real gunicorn. Every ten seconds the worker process is
looked at: resident memory, threads, open files. A row of the table is a tenth of the run; the last
rows compare the minutes after the first sixth with the end.
"""

import math
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import crowd, server
from bench.crowd import Record

SAMPLE_SECONDS = 10.0
N_ROWS = 10
WARM_UP = 1 / 6  # of the run: caches and pools of threads fill
GROWTH = {"resident_mb": 1.05, "files": 1.10}  # of the end over the middle
SETTINGS = {"GPT2_MAX_BATCH": 8, "GPT2_MAX_QUEUE": 16, "GPT2_MAX_PER_CLIENT": 4}
# gunicorn's pool has a thread more whenever all are busy, up to its size (gunicorn.conf.py);
# the others are those of the server, the engine, the recordings and the kernels.
MAX_THREADS = 8 + 16 + 24 + 8


@dataclass
class Sample:
    """The worker at one moment."""

    when: float  # seconds of time.monotonic
    resident_mb: float
    threads: float
    files: float


def look_at(pid: int) -> Sample:
    """Memory, threads and open files of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    threads, files = (len(os.listdir(f"/proc/{pid}/{what}")) for what in ("task", "fd"))
    return Sample(time.monotonic(), resident, threads, files)


def measure(directory: Path, threads: int, minutes: float) -> tuple[list[dict], bool]:
    """The table, and whether nothing grows without bound and every outcome is explained."""
    record, samples = Record(), []
    with tempfile.TemporaryFile("w+") as log:
        with server.started(directory, threads, log=log, **SETTINGS) as (port, pid):
            server.wait_until_ready(port)
            [worker] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            begun = time.monotonic()
            clients = crowd.start(port, record)
            while time.monotonic() < begun + 60 * minutes:
                time.sleep(min(SAMPLE_SECONDS, 6 * minutes))
                samples.append(look_at(int(worker)))
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
    bounded = max(sample.threads for sample in samples) <= MAX_THREADS
    return rows, flat and bounded and not n_unexplained


def growth(samples: list[Sample], begun: float, seconds: float) -> dict[str, float]:
    """Medians of the last sixth of the run over those of the sixth after the warm-up."""

    def median(name: str, first: float, last: float) -> float:
        inside = [s for s in samples if first <= (s.when - begun) / seconds <= last]
        return statistics.median(getattr(s, name) for s in inside or samples)

    return {
        name: median(name, 1 - WARM_UP, math.inf) / median(name, WARM_UP, 2 * WARM_UP)
        for name in GROWTH
    }


def row(record: Record, samples: list[Sample], begun: float, seconds: float, n: int) -> dict:
    """One part of the run: the process at its end, and the texts that arrived in it."""
    first, last = (begun + seconds * (n + i) / N_ROWS for i in (0, 1))
    there = [s for s in samples if first < s.when <= last] or samples[-1:]
    waits = [wait for when, wait in record.first_tokens if first < when <= last]
    return {"minutes": (last - begun) / 60, **facts(there[-1], waits), "unexplained": ""}


def total(record: Record, samples: list[Sample], n_unexplained: int) -> dict:
    """The whole run."""
    waits = [wait for _, wait in record.first_tokens]
    return {"minutes": "all", **facts(samples[-1], waits), "unexplained": n_unexplained}


def facts(sample: Sample, waits: list[float]) -> dict:
    """The process, and percentiles of the seconds to the first token, the queue included."""
    cuts = statistics.quantiles(waits, n=100, method="inclusive") if len(waits) > 1 else 99 * [0.0]
    return {
        "resident_mb": sample.resident_mb,
        "threads": sample.threads,
        "files": sample.files,
        "texts": len(waits),
        "first_token_p50_s": cuts[49],
        "first_token_p99_s": cuts[98],
    }
