"""What Linux says of a process. Used by tests, ``bench`` and ``tools``."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """What a process has at one moment."""

    threads: int
    files: int
    resident_mb: float


def resources(pid: int) -> Resources:
    """Threads, open files and resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    threads, files = (len(os.listdir(f"/proc/{pid}/{what}")) for what in ("task", "fd"))
    return Resources(threads, files, resident)


def children(pid: int) -> list[int]:
    """The processes that a process has started; of gunicorn, its workers."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
