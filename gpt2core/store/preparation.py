"""How far a model is from being ready, in figures and in words.

Written by the scheduler's thread while ``prepare_model`` downloads and converts, read by
the responses that tell it on the page. Invariant: nothing here is computed ahead; each
read tells the newest report.
"""

import time

from gpt2core.store.folder import Progress, format_bytes

CONVERSION_SECONDS = 15  # roughly what follows a download; only for telling people


class Preparation:
    """How far the model is from being ready: what is done, how fast, how long it takes.

    Written by the scheduler's thread, read by responses.
    """

    def __init__(self):
        self.progress: Progress | None = None  # None: nothing to fetch, only to load
        self._phase_began = (0.0, 0)  # when, and with how many bytes
        self._now = 0.0

    def report(self, progress: Progress) -> None:
        """The callback of ``prepare_model``."""
        self._now = time.monotonic()
        before = self.progress
        if (
            before is None
            or before.phase != progress.phase
            or before.bytes_done > progress.bytes_done  # a download that starts over
        ):
            self._phase_began = (self._now, progress.bytes_done)
        self.progress = progress

    @property
    def rate(self) -> float:
        """Bytes a second since this phase began; 0 while it cannot be told."""
        (began, had), progress = self._phase_began, self.progress
        elapsed = self._now - began
        if not progress or elapsed <= 0.5:
            return 0.0
        return max(0.0, (progress.bytes_done - had) / elapsed)

    @property
    def seconds_left(self) -> int | None:
        """Until the model is ready at that rate; None while it cannot be told."""
        progress, rate = self.progress, self.rate
        if not progress or rate <= 0:
            return None
        left = (progress.bytes_total - progress.bytes_done) / rate
        return round(left) + (CONVERSION_SECONDS if progress.phase == "download" else 1)

    @property
    def sentence(self) -> str:
        """In words: what happens, how far it is, how long it will take."""
        progress, rate, seconds_left = self.progress, self.rate, self.seconds_left
        if not progress:
            return "The model is being loaded."
        doing = "downloaded" if progress.phase == "download" else "converted"
        done, total = format_bytes(progress.bytes_done), format_bytes(progress.bytes_total)
        parts = [f"The model is being {doing}: {done} of {total}"]
        if rate:
            parts.append(f"{format_bytes(rate)}/s")
        if seconds_left is not None:
            parts.append(f"ready in about {duration(seconds_left)}")
        return ", ".join(parts) + "."


def duration(seconds: int) -> str:
    """``75`` -> ``"2 min"``: roughly, as people say it."""
    return f"{max(seconds, 1)} s" if seconds < 60 else f"{-(-seconds // 60)} min"
