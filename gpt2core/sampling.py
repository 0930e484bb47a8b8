"""From logits to the next token: temperature, top-k, top-p, seed.

A forward pass ends with a row of logits, one number for each token of the vocabulary.
:func:`distribution` turns the row into token ids and probabilities, and :func:`draw` picks
one id. ``engine/sequence.py`` calls both after every pass, and :func:`most_likely` for the
candidates that are shown beside the token.

Invariants: a token is a function of the logits, the parameters and its position in the text.
There is no generator state, so a text that is continued token by token, or from any of its
tokens, is the text that one run generates. ``temperature=0`` is greedy, whatever the other
parameters are. ``top_k=0`` is off. Equal logits are ranked by id, lowest first.

Sources: Fan et al. (2018) for top-k, Holtzman et al. (2020) for top-p (nucleus sampling),
Gumbel (1954) for the draw, Steele, Lea and Flood (2014) for SplitMix64.
"""

import secrets
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from gpt2core.errors import InputError

MAX_TEMPERATURE = 5.0
MAX_SEED = 2**32 - 1
N_CANDIDATES = 10  # tokens that are reported with each generated token
GROUP_SIZE = 64  # scores that most_likely first reduces to their maximum
FIRST_NUCLEUS_SIZE = 256  # tokens that nucleus sorts first; mostly they are enough
SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)  # the smallest normal number, 1.2e-38

# Of SplitMix64: the step between two states, and the two multipliers of the output function.
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
BITS_OF_ONE = np.uint64(0x3FF0000000000000)  # the float64 1.0

FloatArray = NDArray[np.floating[Any]]
IdArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen. Raises InputError, which names the invalid field.

    ``temperature`` divides the logits: 0 takes the likeliest token, 1 samples from the
    model's own probabilities. ``top_k`` keeps the k likeliest tokens (0: all). ``top_p``
    keeps the smallest set of likeliest tokens whose probabilities add up to at least p,
    after temperature and top-k (1: all). ``seed`` makes a run repeatable (None: each run
    differs).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
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


