"""GPT-2's forward pass, written to be read: ten functions from token ids to logits.

This is the reference. The engine computes the same numbers faster, with a cache of keys
and values; its tests compare it with this module. This module's own tests compare it
with an independent implementation. The training script differentiates it.

Every function that needs an array library takes it as ``xp``: ``numpy`` by default, or
``jax.numpy``, ``cupy``, ``cupynumeric``. The code uses operators, indexing, ``shape`` and
``dtype`` of the arrays; everything else is a function of ``xp``, because libraries agree on
NumPy's functions more than on the methods of its arrays.

Comments at line ends give shapes, input -> output. ``n_seq`` is the number of tokens,
``n_embd`` the width of the residual stream, ``d_head`` is ``n_embd / n_head``.

Invariants: float32 in, float32 out; no argument is changed; no branch on ``xp``.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019),
and OpenAI's released ``model.py``, whose names for the weights are kept.
"""

import math
from typing import Any, TypeAlias, TypedDict

import numpy as np

from gpt2core.errors import InputError

# numpy.ndarray, jax.Array and cupy.ndarray have no base class in common.
Array: TypeAlias = Any
ArrayNamespace: TypeAlias = Any  # the module that makes such arrays


class LinearParams(TypedDict):
    w: Array  # [n_in, n_out], as OpenAI's checkpoints store it
    b: Array  # [n_out]


class LayerNormParams(TypedDict):
    g: Array  # [n_embd]
    b: Array  # [n_embd]


class AttentionParams(TypedDict):
    c_attn: LinearParams  # n_embd -> 3*n_embd: queries, keys and values
    c_proj: LinearParams  # n_embd -> n_embd


class MlpParams(TypedDict):
    c_fc: LinearParams  # n_embd -> 4*n_embd
    c_proj: LinearParams  # 4*n_embd -> n_embd


class BlockParams(TypedDict):
    ln_1: LayerNormParams
    attn: AttentionParams
    ln_2: LayerNormParams
    mlp: MlpParams


class Params(TypedDict):
    """All weights of a model, float32, as ``gpt2()`` takes them: ``gpt2(ids, **params, …)``."""

    wte: Array  # [n_vocab, n_embd], token embeddings
    wpe: Array  # [n_ctx, n_embd], position embeddings
    blocks: list[BlockParams]
    ln_f: LayerNormParams


def gelu(x: Array, xp: ArrayNamespace = np) -> Array:
    """Gaussian error linear unit, in the tanh form that GPT-2 was trained with.

    Elementwise, any shape. Source: Hendrycks and Gimpel (2016), section 2.
    """
    # math.sqrt returns a Python float, which leaves float32 arrays float32. np.sqrt
    # would return a float64 scalar, and every array computed from it would be float64.
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)  # [...] -> [...]
    return 0.5 * x * (1 + xp.tanh(inner))  # -> [...]


def softmax(x: Array, xp: ArrayNamespace = np) -> Array:
    """Probabilities along the last axis: not negative, with sum 1."""
    # Subtracting the maximum does not change the result, but keeps exp() finite.
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))  # [..., n] -> [..., n]
    return e / xp.sum(e, axis=-1, keepdims=True)  # -> [..., n]


def layer_norm(x: Array, g: Array, b: Array, eps: float = 1e-5, xp: ArrayNamespace = np) -> Array:
    """Scale each row to mean 0 and variance 1, then multiply by ``g`` and add ``b``.

    The variance is the biased one (divided by n, not n - 1). Source: Ba et al. (2016).
    """
    mean = xp.mean(x, axis=-1, keepdims=True)  # [n_seq, n_embd] -> [n_seq, 1]
    centred = x - mean  # -> [n_seq, n_embd]
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)  # -> [n_seq, 1]
    return g * centred / xp.sqrt(variance + eps) + b  # -> [n_seq, n_embd]


def linear(x: Array, w: Array, b: Array) -> Array:
    """``x @ w + b``: each row of ``x`` times the matrix ``w``, plus the bias ``b``."""
    return x @ w + b  # [n_seq, n_in] @ [n_in, n_out] + [n_out] -> [n_seq, n_out]


def ffn(x: Array, c_fc: LinearParams, c_proj: LinearParams, xp: ArrayNamespace = np) -> Array:
    """Position-wise feed-forward network (MLP): widen four times, gelu, project back."""
    a = gelu(linear(x, **c_fc), xp=xp)  # [n_seq, n_embd] -> [n_seq, 4*n_embd]
    return linear(a, **c_proj)  # [n_seq, 4*n_embd] -> [n_seq, n_embd]


