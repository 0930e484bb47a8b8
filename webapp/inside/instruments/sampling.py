"""One draw: how temperature, top-k and top-p leave fewer tokens, and whose sum was the largest.

The token equals the one that a generation with the same text, fields and seed draws at this
place, because both use ``gpt2core.sampling``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.funnel import Funnel
from gpt2core.sampling import SamplingParams
from webapp.formatting import shortest_repr
from webapp.inside.labels import Piece
from webapp.inside.steps.output import Contender, Kept, contenders, funnel_of, kept_tokens
from webapp.inside.view import View

UNITS = 1000  # length of a bar


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
class SamplingPage:
    """What the page shows.

    ``share_left`` is the probability of all tokens that are left, ``share_drawn`` that of the drawn
    one, both after temperature.
    ``lead`` is the drawn token's sum less the next largest, None where one token is left.
    The ``n_others`` tokens that are not in ``kept`` have the probability ``others``.
    """

    funnel: Funnel
    bars: tuple[Bar, ...]
    contenders: tuple[Contender, ...]
    kept: tuple[Kept, ...]
    n_others: int
    others: float
    drawn: Contender
    lead: float | None
    total: float
    share_left: float
    share_drawn: float


def page_of(view: View) -> SamplingPage:
    """The draw after the chosen token."""
    found = funnel_of(view)
    kept = tuple(kept_tokens(view, found))
    named = sum(token.probability for token in kept)
    total = float(found.probabilities.sum(dtype=np.float64))
    shown = tuple(contenders(view, found))
    return SamplingPage(
        funnel=found,
        bars=tuple(bars(view.query.sampling, found)),
        contenders=shown,
        kept=kept,
        n_others=len(found.ids) - len(kept),
        others=total - named,
        drawn=shown[0],
        lead=shown[0].sum - shown[1].sum if len(shown) > 1 else None,
        total=total,
        share_left=found.steps[-2].share,
        share_drawn=found.steps[-1].share,
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


def every_token(view: View) -> Iterator[tuple[Piece, list[float], bool]]:
    """(token, figures, is drawn) of all that could be drawn.

    The figures are the model's own probability, the draw's, its logarithm, noise and sum.
    """
    found = funnel_of(view)
    columns = (found.before, found.probabilities, found.log_probabilities, found.noise, found.sums)
    for i, (id, *figures) in enumerate(zip(found.ids, *columns, strict=True)):
        yield view.piece(id), [float(figure) for figure in figures], i == found.drawn