def is_whole(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a whole number, Python's or NumPy's; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number; True and False are not, NaN is (but fails any range)."""
    return isinstance(value, Real) and not isinstance(value, bool)


def fresh_seed() -> int:
    """A random seed for a run without one: it can be shown, so that the run is repeatable."""
    return secrets.randbelow(MAX_SEED + 1)


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities of a row of logits, same dtype: ``[n_vocab] -> [n_vocab]``."""
    # Subtracting the maximum changes no probability, and exp() cannot overflow.
    shifted = logits - logits.max()  # [n_vocab]
    log_probabilities: FloatArray = shifted - np.log(np.exp(shifted).sum())  # [n_vocab]
    return log_probabilities


def distribution(logits: FloatArray, params: SamplingParams) -> tuple[IdArray, FloatArray]:
    """The tokens that may come next and the probability with which each is drawn.

    ``logits`` is ``[n_vocab]`` float32. Returns ``ids [n_kept]`` and ``probabilities
    [n_kept]``, float32, which add up to 1. The likeliest is first if top-k or top-p
    is on; otherwise the ids are in ascending order.
    """
    # Temperature 0 is greedy: one token, with certainty.
    if params.temperature == 0:
        return np.array([logits.argmax()]), np.ones(1, dtype=logits.dtype)  # [1], [1]
    # Top-k: keep the k likeliest.
    if params.top_k:
        ids = most_likely(logits, params.top_k)  # [n_kept]
    else:
        ids = np.arange(logits.size)  # [n_vocab]
    # Softmax with a temperature. Trap: subtract the maximum before dividing. A tiny
    # temperature then gives the likeliest token exp(0) = 1 and all others exp(-inf) = 0;
    # divided first, the logits would overflow to +inf. A temperature below the smallest
    # float32 would be rounded to 0, and 0 / 0 is NaN.
    temperature = max(float(params.temperature), SMALLEST_FLOAT32)
    shifted = logits[ids] - logits.max()  # [n_kept]
    with np.errstate(over="ignore"):  # -inf is meant
        weights = np.exp(shifted / temperature)  # [n_kept], not yet divided by their sum
    # Top-p: keep the likeliest that together have the probability p.
    if params.top_p < 1:
        kept = nucleus(weights, params.top_p)  # [n_nucleus], indices into ids
        ids, weights = ids[kept], weights[kept]  # [n_nucleus] each
    return ids, weights / weights.sum()  # [n_kept], [n_kept]


def draw(ids: IdArray, probabilities: FloatArray, seed: int, position: int) -> int:
    """One of ``ids [n_kept]``, each with its probability ``[n_kept]``.

    ``position`` is the place of the new token in the text: the number of tokens before it.
    The token with the largest ``log(probability) + noise`` is drawn (Gumbel-max trick).
    """
    if len(ids) == 1:
        return int(ids[0])
    # Trap: drawing where a random number falls on the running sum of the probabilities is not
    # robust. Logits that differ in the sixth digit, as those of another processor do, move
    # all borders, and tokens flip. Here only two nearly equal sums can flip.
    numbers = uniform_numbers(seed, position, ids)  # [n_kept]
    # Two logarithms for each token are slow, and few tokens can win. The sum grows with
    # probability / wait, where the wait -log(1 - number) is never less than the number. So
    # probability / number is an upper bound: keep what reaches the value of the best bound.
    bounds = probabilities / numbers  # [n_kept]
    best = bounds.argmax()
    reached = probabilities[best] / -np.log1p(-numbers[best])
    left = np.flatnonzero(bounds >= 0.999 * reached)  # [n_left], with room for rounding
    sums = np.log(probabilities[left].astype(np.float64)) + gumbel_noise(numbers[left])  # [n_left]
    return int(ids[left[sums.argmax()]])


def gumbel_noise(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform ``numbers [n]`` between 0 and 1 as Gumbel noise ``[n]``, from -3.6 to 36.7."""
    noise: NDArray[np.float64] = -np.log(-np.log1p(-numbers))
    return noise


def uniform_numbers(seed: int, position: int, ids: IdArray) -> NDArray[np.float64]:
    """A random number between 0 and 1, both excluded, for each of ``ids [n]``: ``[n]``.

    A number depends on ``seed``, ``position`` and its id, not on which other ids there are.
    """
    # Each seed and position has a SplitMix64 stream, of which number id belongs to that id.
    # SeedSequence hashes seed and position, so neighbouring ones give unrelated streams.
    key = np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)  # [1]
    states = ids.astype(np.uint64)  # [n], a copy, which all that follows changes in place
    states *= GOLDEN_GAMMA
    states += key + GOLDEN_GAMMA  # the state of number id is key + (id + 1) * GOLDEN_GAMMA
    splitmix64(states)
    # 52 random bits become the fraction of a float64 from 1 to 2. The result is
    # (k + 1/2) / 2**52 for a whole number k, so it is never 0 or 1.
    states >>= np.uint64(12)
    states |= BITS_OF_ONE
    numbers = states.view(np.float64)  # [n]
    numbers -= 1 - 2.0**-53
    return numbers


def splitmix64(states: NDArray[np.uint64]) -> None:
    """Replace each of ``states [n]`` by the output of SplitMix64 for it."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        states ^= states >> np.uint64(shift)
        states *= multiplier
    states ^= states >> np.uint64(31)


def most_likely(scores: FloatArray, n: int) -> IdArray:
    """Ids of the ``n`` highest scores, highest first: ``[n_vocab] -> [min(n, n_vocab)]``."""
    n = min(n, scores.size)
    # First drop most of the scores, because partitioning fifty thousand is slow. Split them
    # into groups and take each group's maximum. Let t be the n-th largest maximum. At least
    # n scores reach t, namely the n largest maxima, so the n highest scores all reach t:
    # what is below t can be dropped. Maxima are one vectorized pass over the scores.
    n_groups = scores.size // GROUP_SIZE
    if n <= n_groups:
        groups = scores[: GROUP_SIZE * n_groups].reshape(GROUP_SIZE, n_groups)
        maxima = groups.max(axis=0)  # [n_groups]
        ids = np.flatnonzero(scores >= nth_largest(maxima, n))  # [n_left], ascending
    else:
        ids = np.arange(scores.size)  # [n_vocab]
    # Then keep those that reach the n-th highest score. Trap: more than n can, if several
    # equal it. Partition alone would take any of these, so a stable sort ranks all that are
    # left: equal scores stay in the order of their ids.
    ids = ids[scores[ids] >= nth_largest(scores[ids], n)]  # [n or more], ascending
    ranked: IdArray = ids[np.argsort(-scores[ids], kind="stable")][:n]  # [n]
    return ranked


def nth_largest(values: FloatArray, n: int) -> np.floating[Any]:
    """The ``n``-th largest of ``values [at least n]``, counted from 1."""
    nth: np.floating[Any] = np.partition(values, -n)[-n]
    return nth


def nucleus(weights: FloatArray, p: float) -> IdArray:
    """Indices of the fewest ``weights [n]`` that add up to ``p`` of their sum, highest first."""
    target = p * weights.sum(dtype=np.float64)
    # Sort no more than needed: the first few hundred are mostly enough; else eight times as many.
    n = FIRST_NUCLEUS_SIZE
    while True:
        indices = most_likely(weights, n)  # [min(n, weights.size)]
        sums = np.cumsum(weights[indices], dtype=np.float64)  # [min(n, weights.size)]
        if sums[-1] >= target or n >= weights.size:
            # The token that reaches the target belongs to the set, hence + 1.
            return indices[: int(np.searchsorted(sums, target)) + 1]
        n *= 8
