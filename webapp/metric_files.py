"""The folder in which all processes of one server count, for ``metrics``.

Used by ``gunicorn.conf.py``, in the process that starts the others. Each process writes files of
its own, and whichever answers ``GET /metrics`` adds them up. Counters and histograms of a process
that has ended stay, because sums must not fall; its gauges are removed.

Invariant: a server has a new folder, and removes it when it ends.
"""

import os
import shutil
import tempfile

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks for the folder


def make_folder() -> None:
    """Make the folder, for the processes that are started from now on."""
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="glyph-metrics-")


def forget(pid: int) -> None:
    """Remove the gauges of a process that has ended."""
    from prometheus_client.multiprocess import mark_process_dead  # it reads the variable on import

    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def remove_folder() -> None:
    """Remove the folder of :func:`make_folder`."""
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)
