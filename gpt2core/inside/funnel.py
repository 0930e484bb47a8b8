"""One draw step by step: temperature, top-k, top-p, and the noise of the seed.

Each token that is left has a log-probability and a random noise of its own; the token with
the largest sum is drawn. All of this is computed by the functions of ``sampling``, so the
token equals the one that a generation with the same logits, parameters and seed draws at the
same position.

Invariant: the tokens after each step are a subset of those before it.
"""

from dataclasses import dataclass, replace

import numpy as np

from gpt2core.errors import InputError
from gpt2core.sampling import SamplingParams, distribution, draw, gumbel_noise, uniform_numbers


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
    model's own, without temperature, top-k and top-p. ``log_probabilities`` (natural
    logarithm; -inf for a probability of 0) plus ``noise`` are ``sums``, of which
    ``sums[drawn]`` is the largest.
    """

    steps: tuple[Step, ...]
    ids: np.ndarray
    before: np.ndarray
    probabilities: np.ndarray
    log_probabilities: np.ndarray
    noise: np.ndarray
    drawn: int

    @property
    def token(self) -> int:
        """The drawn id."""
        return int(self.ids[self.drawn])

    @property
    def sums(self) -> np.ndarray:
        """Log-probability plus noise of each token, ``[n_kept]``."""
        sums: np.ndarray = self.log_probabilities + self.noise
        return sums


def funnel(logits: np.ndarray, params: SamplingParams, position: int) -> Funnel:
    """The draw from ``logits [n_vocab]`` with ``params`` and its seed.

    ``position`` is the number of tokens before the drawn one. Raises InputError if
    ``params`` has no seed.
    """
    if params.seed is None:
        raise InputError("A draw can only be shown with a seed; enter one.", "seed")
    own = probabilities_of(logits, SamplingParams(temperature=1.0))  # [n_vocab]
    uncut = replace(params, top_k=0, top_p=1.0)
    after_temperature, _ = distribution(logits, uncut)  # [n_vocab], or [1] if greedy
    warm = probabilities_of(logits, uncut)  # [n_vocab]
    after_top_k, _ = distribution(logits, replace(params, top_p=1.0))  # [n_top_k]
    ids, probabilities = distribution(logits, params)  # [n_kept] each
    with np.errstate(divide="ignore"):  # -inf is meant
        log_probabilities = np.log(probabilities.astype(np.float64))  # [n_kept]
    noise = gumbel_noise(uniform_numbers(params.seed, position, ids))  # [n_kept]
    token = draw(ids, probabilities, params.seed, position)
    steps = (
        Step("all", logits.size, 1.0),
        Step("temperature", len(after_temperature), 1.0),
        Step("top_k", len(after_top_k), share(warm, after_top_k)),
        Step("top_p", len(ids), share(warm, ids)),
        Step("draw", 1, share(warm, np.array([token]))),
    )
    drawn = int(np.flatnonzero(ids == token)[0])
    return Funnel(steps, ids, own[ids], probabilities, log_probabilities, noise, drawn)


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
