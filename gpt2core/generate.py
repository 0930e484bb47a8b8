"""Prompt ids in, generated tokens out, one at a time.

The loop that everybody means by "GPT-2 writes": run the engine, choose a token, feed
it back. The page, the command line and :func:`generate` all go through :func:`stream`.

Invariants: the prompt is read once and no prefix is ever computed again; the caller's
ids are not changed; a stream ends with exactly one token that says why.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpt2core.engine.engine import Engine
from gpt2core.errors import InputError
from gpt2core.hparams import HParams, check_prompt
from gpt2core.sampling import (
    N_CANDIDATES,
    SamplingParams,
    distribution,
    draw,
    is_whole,
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


def stream(
    engine: Engine,
    ids: list[int],
    n_tokens: int,
    sampling: SamplingParams | None = None,
    endoftext: int | None = ENDOFTEXT_ID,
) -> Iterator[GeneratedToken]:
    """Continue ``ids`` by up to ``n_tokens`` tokens, yielding each as it is made.

    Greedy unless ``sampling`` says otherwise. Takes a slot of the engine from the first
    token to the last, or until the iterator is closed, which ends the work.
    Raises InputError, before any computing, for a prompt or number that cannot be.
    """
    check_prompt(ids, engine.hparams.n_vocab, engine.hparams.n_ctx)
    check_n_tokens(n_tokens)
    n_ctx, sampling = engine.hparams.n_ctx, sampling or SamplingParams()
    # A list of its own: callers append what comes to theirs, and the prompt must not grow.
    return _stream(engine, Sequence(list(ids), n_tokens, n_ctx, sampling, endoftext))


def check_n_tokens(n_tokens: int) -> None:
    """Raise InputError unless ``n_tokens`` is a number of tokens that can be asked for."""
    if not (is_whole(n_tokens) and n_tokens >= 1):
        raise InputError(
            f"Tokens to generate is {n_tokens}; ask for a whole number of at least 1.",
            "n_tokens",
            minimum=1,
        )


def _stream(engine, sequence):
    # A generator of its own, so that stream() checks at the call, not at the first token.
    slot = engine.open()
    try:
        token = sequence.choose(engine.prefill(slot, sequence.ids))
        while token.finish_reason is None:
            yield token
            token = sequence.choose(engine.step([slot], [token.id])[0])
    finally:
        engine.close(slot)
    yield token  # the last, when the slot is already somebody else's to take


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


def generate(inputs, params: dict, n_head: int, n_tokens_to_generate: int) -> list[int]:
    """Greedy continuation of the ids ``inputs``, as a list of new ids.

    The call that picoGPT's readers know, but ``inputs`` is left as it was and nothing is
    recomputed. Ends early after ``<|endoftext|>`` or when the context is full. Lays the
    weights out anew at each call (124M: about a second); an Engine does that once.
    """
    if n_tokens_to_generate == 0:
        return []
    n_vocab, n_embd = params["wte"].shape
    hparams = HParams(n_vocab, len(params["wpe"]), n_embd, n_head, len(params["blocks"]))
    tokens = stream(Engine(params, hparams), list(inputs), n_tokens_to_generate)
    return [token.id for token in tokens]
