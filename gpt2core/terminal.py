"""What is drawn on a terminal: a bar for slow work, tokens in colour.

Used by the command line, and by ``load_encoder_hparams_and_params`` for its download.

Invariants: a bar goes to standard error only; colours and the bar appear only where a
terminal shows them.
"""

import os
import sys

from gpt2core.store.folder import Progress

# Backgrounds of 256-colour terminals, pale enough for black letters; neighbours differ.
CHIP_COLOURS = (153, 223, 157, 218, 187, 189)
# A model may write any byte; a terminal must not obey it. Line feed and tab are text.
CONTROLS = {c: "\ufffd" for c in [*range(0x20), *range(0x7F, 0xA0)] if chr(c) not in "\n\t"}


class ProgressBar:
    """Shows each Progress it is called with as a bar; a context manager.

    Where standard error is no terminal, only the notes are written, each once.
    """

    def __init__(self):
        self._bar = None
        self._phase = self._note = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        if progress.phase != self._phase:
            self._open(progress)
        self._bar.total = progress.bytes_total
        self._bar.update(progress.bytes_done - self._bar.n)
        if progress.note and progress.note != self._note:
            self._bar.write(progress.note, file=sys.stderr)
        self._note = progress.note

    def _open(self, progress: Progress) -> None:
        from tqdm import tqdm  # only slow work needs it

        if self._bar is not None:
            self._bar.close()
        self._phase = progress.phase
        self._bar = tqdm(
            desc=progress.phase,
            initial=progress.bytes_done,  # what an earlier run brought counts for no speed
            total=progress.bytes_total,
            unit="B",
            unit_scale=True,
            disable=None,  # off where standard error is no terminal
        )


def has_colour(stream) -> bool:
    """Whether colours may be written to ``stream`` (see https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def chip(text: str, position: int) -> str:
    """``text`` on the background of the token at ``position``."""
    colour = CHIP_COLOURS[position % len(CHIP_COLOURS)]
    return f"\x1b[48;5;{colour};30m{text}\x1b[0m"


def printable(text: str, stream) -> str:
    """``text`` as it is, or without control characters where ``stream`` is a terminal."""
    return text.translate(CONTROLS) if stream.isatty() else text
