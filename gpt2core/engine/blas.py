"""How NumPy's linear algebra is to run, decided before NumPy is imported.

OpenBLAS, which NumPy's wheels bring along, reads its settings once, while it loads.
Importing ``gpt2core`` therefore calls :func:`configure` before anything else; a program
that imported NumPy first keeps what it has and gets the same numbers but for their last
bits, perhaps slower.

Invariants: imports nothing of NumPy; a variable that is already set is somebody's
decision and stays; harmless where NumPy brings another BLAS.
"""

import os
import sys
from pathlib import Path

from gpt2core.settings import positive

THREADS_VARIABLE = "GPT2_THREADS"
WITH_SMALL_KERNELS = {"SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS"}


def configure() -> None:
    """Let OpenBLAS choose its kernels for the engine. Does nothing once NumPy is loaded."""
    if "numpy" in sys.modules:
        return
    if has_avx512():
        # OpenBLAS knows processors by name, and takes one that is newer than itself for
        # an old one: half the speed. Every AVX-512 machine runs the Skylake-X kernels.
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")
    else:
        # Without its small-matrix kernels OpenBLAS would start threads for products that
        # the engine has already divided among its own.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def share_processors(n_workers: int) -> None:
    """Tell this process and its children that ``n_workers`` of them share the machine."""
    if not os.environ.get(THREADS_VARIABLE):
        os.environ[THREADS_VARIABLE] = str(max(1, n_processors() // max(1, n_workers)))


def n_threads() -> int:
    """Threads an engine may use: ``$GPT2_THREADS``, else one for each processor.

    Raises SettingError where the variable is not a whole number of at least 1.
    """
    text = os.environ.get(THREADS_VARIABLE)
    return positive(THREADS_VARIABLE, text) if text else n_processors()


def n_processors() -> int:
    """Processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def has_small_kernels() -> bool:
    """Whether OpenBLAS multiplies small matrices here without packing them first."""
    # Unset where NumPy was there before us: then it is OpenBLAS's own choice, nearly always
    # these. Where it is not, nothing is wrong but the last bits.
    core = os.environ.get("OPENBLAS_CORETYPE", "SKYLAKEX")
    return has_avx512() and core.upper() in WITH_SMALL_KERNELS


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has what OpenBLAS's Skylake-X kernels use; False if unknown."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"} <= set(flags)
