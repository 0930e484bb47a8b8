"""How surprising a text is: what the page of /score and the prompt's strip print of the scores.

Between the JSON of ``score_report`` and ``templates/score``. Knows no web framework. Invariant:
each number comes from the scores; a class of ranks is told by a sign and by words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webapp.chips import RankClass, describe_bytes, rank_class, readable
from webapp.formatting import ordinal, percent

MAX_SHOWN = 2_000  # with more tokens, browsers become slow
N_NAMED = 3  # most surprising tokens that are named


@dataclass(frozen=True)
class SurpriseToken:
    """One token with its probability and rank; both are None for the first token."""

    piece: str
    readable: str
    description: str
    probability: float | None
    rank: int | None

    @property
    def percent(self) -> str:
        return "" if self.probability is None else percent(self.probability)

    @property
    def ordinal(self) -> str:
        return "" if self.rank is None else ordinal(self.rank)

    @property
    def rank_class(self) -> RankClass | None:
        return None if self.rank is None else rank_class(self.rank)


@dataclass(frozen=True)
class Surprise:
    """A scored text as the page shows it."""

    tokens: Sequence[SurpriseToken]
    perplexity: float | None
    bits_per_byte: float | None
    overlap: int

    @property
    def shown(self) -> Sequence[SurpriseToken]:
        return self.tokens[:MAX_SHOWN]

    @property
    def n_hidden(self) -> int:
        return max(0, len(self.tokens) - MAX_SHOWN)

    @property
    def most_surprising(self) -> list[SurpriseToken]:
        """The least probable tokens, least probable first."""
        scored = [token for token in self.tokens if token.probability is not None]
        return sorted(scored, key=lambda token: token.probability or 0.0)[:N_NAMED]


def surprise(document: dict[str, Any]) -> Surprise:
    """The view of a document of ``score_report.score_document``."""
    tokens = []
    for token in document["tokens"]:
        data, logprob = bytes.fromhex(token["bytes"]), token["logprob"]
        probability = None if logprob is None else math.exp(logprob)
        description = describe_bytes(data)
        tokens.append(
            SurpriseToken(token["piece"], readable(data), description, probability, token["rank"])
        )
    return Surprise(tokens, document["perplexity"], document["bits_per_byte"], document["overlap"])


def figure(number: float) -> str:
    """Three significant digits: ``8.79``, ``1,240``."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
