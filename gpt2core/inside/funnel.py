"""One draw step by step: temperature, top-k, top-p, and the random number of the seed.

The probabilities of the remaining tokens divide the line from 0 to 1 into intervals, and the
token whose interval contains the random number is drawn. All of this is computed by the
functions of ``sampling``, so the token equals the one that a generation with the same
logits, parameters and seed draws.

Invariant: the tokens after each step are a subset of those before it.
"""

from dataclasses import dataclass, replace

import numpy as np

from gpt2core.errors import InputError
from gpt2core.sampling import SamplingParams, distribution, index_at


@dataclass(frozen=True)
class Step:
    """The tokens after a step: ``all``, ``temperature``, ``top_k``, ``top_p`` or ``draw``.

    ``n_kept`` is their number, ``share`` the sum of their probabilities after temperature.
    """

    name: str
    n_kept: int
    share: float


@dataclass(frozen=True, eq=False)
class Funnel:
    """One draw. All arrays are ``[n_kept]``, one entry for each token that could be drawn.

    ``ids`` are the tokens, ``probabilities`` (float32) those of the draw, ``before`` the
    model's own, without temperature, top-k and top-p. Token ``ids[i]`` has the interval from
    ``starts[i]`` to ``ends[i]``; ``number``, from 0 to 1, is in that of ``ids[drawn]``.
    """

    steps: tuple[Step, ...]
    ids: np.ndarray
    before: np.ndarray
    probabilities: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    number: float
    drawn: int

    @property
    def token(self) -> int:
        """The drawn id."""
        return int(self.ids[self.drawn])


def funnel(logits: np.ndarray, params: SamplingParams, n_drawn: int = 0) -> Funnel:
    """The draw from ``logits [n_vocab]`` with ``params`` and its seed.

    A generation takes one random number for each token; ``n_drawn`` is the number of tokens
    that it generated before this one. Raises InputError if ``params`` has no seed.
    """
    if params.seed is None:
        raise InputError("A draw can only be shown with a seed; enter one.", "seed")
    own = probabilities_of(logits, SamplingParams(temperature=1.0))  # [n_vocab]
    uncut = replace(params, top_k=0, top_p=1.0)
    after_temperature, _ = distribution(logits, uncut)  # [n_vocab], or [1] if greedy
    warm = probabilities_of(logits, uncut)  # [n_vocab]
    after_top_k, _ = distribution(logits, replace(params, top_p=1.0))  # [n_top_k]
    ids, probabilities = distribution(logits, params)  # [n_kept] each
    number = float(params.generator().random(n_drawn + 1)[-1])
    reached = np.cumsum(probabilities, dtype=np.float64)  # [n_kept]
    ends = reached / reached[-1]  # [n_kept]
    starts = np.concatenate([[0.0], ends[:-1]])  # [n_kept]
    drawn = index_at(reached, number)
    steps = (
        Step("all", logits.size, 1.0),
        Step("temperature", len(after_temperature), 1.0),
        Step("top_k", len(after_top_k), share(warm, after_top_k)),
        Step("top_p", len(ids), share(warm, ids)),
        Step("draw", 1, share(warm, ids[drawn : drawn + 1])),
    )
    return Funnel(steps, ids, own[ids], probabilities, starts, ends, number, drawn)


def probabilities_of(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """``distribution`` of all ids, 0 for excluded ones: ``[n_vocab] -> [n_vocab]``, float64.

    Divided by the sum, because float32 probabilities do not add up to exactly 1.
    """
    ids, probabilities = distribution(logits, params)  # [n_kept] each
    full: np.ndarray = np.zeros(logits.size)
    full[ids] = probabilities
    full /= full.sum()
    return full


def share(probabilities: np.ndarray, ids: np.ndarray) -> float:
    """The sum of the probabilities of ``ids``."""
    return float(probabilities[ids].sum())
