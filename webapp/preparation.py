"""How far a model is from being ready, in figures and in words.

Written by the scheduler's thread while ``prepare_model`` downloads and converts, read by
the responses that tell it on the page. Invariant: nothing here is computed ahead; each
read tells the newest report.
"""

import time

from gpt2core.files import Progress, format_bytes

CONVERSION_SECONDS = 15  # roughly what follows a download; only for telling people


class Preparation:
    """How far the model is from being ready: what is done, how fast, how long it takes.

    Written by the scheduler's thread, read by responses; each read sees one whole state.
    """

    def __init__(self):
        self.progress: Progress | None = None  # None: nothing to fetch, only to load
        self._phase_began = (0.0, 0)  # when, and with how many bytes
        self._now = 0.0

    def report(self, progress: Progress) -> None:
        """The callback of ``prepare_model``."""
        self._now = time.monotonic()
        if self.progress is None or self.progress.phase != progress.phase:
            self._phase_began = (self._now, progress.bytes_done)
        self.progress = progress

    @property
    def rate(self) -> float:
        """Bytes a second since this phase began; 0 while it cannot be told."""
        began, had = self._phase_began
        elapsed = self._now - began
        return (self.progress.bytes_done - had) / elapsed if elapsed > 0.5 else 0.0

    @property
    def seconds_left(self) -> int | None:
        """Until the model is ready at that rate; None while it cannot be told."""
        if not self.progress or not self.rate:
            return None
        left = (self.progress.bytes_total - self.progress.bytes_done) / self.rate
        return round(left) + (CONVERSION_SECONDS if self.progress.phase == "download" else 0)

    @property
    def sentence(self) -> str:
        """In words: what happens, how far it is, how long it will take."""
        if not self.progress:
            return "The model is being loaded."
        doing = "downloaded" if self.progress.phase == "download" else "converted"
        done, total = self.progress.bytes_done, self.progress.bytes_total
        parts = [f"The model is being {doing}: {format_bytes(done)} of {format_bytes(total)}"]
        if self.rate:
            parts.append(f"{format_bytes(self.rate)}/s")
        if self.seconds_left is not None:
            parts.append(f"ready in about {duration(self.seconds_left)}")
        return ", ".join(parts) + "."


def duration(seconds: int) -> str:
    """``75`` -> ``"2 min"``: roughly, as people say it."""
    return f"{max(seconds, 1)} s" if seconds < 60 else f"{-(-seconds // 60)} min"
