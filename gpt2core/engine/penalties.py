"""Presence and frequency penalties, and a bias for single tokens: changes of logits.

``engine/sequence.py`` applies them before temperature, top-k and top-p. The log-probabilities
that are reported stay the model's own.

Source: OpenAI's API reference, "Frequency and presence penalties": the logit of a token that
was sampled ``c`` times becomes ``logit - c * frequency - (c > 0) * presence``; ``logit_bias`` is
added to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Penalties:
    """How logits change. All 0 and no bias: not at all."""

    presence: float = 0.0
    frequency: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def change_nothing(self) -> bool:
        return not (self.presence or self.frequency or self.logit_bias)


NO_PENALTIES = Penalties()


def penalized(logits: FloatArray, penalties: Penalties, counts: Mapping[int, int]) -> FloatArray:
    """``logits [n_vocab]`` after penalties and bias; the same array if there are none.

    ``counts`` says how often each id was generated so far.
    """
    if penalties.change_nothing:
        return logits
    changed = logits.copy()  # [n_vocab]
    for id, count in counts.items():
        changed[id] -= count * penalties.frequency + penalties.presence
    for id, bias in penalties.logit_bias.items():
        changed[id] += bias
    return changed
