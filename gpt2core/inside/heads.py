"""Attention heads: their patterns, their outputs, and the computation of one weight.

An attention weight says which token a head attends to, not how much that changes the
residual stream; :func:`moved` and ``attribution.by_head`` measure the latter.

Invariants: positions count from 0. A pattern's rows are queries, its columns keys. NaN marks
an undefined value, such as a mean over no queries.
"""

import math
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.attribution import LogitDirection, by_head
from gpt2core.inside.recording import Block, Recording
from gpt2core.model import LinearParams

HABITS = ("first", "itself", "previous", "copies")


def head_outputs(heads: np.ndarray, c_proj: LinearParams) -> np.ndarray:
    """Each head's output in the residual stream, ``[n_head, n_seq, n_embd]``.

    ``heads`` is ``[n_head, n_seq, d_head]``. The sum over heads plus ``c_proj``'s bias is the
    attention's output.
    """
    outputs: np.ndarray = heads @ rows_of_heads(c_proj["w"], len(heads))
    return outputs


def rows_of_heads(w: np.ndarray, n_head: int) -> np.ndarray:
    """The rows of ``c_proj`` by head: ``[n_embd, n_embd] -> [n_head, d_head, n_embd]``."""
    return w.reshape(n_head, -1, w.shape[-1])


def moved(pattern: np.ndarray, v: np.ndarray, c_proj: LinearParams) -> np.ndarray:
    """Norm of the vector that each key adds at each query: ``[n_head, n_seq, n_seq]``.

    That is the attention weight times the norm of the key's projected value. ``pattern`` is
    ``[n_head, n_seq, n_seq]``, ``v`` is ``[n_head, n_seq, d_head]``. Source:
    Kobayashi et al., "Attention is Not Only a Weight" (2020).
    """
    lengths = np.linalg.norm(v @ rows_of_heads(c_proj["w"], len(v)), axis=-1)  # [n_head, n_seq]
    added: np.ndarray = pattern * lengths[:, None, :]  # [n_head, n_seq, n_seq]
    return added


def habit_weights(pattern: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """Each query's attention weight by the kind of key, in the order of ``HABITS``.

    ``pattern`` is ``[n_head, n_seq, n_seq]``; the result is ``[n_head, n_seq, 4]``. Kinds of
    key: the first token, the query itself, the token before it, and all tokens that follow an
    earlier copy of the query's token (an induction head attends to these). NaN where there is
    no such key, and for the first query, which has no choice.
    """
    n_seq = len(ids)
    same = np.equal.outer(ids, ids) & np.tri(n_seq, k=-1, dtype=bool)  # [n_seq, n_seq], earlier
    after_copies = np.zeros_like(same)
    after_copies[:, 1:] = same[:, :-1]  # a copy at s makes s + 1 the token that followed
    weights = np.stack(
        [
            pattern[:, :, 0],
            np.diagonal(pattern, axis1=1, axis2=2),
            np.pad(np.diagonal(pattern, offset=-1, axis1=1, axis2=2), ((0, 0), (1, 0))),
            np.where(after_copies, pattern, 0).sum(axis=-1),
        ],
        axis=-1,
    )  # [n_head, n_seq, 4]
    weights[:, ~after_copies.any(axis=-1), HABITS.index("copies")] = np.nan
    weights[:, 0] = np.nan
    return weights


def habits(pattern: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """The mean of :func:`habit_weights` over the queries that define it: ``[n_head, 4]``."""
    weights = habit_weights(pattern, ids)  # [n_head, n_seq, 4]
    known = ~np.isnan(weights)
    with np.errstate(invalid="ignore"):  # 0 / 0: no query defines it
        means: np.ndarray = np.where(known, weights, 0).sum(axis=1) / known.sum(axis=1)
    return means


def head_lengths(recording: Recording, position: int) -> np.ndarray:
    """Norm of each head's output in the residual stream at ``position``: ``[n_layer, n_head]``."""
    rows = []
    for heads, block in zip(recording.heads, recording.params["blocks"], strict=True):
        outputs = head_outputs(heads[:, position : position + 1], block["attn"]["c_proj"])
        rows.append(np.linalg.norm(outputs[:, 0], axis=-1))  # [n_head]
    return np.stack(rows)  # [n_layer, n_head]


def head_shares(recording: Recording, position: int, direction: LogitDirection) -> np.ndarray:
    """Share of every head in the logit of ``direction``: ``[n_layer, n_head]``, float64."""
    layers = range(recording.n_layer)
    return np.stack([by_head(recording, layer, position, direction).values for layer in layers])


def head_habits(recording: Recording, position: int) -> np.ndarray:
    """:func:`habit_weights` of the query at ``position``, all heads: ``[n_layer, n_head, 4]``."""
    row = slice(position, position + 1)
    return np.stack(
        [habit_weights(pattern, recording.ids)[:, row][:, 0] for pattern in recording.patterns]
    )


@dataclass(frozen=True, eq=False)
class Weight:
    """The computation of one attention weight, in the order of ``attention`` and ``softmax``.

    ``products [d_head]`` are the terms of the dot product of query and key. Their sum divided
    by ``root``, plus ``mask``, is ``score``. ``power`` is ``exp(score - max(scores))``, and
    ``power / sum_of_powers`` is ``weight``.
    """

    products: np.ndarray
    root: float
    mask: float
    score: float
    power: float
    sum_of_powers: float
    weight: float


def explain_weight(block: Block, head: int, query: int, key: int) -> Weight:
    """The computation of the weight of ``query`` on ``key``, from a replayed block's values."""
    q, k = block.array("mha.q")[head, query], block.array("mha.k")[head, key]  # [d_head] each
    powers = block.array("mha.attention.softmax.e")[head, query]  # [n_seq]
    return Weight(
        products=q * k,
        root=math.sqrt(len(q)),
        mask=float(block.array("mha.mask")[query, key]),
        score=float(block.array("mha.attention.scores")[head, query, key]),
        power=float(powers[key]),
        sum_of_powers=float(powers.sum()),
        weight=float(block.array("mha.attention.weights")[head, query, key]),
    )
