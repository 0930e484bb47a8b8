"""When the kernels are compiled, and where they are kept.

Compiling takes some ten seconds, once for each processor and version. It runs in a process of
its own, which fills Numba's cache even if this process ends before; engines compute with
``plain.py`` meanwhile. A later process loads the kernels from the cache in its background.

Invariants: importing this module imports no Numba. :func:`start` returns at once, may be called
by any thread and any number of times. A failure is logged and leaves the plain functions.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType
from typing import get_args

from gpt2core.engine.packed import Precision
from gpt2core.files import folder_lock
from gpt2core.settings import Settings

log = logging.getLogger(__name__)

KERNELS = "gpt2core.engine.kernels"
# What the compiled code depends on.
SOURCES = ("kernels", "products", "elementwise", "tiles", "phases", "packed", "plain", "gates")
NUMBAS_VARIABLE = "NUMBA_CACHE_DIR"

_lock = threading.Lock()
_thread: threading.Thread | None = None
_kernels: ModuleType | None = None
_is_compiling = False


def kernels() -> ModuleType | None:
    """The module of compiled kernels; None without :func:`start` and while they are compiled.

    Waits while kernels that an earlier process compiled are loaded, which takes a second: so
    the same prompt is computed in the same way in every run but the first.
    """
    if _kernels is None and _thread is not None and not _is_compiling:
        _thread.join()
    return _kernels


def start() -> threading.Thread | None:
    """Load or compile the kernels in the background. Returns the thread that does it.

    None without Numba, or if ``GPT2_KERNELS`` is off.
    """
    global _thread, _is_compiling
    with _lock:
        if _thread is None and available():
            folder = cache_folder()
            _is_compiling = not is_compiled(folder)
            _thread = threading.Thread(target=_load, args=[folder], name="kernels", daemon=True)
            _thread.start()
        return _thread


def available() -> bool:
    """Whether kernels can and may be compiled here."""
    if not Settings.from_environment("kernels").kernels:
        return False
    try:
        return importlib.util.find_spec("numba") is not None
    except ValueError:  # a program has put None in its place
        return False


def _load(folder: Path) -> None:
    """The thread's function."""
    global _kernels, _is_compiling
    try:
        os.environ[NUMBAS_VARIABLE] = str(folder)
        if _is_compiling:
            compile_into(folder)
            _is_compiling = False
        _kernels = importlib.import_module(KERNELS)
    except Exception:
        log.exception("the engine goes on in plain NumPy, because its kernels failed")


def is_compiled(folder: Path) -> bool:
    """Whether all kernels lie in ``folder``."""
    return len(list(folder.rglob("kernels.forward*.nbc"))) >= len(get_args(Precision))


def compile_into(folder: Path) -> None:
    """Compile the kernels in a process of its own; of several callers one does it."""
    with folder_lock(folder):
        if is_compiled(folder):
            return
        log.info("compiling the engine's kernels, once, into %s", folder)
        command = [sys.executable, "-c", f"import {KERNELS}"]
        environment = {
            **os.environ,
            NUMBAS_VARIABLE: str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        # With this process's own output it would keep a pipe open that others read to its end.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
        )
        if done.returncode:
            raise RuntimeError(f"the compiling process ended with {done.returncode}: {done.stderr}")
        log.info("the engine's kernels are compiled")


def fingerprint() -> str:
    """A name for the kernels of this source, this version of Numba and this processor."""
    # Numba finds what it has kept by the source's path.
    facts = [
        str(Path(__file__).resolve()),
        importlib.metadata.version("numba"),
        platform.machine(),
        platform.processor(),
    ]
    facts += [os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in SOURCES]
    return hashlib.sha256(repr(facts).encode() + b"".join(sources)).hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled kernels are kept: a folder that exists and can be written.

    In ``GPT2_KERNEL_CACHE`` or the user's cache; if that cannot be written, a temporary
    one, so that each process compiles for itself.
    """
    chosen = Settings.from_environment("kernel_cache").kernel_cache
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(chosen or Path(cache) / "gpt2core") / fingerprint()
    except RuntimeError:  # there is no home
        folder = Path(tempfile.gettempdir()) / "gpt2core" / fingerprint()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.warning("kernels cannot be kept in %s: %s", folder, error)
        return Path(tempfile.mkdtemp(prefix="gpt2core-kernels-"))
