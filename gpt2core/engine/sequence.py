"""One sequence: a prompt, the tokens after it, and why it ends.

Between two forward passes of the engine, :meth:`Sequence.draw_next` turns a row of logits into
the next token's id, which is all that the next pass needs. :meth:`Drawn.describe` adds what a
client is told about the token. ``generate.py`` does both at once for one sequence.
``engine/scheduler.py`` draws for all sequences of a decode batch, and describes their tokens
while the next pass is computed.

Invariants: the last token of a sequence, and no other, has a ``finish_reason``. Log-
probabilities are the model's own, before temperature, top-k and top-p.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from gpt2core.engine.gates import Gates
from gpt2core.engine.penalties import NO_PENALTIES, Penalties, penalized
from gpt2core.errors import GPT2Error
from gpt2core.sampling import (
    N_CANDIDATES,
    FloatArray,
    IdArray,
    SamplingParams,
    distribution,
    draw,
    fresh_seed,
    log_softmax,
    most_likely,
)

ENDOFTEXT_ID = 50256  # of GPT-2's own vocabulary
GPT2_END_IDS = frozenset({ENDOFTEXT_ID})

# "stop" is given by stopping.py, above the engine: a stop string was found in the text.
FinishReason = Literal["length", "context", "endoftext", "stop"]


@dataclass(frozen=True)
class Candidate:
    """One of the likeliest next tokens.

    ``logprob`` is the model's own (natural logarithm). ``sampling_probability`` is the
    probability with which the token is drawn after temperature, top-k and top-p; it is 0 for
    a token that top-k or top-p excludes.
    """

    id: int
    logprob: float
    sampling_probability: float


@dataclass(frozen=True)
class GeneratedToken:
    """One generated token.

    ``logprob`` (natural logarithm) and the ten likeliest ``candidates``, likeliest first,
    are those of the model, before temperature, top-k and top-p. ``finish_reason`` is None
    except for the last token: ``"length"`` (as many tokens as were requested),
    ``"endoftext"`` (the token ends a text, as ``<|endoftext|>`` does) or ``"context"`` (prompt and
    continuation fill the context). ``rank`` is the token's place in the model's order (1: the
    likeliest), ``sampling_probability`` the probability with which it was drawn; both are
    None if they are unknown.
    """

    id: int
    logprob: float
    candidates: tuple[Candidate, ...]
    finish_reason: FinishReason | None = None
    rank: int | None = None
    sampling_probability: float | None = None


@dataclass(frozen=True)
class GenerationOptions:
    """What not every generation needs: penalties, another number of candidates to report, gates.

    ``gates`` scale parts of the model for this generation alone; None changes nothing. The
    scheduler calls ``prepare`` with each token and reports what it returns (``events.Prepared``);
    all others wait for it, so it must be quick.
    """

    penalties: Penalties = NO_PENALTIES
    n_candidates: int = N_CANDIDATES
    gates: Gates | None = None
    prepare: Callable[[GeneratedToken], object] | None = None


DEFAULT_OPTIONS = GenerationOptions()


class Drawn(NamedTuple):
    """A token that was drawn, and what its description is computed from."""

    id: int
    finish_reason: FinishReason | None
    logits: FloatArray  # [n_vocab], before penalties
    ids: IdArray  # [n_kept]
    probabilities: FloatArray  # [n_kept], as ``distribution`` returned it with the ids
    n_candidates: int

    def describe(self) -> GeneratedToken:
        """The token with its log-probability, its rank and its candidates."""
        logprobs = log_softmax(self.logits)  # [n_vocab]
        # Tokens that top-k or top-p exclude keep the probability 0.
        sampling_probabilities = np.zeros_like(self.logits)  # [n_vocab]
        sampling_probabilities[self.ids] = self.probabilities
        candidates = tuple(
            Candidate(int(i), float(logprobs[i]), float(sampling_probabilities[i]))
            for i in most_likely(self.logits, self.n_candidates)
        )
        return GeneratedToken(
            self.id,
            float(logprobs[self.id]),
            candidates,
            self.finish_reason,
            rank_of(self.id, self.logits),
            float(sampling_probabilities[self.id]),
        )


class Sequence:
    """The state of one sequence that is being generated: its length."""

    def __init__(
        self,
        ids: list[int],
        n_tokens: int,
        n_ctx: int,
        sampling: SamplingParams,
        end_ids: Collection[int] = GPT2_END_IDS,
        options: GenerationOptions = DEFAULT_OPTIONS,
    ):
        """Continue the prompt ``ids`` by up to ``n_tokens`` tokens, to ``n_ctx`` in all.

        Each of ``end_ids`` ends the sequence early. Without a seed in ``sampling``, each
        sequence gets a fresh one.
        """
        self.ids = ids
        self._length = len(ids)
        self._max_length, self._n_ctx = len(ids) + n_tokens, n_ctx
        self._sampling = sampling
        self._seed = fresh_seed() if sampling.seed is None else sampling.seed
        self._end_ids, self._options = end_ids, options
        self._generated: Counter[int] = Counter()  # id -> how often it was generated

    def sample_next(self, logits: FloatArray) -> GeneratedToken:
        """The next token, drawn from ``logits [n_vocab]``. Raises as :meth:`draw_next` does."""
        return self.draw_next(logits).describe()

    def draw_next(self, logits: FloatArray) -> Drawn:
        """Draw the next token from ``logits [n_vocab]``; GPT2Error if they are not finite."""
        if not math.isfinite(logits.max()):
            # The weights are finite, but too large to compute with in float32.
            raise GPT2Error("the model computed a score that is not a finite number.")
        changed = penalized(logits, self._options.penalties, self._generated)  # [n_vocab]
        ids, probabilities = distribution(changed, self._sampling)  # [n_kept], [n_kept]
        id = draw(ids, probabilities, self._seed, self._length)
        self._length += 1
        self._generated[id] += 1
        reason = self._finish_reason(id)
        return Drawn(id, reason, logits, ids, probabilities, self._options.n_candidates)

    def _finish_reason(self, id: int) -> FinishReason | None:
        """Why the sequence ends with the token ``id``; None if it goes on."""
        if id in self._end_ids:
            return "endoftext"
        if self._length == self._max_length:  # also if the context is full at the same time
            return "length"
        return "context" if self._length == self._n_ctx else None


def rank_of(id: int, logits: FloatArray) -> int:
    """The place of token ``id`` in ``logits [n_vocab]``: 1 for the likeliest, ties by id."""
    n_likelier = np.count_nonzero(logits > logits[id])
    return int(1 + n_likelier + np.count_nonzero(logits[:id] == logits[id]))
