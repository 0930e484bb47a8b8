"""GPT-2's forward pass, to be read: ten functions from token ids to logits.

This is the reference. ``engine.py`` computes the same numbers faster, with a cache
of keys and values; its tests compare against this module, and this module's tests
against an independent implementation. The training script differentiates it.

Every function takes ``xp``, an array namespace: ``numpy`` by default, or
``jax.numpy`` or ``cupy``. Comments at line ends give shapes, input -> output.
``n_seq`` is the number of tokens, ``d_head`` is ``n_embd / n_head``.

Invariants: float32 in, float32 out; no argument is changed; no branch on ``xp``.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019),
and OpenAI's released ``model.py``, whose names for the weights are kept.
"""

import math

import numpy as np

from gpt2core.errors import InputError


def gelu(x, xp=np):
    """Gaussian error linear unit, in the tanh form that GPT-2 was trained with.

    Elementwise, any shape. Source: Hendrycks and Gimpel (2016), section 2.
    """
    # math.sqrt gives a Python float, which leaves float32 arrays float32; np.sqrt of
    # a Python number would give a float64 scalar and widen everything after it.
    return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def softmax(x, xp=np):
    """Probabilities along the last axis: positive, adding up to 1."""
    # Subtracting the maximum changes nothing in the result but keeps exp() finite.
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def layer_norm(x, g, b, eps=1e-5, xp=np):
    """Scale each row to mean 0 and variance 1, then stretch by ``g`` and shift by ``b``.

    Source: Ba et al. (2016). The variance is the biased one, over the last axis.
    """
    mean = xp.mean(x, axis=-1, keepdims=True)  # [n_seq, n_embd] -> [n_seq, 1]
    centred = x - mean  # [n_seq, n_embd]
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)  # -> [n_seq, 1]
    return g * centred / xp.sqrt(variance + eps) + b  # -> [n_seq, n_embd]


def linear(x, w, b):
    """``x @ w + b``; ``w`` is ``[n_in, n_out]``, as OpenAI's checkpoints store it."""
    return x @ w + b  # [n_seq, n_in] @ [n_in, n_out] + [n_out] -> [n_seq, n_out]


def ffn(x, c_fc, c_proj, xp=np):
    """The position-wise network of a block: widen four times, gelu, narrow again."""
    a = gelu(linear(x, **c_fc), xp=xp)  # [n_seq, n_embd] -> [n_seq, 4*n_embd]
    return linear(a, **c_proj)  # [n_seq, 4*n_embd] -> [n_seq, n_embd]


def attention(q, k, v, mask, xp=np):
    """Scaled dot-product attention, all heads at once.

    Each query takes the values of the positions whose keys match it, weighted by the
    softmax of the match. ``mask`` is added to the scores. Source: Vaswani et al.
    (2017), section 3.2.1.
    """
    d_head = q.shape[-1]
    k_t = xp.swapaxes(k, -1, -2)  # [n_head, n_seq, d_head] -> [n_head, d_head, n_seq]
    scores = q @ k_t / math.sqrt(d_head) + mask  # -> [n_head, n_seq, n_seq]
    return softmax(scores, xp=xp) @ v  # -> [n_head, n_seq, d_head]


def mha(x, c_attn, c_proj, n_head, xp=np):
    """Multi-head causal self-attention: every token looks at itself and those before."""
    n_seq, n_embd = x.shape
    x = linear(x, **c_attn)  # [n_seq, n_embd] -> [n_seq, 3*n_embd]
    x = x.reshape(n_seq, 3, n_head, n_embd // n_head)  # -> [n_seq, 3, n_head, d_head]
    q, k, v = x.transpose(1, 2, 0, 3)  # -> three of [n_head, n_seq, d_head]
    # 0 where a position may be looked at (itself and earlier), -1e10 where it may not.
    mask = (1 - xp.tri(n_seq, dtype=x.dtype)) * -1e10  # [n_seq, n_seq]
    heads = attention(q, k, v, mask, xp=xp)  # -> [n_head, n_seq, d_head]
    x = heads.transpose(1, 0, 2).reshape(n_seq, n_embd)  # -> [n_seq, n_embd]
    return linear(x, **c_proj)  # [n_seq, n_embd] -> [n_seq, n_embd]


def transformer_block(x, ln_1, attn, ln_2, mlp, n_head, xp=np):
    """One layer: attention, then the feed-forward network, each added to its input."""
    x = x + mha(layer_norm(x, **ln_1, xp=xp), **attn, n_head=n_head, xp=xp)  # [n_seq, n_embd]
    return x + ffn(layer_norm(x, **ln_2, xp=xp), **mlp, xp=xp)  # [n_seq, n_embd]


def gpt2(inputs, wte, wpe, blocks, ln_f, n_head, xp=np):
    """Logits of the token that follows each of ``inputs``.

    ``inputs``: ``n_seq`` token ids (a list or an integer array). ``wte`` is
    ``[n_vocab, n_embd]``, ``wpe`` ``[n_ctx, n_embd]``; ``blocks`` and ``ln_f`` are the
    nested dicts of ``params``. Returns ``[n_seq, n_vocab]`` in the weights' dtype; row
    ``i`` holds the scores of every token to come after ``inputs[: i + 1]``.

    Raises InputError where ``inputs`` is empty or longer than ``n_ctx``.
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
    x = layer_norm(x, **ln_f, xp=xp)  # [n_seq, n_embd] -> [n_seq, n_embd]
    return x @ wte.T  # [n_seq, n_embd] @ [n_embd, n_vocab] -> [n_seq, n_vocab]
