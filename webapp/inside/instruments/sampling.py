"""One draw: how temperature, top-k and top-p leave fewer tokens, and where the number fell.

The token equals the one that a generation with the same text, fields and seed draws, because
both use ``gpt2core.sampling``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.funnel import Funnel
from gpt2core.sampling import SamplingParams
from webapp.formatting import shortest_repr
from webapp.inside.labels import Piece
from webapp.inside.steps.output import Kept, funnel_of, kept_tokens
from webapp.inside.view import View

UNITS = 1000  # length of the line from 0 to 1 in its picture
NARROWEST = 2  # units; what is narrower is left blank, and counted


@dataclass(frozen=True)
class Bar:
    """What is left after one step, and what the step cut away.

    ``n_width`` is 0 to 1000 on a logarithmic scale, ``share_width`` on a linear one.
    """

    label: str
    n_kept: int
    share: float
    n_width: int
    share_width: int
    n_cut: int
    cut: float


@dataclass(frozen=True)
class Segment:
    """A kept token on the line, in units."""

    start: float
    width: float
    is_drawn: bool
    is_odd: bool


@dataclass(frozen=True)
class SamplingPage:
    """What the page shows. ``narrow`` is the sum of the ``n_narrow`` tokens left blank."""

    funnel: Funnel
    bars: tuple[Bar, ...]
    segments: tuple[Segment, ...]
    n_narrow: int
    narrow: float
    kept: tuple[Kept, ...]
    n_others: int
    others: float
    drawn: Piece
    start: float
    end: float
    needle: float
    total: float


def page_of(view: View) -> SamplingPage:
    """The draw after the chosen token."""
    found = funnel_of(view)
    widths = found.ends - found.starts  # [n_kept]
    wide = UNITS * widths >= NARROWEST
    wide[found.drawn] = True
    kept = tuple(kept_tokens(view, found))
    named = sum(token.probability for token in kept)
    total = float(found.probabilities.sum(dtype=np.float64))
    return SamplingPage(
        funnel=found,
        bars=tuple(bars(view.query.sampling, found)),
        segments=tuple(segments(found, np.flatnonzero(wide))),
        n_narrow=int((~wide).sum()),
        narrow=float(widths[~wide].sum()),
        kept=kept,
        n_others=len(found.ids) - len(kept),
        others=total - named,
        drawn=view.piece(found.token),
        start=float(found.starts[found.drawn]),
        end=float(found.ends[found.drawn]),
        needle=round(UNITS * found.number, 1),
        total=total,
    )


def bars(sampling: SamplingParams, found: Funnel) -> Iterator[Bar]:
    """A bar for each step of the funnel."""
    labels = {
        "all": "the model alone",
        "temperature": f"temperature {shortest_repr(sampling.temperature)}",
        "top_k": f"top-k {sampling.top_k or 'off'}",
        "top_p": f"top-p {shortest_repr(sampling.top_p) if sampling.top_p < 1 else 'off'}",
        "draw": "the draw",
    }
    n_vocab = found.steps[0].n_kept
    before = found.steps[0]
    for step in found.steps:
        yield Bar(
            labels[step.name],
            step.n_kept,
            step.share,
            round(UNITS * math.log(step.n_kept) / math.log(n_vocab)),
            round(UNITS * step.share),
            before.n_kept - step.n_kept,
            before.share - step.share,
        )
        before = step


def segments(found: Funnel, indices: np.ndarray) -> Iterator[Segment]:
    """The tokens at ``indices``, in the order of the line."""
    for i in indices:
        start, end = float(found.starts[i]), float(found.ends[i])
        width = max(round(UNITS * (end - start), 1), 0.5)
        yield Segment(round(UNITS * start, 1), width, int(i) == found.drawn, bool(i % 2))


def every_token(view: View) -> Iterator[tuple[Piece, float, float, float, float, bool]]:
    """(token, own probability, probability, start, end, is drawn) of all that could be drawn."""
    found = funnel_of(view)
    rows = zip(found.ids, found.before, found.probabilities, found.starts, found.ends, strict=True)
    for i, (id, *figures) in enumerate(rows):
        own, probability, start, end = map(float, figures)
        yield view.piece(id), own, probability, start, end, i == found.drawn
