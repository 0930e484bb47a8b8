"""How well a model predicts a text it is given: log-probability, rank, entropy of each token.

``Engine.score`` calls :func:`score_rows` with the logits of a few positions at a time, so the
logits of a whole text are never in memory together.

Invariants: the numbers are the model's own, before temperature, top-k and top-p. Ranks are
those of ``sequence.rank_of``: equal logits are ordered by id.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine.sequence import rank_of
from gpt2core.sampling import log_softmax, most_likely

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """One number for each scored token, ``[n]`` each.

    ``logprob`` is the natural logarithm of the token's probability given all tokens before it.
    ``rank`` is the token's place in the model's order; 1 is the likeliest. ``entropy`` is that
    of the distribution the token comes from, in nats: 0 means that the model was certain.
    ``top_ids`` and ``top_logprobs``, ``[n, n_top]`` each, are the likeliest tokens at its place,
    likeliest first; ``n_top`` is 0 unless they are asked for.
    """

    logprob: FloatArray
    rank: NDArray[np.int32]
    entropy: FloatArray
    top_ids: NDArray[np.int32]
    top_logprobs: FloatArray

    def __len__(self) -> int:
        return len(self.logprob)


def score_rows(logits: FloatArray, targets: Sequence[int], n_top: int = 0) -> Scores:
    """Scores of ``targets[i]`` under ``logits[i]``; ``logits`` is ``[n, n_vocab]``."""
    n_top = min(n_top, logits.shape[1])
    scores = no_scores(len(targets), n_top)
    for i, (row, target) in enumerate(zip(logits, targets, strict=True)):
        logprobs = log_softmax(row)  # [n_vocab]
        probabilities = np.exp(logprobs)  # [n_vocab]
        # A token that cannot follow (logit -inf) adds nothing to the entropy; 0 * -inf is NaN.
        logprobs = np.maximum(logprobs, np.finfo(np.float32).min)  # [n_vocab]
        scores.logprob[i] = logprobs[target]
        scores.rank[i] = rank_of(target, row)
        scores.entropy[i] = -np.vecdot(probabilities, logprobs)
        if n_top:
            scores.top_ids[i] = most_likely(row, n_top)  # [n_top]
            scores.top_logprobs[i] = logprobs[scores.top_ids[i]]  # [n_top]
    return scores


def join_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of consecutive parts of a text as those of the whole."""
    if not parts:
        return no_scores(0)
    return Scores(
        np.concatenate([part.logprob for part in parts]),
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.entropy for part in parts]),
        np.concatenate([part.top_ids for part in parts]),
        np.concatenate([part.top_logprobs for part in parts]),
    )


def no_scores(n: int, n_top: int = 0) -> Scores:
    """Scores of ``n`` tokens, all 0."""
    return Scores(
        np.zeros(n, np.float32),
        np.zeros(n, np.int32),
        np.zeros(n, np.float32),
        np.zeros((n, n_top), np.int32),
        np.zeros((n, n_top), np.float32),
    )
