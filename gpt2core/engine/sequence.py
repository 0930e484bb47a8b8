"""One sequence between two passes of the engine: how it goes on, when it ends."""

from dataclasses import dataclass

import numpy as np

from gpt2core.sampling import (
    N_CANDIDATES,
    SamplingParams,
    distribution,
    draw,
    log_softmax,
    most_likely,
)

ENDOFTEXT_ID = 50256


@dataclass(frozen=True)
class Candidate:
    """A token that might have come.

    ``logprob`` is the model's own belief (natural logarithm); ``chance`` the probability
    with which it was drawn, after temperature, top-k and top-p (0 where they cut it off).
    """

    id: int
    logprob: float
    chance: float


@dataclass(frozen=True)
class GeneratedToken:
    """One generated token.

    ``logprob`` (natural logarithm) and the ten likeliest ``candidates``, likeliest
    first, are the model's own belief, before temperature, top-k and top-p.
    ``finish_reason`` is None but for the last token of a stream: ``"length"`` (as many
    as asked for), ``"endoftext"`` (this token is ``<|endoftext|>``) or ``"context"``
    (prompt and continuation fill the context).
    """

    id: int
    logprob: float
    candidates: tuple[Candidate, ...]
    finish_reason: str | None = None


class Sequence:
    """A text in the making, between two passes of the engine: how it goes on, when it ends.

    Whoever runs the engine, for one sequence or for many at once, shows each its logits.
    """

    def __init__(
        self,
        ids: list[int],
        n_tokens: int,
        n_ctx: int,
        sampling: SamplingParams,
        endoftext: int | None = ENDOFTEXT_ID,
    ):
        """A prompt ``ids`` that ``n_tokens`` more may follow, up to ``n_ctx`` in all."""
        self.ids = ids
        self._length = len(ids)
        # Where both fall together, the reader got all that was asked for.
        self._ends = {n_ctx: "context", len(ids) + n_tokens: "length"}
        self._sampling, self._rng = sampling, sampling.generator()
        self._endoftext = endoftext

    def choose(self, logits: np.ndarray) -> GeneratedToken:
        """Draw the next token from ``logits [n_vocab]``."""
        kept, chances = distribution(logits, self._sampling)  # [n_kept], [n_kept]
        id = draw(kept, chances, self._rng)
        self._length += 1
        reason = "endoftext" if id == self._endoftext else self._ends.get(self._length)
        return describe(id, logits, kept, chances, reason)


def describe(id: int, logits, kept, chances, finish_reason: str | None = None) -> GeneratedToken:
    """Token ``id`` with what the model believed when it was drawn.

    ``logits`` is ``[n_vocab]``; ``kept`` and ``chances`` are what ``distribution`` gave.
    """
    logprobs = log_softmax(logits)  # [n_vocab]
    drawn_with = np.zeros_like(logits)  # [n_vocab]
    drawn_with[kept] = chances
    candidates = tuple(
        Candidate(int(i), float(logprobs[i]), float(drawn_with[i]))
        for i in most_likely(logits, N_CANDIDATES)
    )
    return GeneratedToken(id, float(logprobs[id]), candidates, finish_reason)
