"""Output of the command line: a progress bar, tokens on coloured backgrounds, safe text, JSON.

Used by the command line, and by ``load_encoder_hparams_and_params`` for its download.

Invariants: the bar goes to standard error only. Colours and the bar appear only on a
terminal.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from gpt2core.store.folder import Progress

if TYPE_CHECKING:
    from tqdm import tqdm  # imported at run time when the first bar is shown

# Backgrounds of 256-colour terminals, pale enough for black letters; neighbours differ.
CHIP_COLOURS = (153, 223, 157, 218, 187, 189)
# A model may generate any byte, and a terminal obeys control characters: these are replaced.
# Line feed and tab are text.
CONTROLS = {c: "\ufffd" for c in [*range(0x20), *range(0x7F, 0xA0)] if chr(c) not in "\n\t"}


class ProgressBar:
    """A progress callback that shows a bar for each phase; a context manager.

    If standard error is no terminal, only the notes are written, each once.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._phase = self._note = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        bar = self._bar_of(progress)
        bar.total = progress.bytes_total
        bar.update(progress.bytes_done - bar.n)
        if progress.note and progress.note != self._note:
            bar.write(progress.note, file=sys.stderr)
        self._note = progress.note

    def _bar_of(self, progress: Progress) -> "tqdm[Any]":
        """The bar of the phase; a new one when a phase begins."""
        if self._bar is not None and progress.phase == self._phase:
            return self._bar
        from tqdm import tqdm

        if self._bar is not None:
            self._bar.close()
        self._phase = progress.phase
        self._bar = tqdm(
            desc=progress.phase,
            initial=progress.bytes_done,  # bytes of an earlier run do not count for the speed
            total=progress.bytes_total,
            unit="B",
            unit_scale=True,
            disable=None,  # off if standard error is no terminal
        )
        return self._bar


def has_colour(stream: TextIO) -> bool:
    """Whether colours may be written to ``stream`` (see https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def chip(text: str, position: int) -> str:
    """``text`` on the background of the token at ``position``."""
    colour = CHIP_COLOURS[position % len(CHIP_COLOURS)]
    return f"\x1b[48;5;{colour};30m{text}\x1b[0m"


def printable(text: str, stream: TextIO) -> str:
    """``text`` unchanged, or without control characters if ``stream`` is a terminal."""
    return text.translate(CONTROLS) if stream.isatty() else text


def print_json(value: Any) -> None:
    """Print one line of JSON, with ``Ġ`` and other letters as they are."""
    print(json.dumps(value, ensure_ascii=False))
