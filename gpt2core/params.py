"""The weights of a GPT-2 as the tree of arrays that the forward pass takes: ``params``.

Made by the store, which reads it from a file, and by training. ``gpt2()`` takes it as
keyword arguments (``gpt2(ids, **params, n_head=12)``), the engine as one. The names are
those of OpenAI's release. These are types only: at run time ``params`` is plain dicts.

Shapes, with ``d = n_embd``::

    wte [n_vocab, d]    wpe [n_ctx, d]    ln_f: g [d], b [d]
    blocks, n_layer of:
        ln_1:  g [d], b [d]
        attn:  c_attn: w [d, 3*d], b [3*d]    c_proj: w [d, d], b [d]
        ln_2:  g [d], b [d]
        mlp:   c_fc: w [d, 4*d], b [4*d]      c_proj: w [4*d, d], b [d]
"""

from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]


class Norm(TypedDict):
    """A layer norm: gain and shift."""

    g: FloatArray
    b: FloatArray


class Linear(TypedDict):
    """A linear layer: weight ``[n_in, n_out]`` and bias ``[n_out]``."""

    w: FloatArray
    b: FloatArray


class Attention(TypedDict):
    """Multi-head attention: queries, keys and values in one product, then the output."""

    c_attn: Linear
    c_proj: Linear


class MLP(TypedDict):
    """The feed-forward network."""

    c_fc: Linear
    c_proj: Linear


class Block(TypedDict):
    """One layer."""

    ln_1: Norm
    attn: Attention
    ln_2: Norm
    mlp: MLP


class Params(TypedDict):
    """All weights of a GPT-2."""

    wte: FloatArray
    wpe: FloatArray
    blocks: list[Block]
    ln_f: Norm
