"""A worker does not keep the memory of large arrays that are freed."""

import platform
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

# Threads that each make and free arrays of some megabytes, beside small ones that stay.
PROGRAM = """
import threading
import numpy as np
from pathlib import Path
from webapp.memory import return_large_arrays

return_large_arrays()
np.ones(5_000_000, np.float32)  # freed: from now on glibc itself would use heaps for its like

def resident_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024

def work(seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        large = np.ones((int(rng.integers(20, 60)), 50257), np.float32)
        small.append(np.ones(100))
        del large

small, before = [], resident_mb()
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resident_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators do this anyway")
def test_large_arrays_that_many_threads_have_freed_leave_nothing():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(run.stdout) < 30
