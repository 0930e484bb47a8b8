"""Preparing a model to be served: download, convert, load; and how far that is.

:func:`prepare_engine` is one attempt. ``serving.py`` calls it in a thread of its own and
tries again after a failure. Meanwhile pages show :attr:`LoadProgress.message`.

Invariant: the figures of a :class:`LoadProgress` follow from the reports of the current phase
alone; a rate or a time that is not known yet is not reported.
"""

from pathlib import Path
from time import monotonic

from gpt2core.engine import compiling
from gpt2core.engine.engine import Engine
from gpt2core.engine.packed import Precision
from gpt2core.errors import ModelFileError
from gpt2core.files import format_bytes
from gpt2core.store.folder import Progress
from gpt2core.store.loader import Model, load_model, model_directory, prepare_model
from gpt2core.store.shards import find_weights

CONVERSION_SECONDS = 15  # roughly, after a download; for the message only
MIN_RATE_SECONDS = 0.5  # a rate over less time than this is not reported
READ_SUFFIXES = (".safetensors", ".json", ".txt", ".bpe")  # of files that a model is read from
Fingerprint = tuple[tuple[str, int, int], ...]


class LoadCancelled(Exception):
    """Raised inside an attempt that was cancelled."""


class LoadProgress:
    """How far one attempt is. The preparing thread updates it, responses read it."""

    def __init__(self) -> None:
        self.newest: Progress | None = None  # None: nothing to fetch or convert, only to load
        self._phase_began = 0.0  # monotonic seconds
        self._bytes_at_begin = 0
        self._updated = 0.0  # monotonic seconds
        self._cancelled = False

    def update(self, progress: Progress) -> None:
        """The callback for ``prepare_model``. Raises LoadCancelled after :meth:`cancel`."""
        if self._cancelled:
            raise LoadCancelled
        self._updated = monotonic()
        before = self.newest
        if (
            before is None
            or before.phase != progress.phase
            or before.bytes_done > progress.bytes_done  # a download that starts over
        ):
            self._phase_began, self._bytes_at_begin = self._updated, progress.bytes_done
        self.newest = progress

    def finish(self) -> None:
        """Everything is downloaded and converted; what remains is loading."""
        self.newest = None

    def cancel(self) -> None:
        """End the attempt at its next report."""
        self._cancelled = True

    @property
    def rate(self) -> float:
        """Bytes a second since this phase began; 0 if not known yet."""
        elapsed = self._updated - self._phase_began
        if self.newest is None or elapsed <= MIN_RATE_SECONDS:
            return 0.0
        return max(0.0, (self.newest.bytes_done - self._bytes_at_begin) / elapsed)

    @property
    def seconds_left(self) -> int | None:
        """Seconds until the model is ready, at that rate; None if not known yet."""
        newest, rate = self.newest, self.rate
        if newest is None or rate <= 0:
            return None
        seconds = round((newest.bytes_total - newest.bytes_done) / rate)
        return seconds + (CONVERSION_SECONDS if newest.phase == "download" else 1)

    @property
    def message(self) -> str:
        """A sentence: what is being done, how far it is, how long it will take."""
        newest, rate, seconds_left = self.newest, self.rate, self.seconds_left
        if newest is None:
            return "The model is being loaded."
        doing = "downloaded" if newest.phase == "download" else "converted"
        done, total = format_bytes(newest.bytes_done), format_bytes(newest.bytes_total)
        parts = [f"The model is being {doing}: {done} of {total}"]
        if rate:
            parts.append(f"{format_bytes(rate)}/s")
        if seconds_left is not None:
            parts.append(f"ready in about {format_duration(seconds_left)}")
        return ", ".join(parts) + "."


def format_duration(seconds: int) -> str:
    """``75`` -> ``"2 min"``: rounded up to seconds or minutes."""
    return f"{max(seconds, 1)} s" if seconds < 60 else f"{-(-seconds // 60)} min"


def prepare_engine(
    name: str,
    models_dir: str | Path,
    n_slots: int,
    progress: LoadProgress,
    precision: Precision = "float32",
) -> tuple[Model, Engine]:
    """The model ``name`` and an engine for it, downloaded and converted if needed.

    May take minutes. Of several processes one downloads and converts; the others wait for
    its lock on the model's folder and then load the result. Raises ModelFileError with the
    cause, or LoadCancelled.
    """
    compiling.start()  # in the background; see there
    prepare_model(name, models_dir, progress.update)
    progress.finish()
    model = load_model(name, models_dir)
    # The first engine of a large model writes its packed weights, which takes seconds.
    return model, model.engine(n_slots, precision)


def folder_fingerprint(name: str, models_dir: str | Path) -> Fingerprint | None:
    """Name, size and time of change of the files a model is read from; None without weights."""
    try:
        directory = model_directory(name, models_dir)
        if find_weights(directory) is None:
            return None
        files = sorted(path for path in directory.iterdir() if path.suffix in READ_SUFFIXES)
        stats = [(path.name, path.stat()) for path in files]
    except (OSError, ModelFileError):
        return None
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
