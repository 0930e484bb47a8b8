"""The logit lens: ``unembed``, the last function of ``gpt2()``, applied to earlier states.

The final norm normalises each state with that state's own mean and variance. The model was
not trained for this at earlier states, so early rows are an approximation.

Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).

Invariants: row ``k`` is the state before block ``k``. The last row is the model's answer,
equal to ``Recording.logits``. Rank 1 is the likeliest token; equal logits are ranked by id,
lowest first, as in ``sampling``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.recording import Recording, early_logits
from gpt2core.sampling import most_likely

ROWS_AT_ONCE = 64  # of a grid; a row of logits is 200 kB with GPT-2's vocabulary


def lens(recording: Recording, position: int) -> np.ndarray:
    """Logits of one token before each block and at the end: ``[n_layer + 1, n_vocab]``."""
    column = np.stack([state[position] for state in recording.residual[:-1]])  # [n_layer, n_embd]
    answer = recording.logits(position)  # [n_vocab]
    return np.vstack([early_logits(column, recording.params), answer])  # [n_layer + 1, n_vocab]


def half_steps(recording: Recording, position: int) -> np.ndarray:
    """Logits of one token between attention and MLP of each block: ``[n_layer, n_vocab]``."""
    column = np.stack([middle[position] for middle in recording.residual_mid])  # [n_layer, n_embd]
    return early_logits(column, recording.params)


@dataclass(frozen=True, eq=False)
class LensGrid:
    """The likeliest next token by layer (rows) and position (columns).

    ``ids`` and ``probabilities`` are ``[n_layer + 1, n_positions]``; ``positions`` count
    from 0.
    """

    positions: tuple[int, ...]
    ids: np.ndarray
    probabilities: np.ndarray


def lens_grid(recording: Recording, positions: Sequence[int]) -> LensGrid:
    """The lens of several positions, only its likeliest tokens.

    Many rows are multiplied with ``wte`` at once, which is faster than :func:`lens` for each
    position, and may differ from it in the last bit.
    """
    shape = len(recording.residual), len(positions)
    # [(n_layer + 1) * n_positions, n_embd]
    cells = np.concatenate([state[list(positions)] for state in recording.residual])
    read = [
        leading(early_logits(cells[start : start + ROWS_AT_ONCE], recording.params))
        for start in range(0, len(cells), ROWS_AT_ONCE)
    ]
    ids, probabilities = (np.concatenate(column) for column in zip(*read, strict=True))
    return LensGrid(tuple(positions), ids.reshape(shape), probabilities.reshape(shape))


def leading(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest id of each row and its probability: ``[n, n_vocab] -> [n], [n]``."""
    ids = logits.argmax(axis=-1)  # [n]
    # The maximum is subtracted, so the likeliest token's own power is exp(0) = 1.
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))  # [n, n_vocab]
    return ids, 1 / powers.sum(axis=-1)  # [n], [n]


def ranks(logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Rank of each of ``ids`` in each row: ``[n, n_vocab] -> [n, len(ids)]``, from 1."""
    columns = []
    for token_id in ids:
        own = logits[:, token_id : token_id + 1]  # [n, 1]
        above = (logits > own).sum(axis=-1)  # [n]
        equal_before = (logits[:, :token_id] == own).sum(axis=-1)  # [n]
        columns.append(1 + above + equal_before)
    return np.stack(columns, axis=-1)


def leaders(logits: np.ndarray, n: int) -> list[int]:
    """Up to ``n`` ids that are likeliest in some row of ``[rows, n_vocab]``, last row first."""
    led = [int(most_likely(row, 1)[0]) for row in logits[::-1]]
    return list(dict.fromkeys(led))[:n]
