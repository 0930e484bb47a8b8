"""A text of any length scored in windows, and what its scores add up to.

Above ``engine``, which scores what fits into one context; below the command line, the page and
``tools/bits_per_byte.py``. Windows overlap by half a context, so that every token after the
first window has at least half a context before it.

Invariant: each token but the first is scored once. The first has no score, because nothing
stands before it, and its bytes do not count.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gpt2core.engine.engine import Engine
from gpt2core.engine.scores import Scores, join_scores
from gpt2core.errors import InputError

ScoreWindow = Callable[[list[int], int], Scores]  # ids [n], n_new -> scores of the last [n_new]


@dataclass(frozen=True)
class Window:
    """The tokens ``start`` to ``end`` of a text, of which the last ``n_new`` are scored by it."""

    start: int
    end: int
    n_new: int


@dataclass(frozen=True)
class Summary:
    """What the scores of a text add up to.

    ``logprob`` is the sum in nats. ``perplexity`` and ``bits_per_byte`` are None if no token is
    scored, or, for the latter, if the scored tokens have no bytes.
    """

    logprob: float
    perplexity: float | None
    bits_per_byte: float | None


def overlap(n_ctx: int) -> int:
    """Tokens that a window shares with the one before it, in a context of ``n_ctx``."""
    return max(1, n_ctx // 2)


def windows(n_ids: int, n_ctx: int) -> Iterator[Window]:
    """The windows that score a text of ``n_ids`` tokens, each of at most ``n_ctx`` tokens.

    Raises InputError for a context of one token.
    """
    if n_ctx < 2:  # no token has another before it
        raise InputError("A context of one token cannot score a text.")
    n_done = 1  # the first token has no score
    for start in range(0, n_ids, n_ctx - overlap(n_ctx)):
        end = min(start + n_ctx, n_ids)
        if end > n_done:
            yield Window(start, end, end - n_done)
            n_done = end


def score_text(score: ScoreWindow, ids: Sequence[int], n_ctx: int) -> Scores:
    """The scores of ``ids[1:]``; ``score`` is called for each window in turn."""
    return join_scores(
        [
            score(list(ids[window.start : window.end]), window.n_new)
            for window in windows(len(ids), n_ctx)
        ]
    )


def engine_scorer(engine: Engine) -> ScoreWindow:
    """A function that scores one window with a slot of ``engine``."""

    def score(ids: list[int], n_new: int) -> Scores:
        slot, first = engine.open(), len(ids) - n_new
        try:
            if first > 1:  # the overlap with the window before is read only
                engine.prefill(slot, ids[: first - 1], more_follow=True)
            return engine.score(slot, ids[first - 1 : -1], ids[first:])
        finally:
            engine.close(slot)

    return score


def summarize(scores: Scores, n_bytes: int) -> Summary:
    """The sums of a text whose scored tokens have ``n_bytes`` bytes."""
    logprob = float(scores.logprob.sum(dtype="float64"))
    n = len(scores)
    return Summary(
        logprob,
        # A float32 log-probability can be so low that exp() overflows.
        math.exp(min(-logprob / n, 700)) if n else None,
        -logprob / math.log(2) / n_bytes if n and n_bytes else None,
    )