def attention(q: Array, k: Array, v: Array, mask: Array, xp: ArrayNamespace = np) -> Array:
    """Scaled dot-product attention, all heads at once.

    The output at a position is a weighted mean of the values ``v``. The weights are the
    softmax of the products of that position's query with every key. ``mask``,
    ``[n_seq, n_seq]``, is added to the scores. Source: Vaswani et al. (2017), 3.2.1.
    """
    d_head = q.shape[-1]
    k_t = xp.swapaxes(k, -1, -2)  # [n_head, n_seq, d_head] -> [n_head, d_head, n_seq]
    scores = q @ k_t / math.sqrt(d_head) + mask  # -> [n_head, n_seq, n_seq]
    weights = softmax(scores, xp=xp)  # -> [n_head, n_seq, n_seq]
    return weights @ v  # -> [n_head, n_seq, d_head]


def mha(
    x: Array, c_attn: LinearParams, c_proj: LinearParams, n_head: int, xp: ArrayNamespace = np
) -> Array:
    """Multi-head causal self-attention: each token attends to itself and to earlier ones."""
    n_seq, n_embd = x.shape
    # One product gives queries, keys and values. In its columns the three come first,
    # then the heads, then the channels of a head.
    x = linear(x, **c_attn)  # [n_seq, n_embd] -> [n_seq, 3*n_embd]
    x = xp.reshape(x, (n_seq, 3, n_head, n_embd // n_head))  # -> [n_seq, 3, n_head, d_head]
    q, k, v = xp.transpose(x, (1, 2, 0, 3))  # -> 3 arrays [n_head, n_seq, d_head]
    # 0 on and below the diagonal, -1e10 above it, where softmax then gives 0. Not minus
    # infinity: 0 * -inf is not a number.
    mask = (1 - xp.tri(n_seq, dtype=x.dtype)) * -1e10  # -> [n_seq, n_seq]
    heads = attention(q, k, v, mask, xp=xp)  # -> [n_head, n_seq, d_head]
    heads = xp.transpose(heads, (1, 0, 2))  # -> [n_seq, n_head, d_head]
    x = xp.reshape(heads, (n_seq, n_embd))  # -> [n_seq, n_embd]
    return linear(x, **c_proj)  # -> [n_seq, n_embd]


def transformer_block(
    x: Array,
    ln_1: LayerNormParams,
    attn: AttentionParams,
    ln_2: LayerNormParams,
    mlp: MlpParams,
    n_head: int,
    xp: ArrayNamespace = np,
) -> Array:
    """One layer: attention, then the feed-forward network, each added to its input."""
    x = x + mha(layer_norm(x, **ln_1, xp=xp), **attn, n_head=n_head, xp=xp)  # [n_seq, n_embd]
    return x + ffn(layer_norm(x, **ln_2, xp=xp), **mlp, xp=xp)  # -> [n_seq, n_embd]


def unembed(x: Array, wte: Array, ln_f: LayerNormParams, xp: ArrayNamespace = np) -> Array:
    """Logits from the residual stream: the final layer norm, then a score for every token.

    A token's score is the product of the row with the token's embedding in ``wte``; GPT-2
    has no second matrix for it. ``x`` is ``[n_seq, n_embd]``, the output of the last block.
    Given the output of an earlier block, this is the logit lens (nostalgebraist, 2020).
    """
    x = layer_norm(x, **ln_f, xp=xp)  # [n_seq, n_embd] -> [n_seq, n_embd]
    return x @ xp.transpose(wte)  # [n_seq, n_embd] @ [n_embd, n_vocab] -> [n_seq, n_vocab]


def gpt2(
    inputs: Array,
    wte: Array,
    wpe: Array,
    blocks: list[BlockParams],
    ln_f: LayerNormParams,
    n_head: int,
    xp: ArrayNamespace = np,
) -> Array:
    """Logits of the token that follows each of ``inputs``.

    ``inputs``: ``n_seq`` token ids, a list or an integer array. The weights are those of
    :class:`Params`. Returns ``[n_seq, n_vocab]`` in the weights' dtype; row ``i`` holds the
    scores of every token that may follow ``inputs[: i + 1]``.

    Raises InputError if ``inputs`` is empty or longer than ``n_ctx``. The ids themselves
    are not checked here: a compiled function cannot branch on its inputs' values.
    """
    inputs = xp.asarray(inputs)  # [n_seq]
    n_seq, n_ctx = inputs.shape[0], wpe.shape[0]
    if not 1 <= n_seq <= n_ctx:
        raise InputError(
            f"gpt2() takes 1 to {n_ctx} token ids with these weights, not {n_seq}.",
            "prompt",
            n_prompt_tokens=n_seq,
            n_ctx=n_ctx,
        )
    x = wte[inputs] + wpe[:n_seq]  # [n_seq] -> [n_seq, n_embd]
    for block in blocks:
        x = transformer_block(x, **block, n_head=n_head, xp=xp)  # -> [n_seq, n_embd]
    return unembed(x, wte, ln_f, xp=xp)  # -> [n_seq, n_vocab]
