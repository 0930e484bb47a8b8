"""Gates: factors that scale or remove parts of the model for one sequence.

``Engine.open`` takes the gates of a slot; they hold until the slot is closed, because keys and
values that are in the cache were computed with them. Ablation sets a part's gate to 0.

Invariant: a gate of 1 changes no bit of the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpt2core.errors import InputError
from gpt2core.hparams import HParams

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Gates:
    """Factors of the outputs of every layer's parts, float32.

    ``heads [n_layer, n_head]`` multiplies what a head hands to ``c_proj``. ``attn [n_layer]``
    multiplies what attention adds to the residual stream, ``mlp [n_layer]`` what the
    feed-forward network adds; both include the bias of their ``c_proj``.
    """

    heads: Array
    attn: Array
    mlp: Array

    @classmethod
    def ones(cls, hparams: HParams) -> Self:
        """Gates that leave everything as it is, to be changed."""
        n_layer, n_head = hparams.n_layer, hparams.n_head
        heads = np.ones((n_layer, n_head), np.float32)
        return cls(heads, np.ones(n_layer, np.float32), np.ones(n_layer, np.float32))

    def check(self, hparams: HParams) -> None:
        """Raise InputError unless the shapes are the model's and every factor is finite."""
        expected = self.ones(hparams)
        for name in ("heads", "attn", "mlp"):
            array, shape = getattr(self, name), getattr(expected, name).shape
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"The gates of {name} must be finite numbers of shape {shape}.")


def row_gates(gates: Sequence[Gates | None], hparams: HParams) -> tuple[Array, Array, Array]:
    """The gates of several rows: ``[n_layer, n_rows, n_head]`` and twice ``[n_layer, n_rows]``."""
    n_layer, n_head, n_rows = hparams.n_layer, hparams.n_head, len(gates)
    heads = np.ones((n_layer, n_rows, n_head), np.float32)
    attn, mlp = np.ones((2, n_layer, n_rows), np.float32)
    for row, one in enumerate(gates):
        if one is not None:
            heads[:, row], attn[:, row], mlp[:, row] = one.heads, one.attn, one.mlp
    return heads, attn, mlp
