"""What a picture draws of long texts and deep models.

Of tokens all up to 64, beyond that the 64 that end at the chosen one. Of layers all up to 24, of
more every second, third … and the last.

What lies before the window is drawn as one row or column with its sum, so that what is shown
still adds up. Nothing is left out silently: ``n_before`` and ``n_after`` are on the page.
"""

from dataclasses import dataclass

import numpy as np

MAX_DRAWN = 64  # tokens
MAX_LAYERS = 24
MAX_NUMBERED = 24  # tokens of a matrix whose numbers all fit into a table


@dataclass(frozen=True)
class Window:
    """Positions ``start`` to ``stop - 1`` (from 0) of ``n_tokens``."""

    start: int
    stop: int
    n_tokens: int

    @property
    def n_before(self) -> int:
        return self.start

    @property
    def n_after(self) -> int:
        return self.n_tokens - self.stop

    @property
    def positions(self) -> range:
        return range(self.start, self.stop)

    @property
    def is_whole(self) -> bool:
        return self.stop - self.start == self.n_tokens

    @property
    def is_numbered(self) -> bool:
        """Whether a matrix of these tokens is a table of numbers."""
        return self.stop - self.start <= MAX_NUMBERED

    def split(self, row: np.ndarray) -> tuple[float, np.ndarray]:
        """A row over all tokens as the sum of what lies before the window, and the window.

        ``[n_tokens] -> float, [stop - start]``; the sum is in float64.
        """
        return float(row[: self.start].sum(dtype=np.float64)), row[self.start : self.stop]


def window_for(n_tokens: int, position: int) -> Window:
    """The window of a text of ``n_tokens`` for the token at ``position`` (from 0)."""
    if n_tokens <= MAX_DRAWN:
        return Window(0, n_tokens, n_tokens)
    stop = max(position + 1, MAX_DRAWN)
    return Window(stop - MAX_DRAWN, stop, n_tokens)


def layer_step(n_layer: int) -> int:
    """Every how many-th layer is drawn."""
    return -(-n_layer // MAX_LAYERS)


def layers_in_steps(n_layer: int, step: int, *also: int) -> tuple[int, ...]:
    """The first layer, the last, one in ``step`` between them, and ``also``."""
    return tuple(sorted({*range(0, n_layer, step), n_layer - 1, *also}))
