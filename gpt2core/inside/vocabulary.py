"""Vectors of the model read as tokens: neurons, and neighbours in the token embedding ``wte``.

A neuron reads the residual stream through its column of ``c_fc`` and writes its row of
``c_proj``. Both are vectors as wide as a token's embedding, so their products with ``wte`` say
which tokens they are most like. Neither product has the stream's other parts in it, and the
norms' divisors are left out, so they are directions, not logits.

Source: Geva et al., "Transformer Feed-Forward Layers Are Key-Value Memories" (2021).

Invariants: pure functions of weights; float32 in, float32 out.
"""

from collections.abc import Sequence

import numpy as np

from gpt2core import model
from gpt2core.model import Params


def tokens_read(params: Params, layer: int, neurons: Sequence[int]) -> np.ndarray:
    """How much each token's embedding would excite each neuron: ``[n_vocab, len(neurons)]``.

    The product of ``wte`` with the neurons' columns of ``c_fc``, through the gain of ``ln_2``.
    """
    block = params["blocks"][layer]
    columns = block["ln_2"]["g"][:, None] * block["mlp"]["c_fc"]["w"][:, list(neurons)]
    # The norm subtracts a row's mean, which is the same as subtracting the column's.
    return products(params["wte"], columns - columns.mean(axis=0))


def tokens_written(params: Params, layer: int, neurons: Sequence[int]) -> np.ndarray:
    """How much each neuron's row of ``c_proj`` raises each token: ``[n_vocab, len(neurons)]``.

    The product of ``wte`` with the rows, through the gain of the final norm.
    """
    rows = params["blocks"][layer]["mlp"]["c_proj"]["w"][list(neurons)]  # [len(neurons), n_embd]
    columns = (params["ln_f"]["g"] * (rows - rows.mean(axis=1, keepdims=True))).T
    return products(params["wte"], columns)


def products(wte: np.ndarray, columns: np.ndarray) -> np.ndarray:
    found: np.ndarray = wte @ columns  # [n_vocab, n_embd] @ [n_embd, n] -> [n_vocab, n]
    return found


def cosines(vector: np.ndarray, wte: np.ndarray) -> np.ndarray:
    """The cosine of ``vector [n_embd]`` with the embedding of every token: ``[n_vocab]``.

    0 where either has no length.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", wte, wte)) * np.linalg.norm(vector)  # [n_vocab]
    found = np.zeros(len(wte), wte.dtype)
    np.divide(wte @ vector, lengths, out=found, where=lengths > 0)
    return found


def activations(inputs: np.ndarray) -> np.ndarray:
    """What neurons with these inputs give: gelu, elementwise."""
    outputs: np.ndarray = model.gelu(inputs)
    return outputs
