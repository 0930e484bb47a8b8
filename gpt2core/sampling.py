"""From logits to the next token: temperature, top-k, top-p, seed.

After every forward pass ``generate`` calls :func:`sample` with the last row of logits;
the page draws its bars from :func:`most_likely` and :func:`distribution`.

Invariants: the same logits, parameters and generator state give the same token;
``temperature=0`` is greedy whatever the rest says; ``top_k=0`` is off; equal logits are
ranked by id, lowest first.

Sources: Fan et al. (2018) for top-k, Holtzman et al. (2020) for top-p (nucleus).
"""

import secrets
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from gpt2core.errors import InputError

MAX_TEMPERATURE = 5.0
MAX_SEED = 2**32 - 1
N_CANDIDATES = 10
GROUP_SIZE = 64  # scores of which only the highest is looked at first
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class SamplingParams:
    """How to choose among the next tokens. Raises InputError, naming the field.

    ``temperature`` divides the logits (0 takes the likeliest token, 1 samples as the
    model believes); ``top_k`` keeps the k likeliest (0: all); ``top_p`` keeps the
    smallest set of likeliest tokens whose probabilities reach p, after temperature and
    top-k (1: all); ``seed`` makes the draw repeatable (None: each run differs).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self):
        if not (is_number(self.temperature) and 0 <= self.temperature <= MAX_TEMPERATURE):
            raise InputError(
                f"Temperature is {self.temperature}; it must be from 0 (always the likeliest "
                f"token) to {MAX_TEMPERATURE:g}.",
                "temperature",
                maximum=MAX_TEMPERATURE,
            )
        if not (is_whole(self.top_k) and self.top_k >= 0):
            raise InputError(
                f"Top-k is {self.top_k}; it must be 0 (off) or the number of tokens to keep.",
                "top_k",
                minimum=0,
            )
        if not (is_number(self.top_p) and 0 < self.top_p <= 1):
            raise InputError(
                f"Top-p is {self.top_p}; it must be more than 0 and at most 1 (off).",
                "top_p",
                maximum=1,
            )
        if self.seed is not None and not (is_whole(self.seed) and 0 <= self.seed <= MAX_SEED):
            raise InputError(
                f"Seed is {self.seed}; it must be a whole number from 0 to {MAX_SEED}.",
                "seed",
                maximum=MAX_SEED,
            )

    def generator(self) -> np.random.Generator:
        """A fresh random generator for one run with these parameters."""
        return np.random.default_rng(self.seed)


def is_whole(value) -> bool:
    """Whether ``value`` is a whole number (Python's or NumPy's); True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value) -> bool:
    """Whether ``value`` is a real number; True and False are not. NaN is, but fits no range."""
    return isinstance(value, Real) and not isinstance(value, bool)


def fresh_seed() -> int:
    """A seed for a run that was given none, so that it can still be repeated."""
    return secrets.randbelow(MAX_SEED + 1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of a row of logits, same dtype: ``[n_vocab] -> [n_vocab]``."""
    shifted = logits - logits.max()  # [n_vocab]
    return shifted - np.log(np.exp(shifted).sum())  # [n_vocab]


def most_likely(scores: np.ndarray, n: int) -> np.ndarray:
    """Ids of the ``n`` highest scores, highest first: ``[n_vocab] -> [min(n, n_vocab)]``."""
    n = min(n, scores.size)
    # Partitioning fifty thousand scores is slow. Of the groups' highest scores n reach the
    # n-th highest of these, so nothing below that one can be among the n highest of all.
    n_groups = scores.size // GROUP_SIZE
    if n <= n_groups:
        highest = scores[: GROUP_SIZE * n_groups].reshape(GROUP_SIZE, n_groups).max(axis=0)
        ids = np.flatnonzero(scores >= np.partition(highest, -n)[-n])  # ascending
    else:
        ids = np.arange(scores.size)
    few = scores[ids]
    # Everything that reaches the n-th highest score, ties at the border included, so
    # that the order never depends on how a partition happens to place equal numbers.
    ids = ids[few >= np.partition(few, -n)[-n]]
    return ids[np.argsort(-scores[ids], kind="stable")][:n]  # stable: ranks ties by id


def distribution(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`sample` draws from: token ids and their probabilities.

    ``logits`` is ``[n_vocab]`` float32. Returns ``ids [n_kept]`` and ``probabilities
    [n_kept]`` float32 adding up to 1, after temperature, then top-k, then top-p;
    likeliest first where top-k or top-p cut, else in the order of the ids.
    """
    if params.temperature == 0:
        return np.array([logits.argmax()]), np.ones(1, dtype=logits.dtype)
    ids = most_likely(logits, params.top_k) if params.top_k else np.arange(logits.size)  # [n_kept]
    # The maximum is subtracted before dividing, so that a tiny temperature sends all but
    # the likeliest to -inf, a weight of 0, and nothing to +inf. float32 holds no number
    # below SMALLEST but 0, and 0 / 0 is NaN.
    shifted = logits[ids] - logits.max()  # [n_kept]
    with np.errstate(over="ignore"):
        weights = np.exp(shifted / max(float(params.temperature), SMALLEST))  # [n_kept]
    if params.top_p < 1:
        kept = nucleus(weights, params.top_p)  # [n_nucleus] of [n_kept]
        ids, weights = ids[kept], weights[kept]
    return ids, weights / weights.sum()


def nucleus(weights: np.ndarray, p: float) -> np.ndarray:
    """Places of the fewest weights that reach the share ``p`` of their sum, highest first."""
    enough = p * weights.sum(dtype=np.float64)
    n = 256  # sorting everything is slow, and a few hundred tokens mostly suffice
    while True:
        places = most_likely(weights, n)
        reached = np.cumsum(weights[places], dtype=np.float64)
        if reached[-1] >= enough or n >= weights.size:
            return places[: np.searchsorted(reached, enough) + 1]
        n *= 8


def sample(logits: np.ndarray, params: SamplingParams, rng: np.random.Generator) -> int:
    """Draw the next token's id from ``logits [n_vocab]``; one number from ``rng`` a draw."""
    return draw(*distribution(logits, params), rng)


def draw(ids: np.ndarray, probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """One of ``ids [n_kept]``, each with its probability ``[n_kept]``."""
    # A float64 sum, because fifty thousand float32 steps would round the tail away.
    reached = np.cumsum(probabilities, dtype=np.float64)  # [n_kept]
    return int(ids[index_at(reached, rng.random())])


def index_at(reached: np.ndarray, number: float) -> int:
    """Index of the token that ``number``, from 0 to 1, falls on.

    The tokens' probabilities lie end to end on a line; ``reached [n_kept]``, float64, is
    their running sum, whose last entry need not be exactly 1.
    """
    at = np.searchsorted(reached, number * reached[-1], side="right")
    return min(int(at), len(reached) - 1)
