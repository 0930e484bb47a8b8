"""Settings of OpenBLAS and the number of threads, decided before NumPy is imported.

OpenBLAS, which is part of NumPy's wheels, reads its settings once, while it loads. Importing
``gpt2core`` therefore calls :func:`configure` first. In a program that imported NumPy before,
OpenBLAS keeps its own choice: the results may differ in their last bits and be slower.

Invariants: NumPy is not imported here. Variables that the user has set are never overwritten.
With another BLAS the settings have no effect.
"""

import os
import sys
from pathlib import Path

from gpt2core.settings import Settings, variable_name

THREADS_VARIABLE = variable_name("threads")


def configure() -> None:
    """Choose OpenBLAS's kernels, and how long its idle threads wait actively.

    Does nothing if NumPy is loaded already.
    """
    if "numpy" in sys.modules:
        return
    # Its threads would wait actively for 20 ms after each product, beside those of the engine;
    # this is the logarithm of the processor's cycles, here a third of a millisecond.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
    if has_avx512():
        # OpenBLAS knows processors by model, and treats one that is newer than itself as an
        # old one, at half the speed. Every AVX-512 processor can run the Skylake-X kernels.
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")


def share_processors(n_workers: int) -> None:
    """Divide the processors among ``n_workers``, for this process and its children."""
    if Settings.from_environment("threads").threads is None:
        os.environ[THREADS_VARIABLE] = str(max(1, n_processors() // max(1, n_workers)))


def n_threads() -> int:
    """Number of threads of an engine: ``$GPT2_THREADS``, else one for each processor.

    Raises SettingError where the variable is not a whole number of at least 1.
    """
    return Settings.from_environment("threads").threads or n_processors()


def n_processors() -> int:
    """Processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has what OpenBLAS's Skylake-X kernels use; False if unknown."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"} <= set(flags)
