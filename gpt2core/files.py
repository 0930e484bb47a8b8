"""Reading and writing files: atomic writes, the lock on a folder, disk space, errors.

Below the engine, the tokenizer and the store, which all keep files in a model's folder.

Invariants: a file that :func:`atomic_write` made is complete under its own name; one
process at a time holds :func:`folder_lock`, which leaves no file behind.
"""

import errno
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2core.errors import ModelFileError, WriteError

if TYPE_CHECKING:
    from filelock import FileLock  # only writers need it, so it is imported when one locks

log = logging.getLogger(__name__)

LOCK_FILE = ".lock"
LOCK_POLL_SECONDS = 0.1  # between two attempts to take a lock that another process holds
# What the system answers on a disk without file locks, such as some network disks.
NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write a file or a folder to.

    At the end of the block it is flushed to the disk and renamed to ``path``. If the block
    raises, it is removed, and ``path`` stays as it was::

        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
        if temporary.is_file():
            # Without this, a power cut may leave a file of the right length full of zeros.
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        remove(temporary)


def unfinished_writes(path: Path) -> list[Path]:
    """The temporary files of :func:`atomic_write` for ``path``: being written, or left over."""
    return list(path.parent.glob(f".{path.name}.*"))


def remove_unfinished_writes(path: Path) -> None:
    """Remove what killed writers of ``path`` left. Only for a holder of :func:`folder_lock`."""
    for temporary in unfinished_writes(path):
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def folder_lock(directory: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lock ``directory`` against other processes and threads; creates it if needed.

    Calls ``on_wait`` ten times a second while another holds it; an exception raised there
    ends the waiting. The operating system frees the lock of a process that dies. A disk
    without file locks is used without one, after a warning. Raises WriteError if the
    folder cannot be written.
    """
    from filelock import FileLock

    lock = FileLock(directory / LOCK_FILE)
    while not acquired(lock, directory):
        on_wait()
        time.sleep(LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        # Removed while it is held: a process that waits for the removed file notices that
        # and starts over. Windows refuses this; there, release() removes it.
        with suppress(OSError):
            (directory / LOCK_FILE).unlink()
        lock.release()


def acquired(lock: "FileLock", directory: Path) -> bool:
    """Whether ``lock`` could be taken at once, or the disk of ``directory`` has no locks."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except TimeoutError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise write_error(directory, error) from error
        log.warning("%s is on a disk without file locks: start one process at a time.", directory)
    return True


def check_space(directory: Path, n_bytes: int) -> None:
    """Raise WriteError unless ``n_bytes`` more fit on the disk of ``directory``."""
    free = shutil.disk_usage(directory).free
    if n_bytes > free:
        raise WriteError(
            f"the disk of {directory} is too full: {format_bytes(n_bytes)} are needed, "
            f"{format_bytes(free)} are free."
        )


def write_error(path: Path, error: OSError) -> WriteError:
    """The WriteError for ``path`` after the operating system refused to write it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WriteError(
            f"the disk is full: {path} could not be written. Make room, then try again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WriteError(
            f"{path} cannot be written: {os.strerror(error.errno)}. "
            "Choose another folder for models, or change its permissions."
        )
    return WriteError(f"{path} cannot be written: {error.strerror or error}.")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelFileError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}.") from error
    return values


def file_size(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def format_bytes(n: float) -> str:
    """A number of bytes in powers of a thousand: ``497759232`` -> ``"498 MB"``."""
    for unit in ("bytes", "kB", "MB"):
        if n < 999.5:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:,.1f} GB"
