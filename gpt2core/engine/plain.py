"""The forward pass of the engine in plain NumPy: what ``kernels.py`` compiles, to be read.

The functions are those of ``model.py``; what is new is the cache. It serves where Numba is not
installed and while the kernels are compiled, and the kernels' tests compare them with it.

Data flow of a layer (shapes after the arrows; ``d`` is n_embd)::

    x [n_rows, d] ---------------------------------------------+
      | layer_norm, c_attn                                     |
    qkv [n_rows, 3*d] -> k, v -> cache                         |
      | q of each row and head x keys of its slot, softmax,    |
      | x values of its slot                                   |
    heads [n_rows, d] (x gates of the heads)                   |
      | c_proj (x gate of attention)                           |
    delta [n_rows, d] ---------------------------------------- + -> x
      | layer_norm, c_fc, gelu                                 |
    hidden [n_rows, 4*d]                                       |
      | c_proj (x gate of the MLP)                             |
    delta [n_rows, d] ---------------------------------------- + -> x
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine.packed import WIDTH, Matrix, PackedWeights
from gpt2core.engine.task import Cache, Task
from gpt2core.model import gelu, layer_norm, softmax

Array = NDArray[np.float32]


def forward(task: Task, w: PackedWeights, cache: Cache, logits: Array, n_head: int) -> None:
    """Run a pass: appends its rows to the cache, and writes ``logits [n_logits, n_columns]``."""
    x = embed(task, w)  # [n_rows, d]
    n_rows, d = x.shape
    gated = len(task.attn_gates) > 0
    rows = slice(0, n_rows)  # those that are computed on
    for layer in range(len(w.ln_1)):
        normed = layer_norm(x, *w.ln_1[layer])  # [n_rows, d]
        qkv = product(normed, w.qkv_w[layer], w.qkv_s[layer])  # [n_rows, n_columns]
        q, k, v = np.moveaxis(qkv[:, : 3 * d].reshape(n_rows, 3, n_head, d // n_head), 1, 0)
        # Each [n_rows, n_head, d_head].
        write_kv(task, k, v, cache, layer)
        if layer == len(w.ln_1) - 1:
            # Of the other rows only keys and values are needed.
            rows = slice(n_rows - task.n_logits, n_rows)
        heads = np.empty_like(q[rows])  # [n_rows, n_head, d_head]
        for i, row in enumerate(range(n_rows)[rows]):
            heads[i] = attend(q[row], cache, layer, task.slots[row], task.positions[row] + 1)
        if gated:
            heads *= task.head_gates[layer, rows, :, None]
        if not len(heads):
            return
        x = x[rows]  # [n_rows, d]
        delta = product(heads.reshape(-1, d), w.proj_w[layer], w.proj_s[layer])[:, :d]
        x += delta * task.attn_gates[layer, rows, None] if gated else delta
        normed = layer_norm(x, *w.ln_2[layer])  # [n_rows, d]
        hidden = gelu(product(normed, w.fc_w[layer], w.fc_s[layer]))  # [n_rows, n_columns]
        delta = product(hidden[:, : 4 * d], w.out_w[layer], w.out_s[layer])[:, :d]
        x += delta * task.mlp_gates[layer, rows, None] if gated else delta
    logits[:] = product(layer_norm(x, *w.ln_f), w.vocab_w, w.vocab_s)  # [n_logits, n_columns]


def embed(task: Task, w: PackedWeights) -> Array:
    """The residual stream before the first layer: ``[n_rows, d]``."""
    # A token's embedding is a column of a block.
    columns = w.vocab_w[task.ids // WIDTH, :, task.ids % WIDTH].astype(np.float32)  # [n_rows, d]
    scaled: Array = columns * w.vocab_s[0, task.ids, None] + w.wpe[task.positions]
    return scaled


def product(x: Array, w: Matrix, scale_bias: Array) -> Array:
    """``x @ w * scale + bias``: ``[n_rows, n_in]`` -> ``[n_rows, n_blocks * WIDTH]``."""
    out = np.empty((len(x), len(w), WIDTH), np.float32)
    # float32 blocks as they are; int8 blocks are widened, some at a time.
    step = len(w) if w.dtype == np.float32 else 64
    for i in range(0, len(w), step):
        np.matmul(
            x,
            w[i : i + step].astype(np.float32, copy=False),
            out=out[:, i : i + step].swapaxes(0, 1),
        )
    columns: Array = out.reshape(len(x), -1) * scale_bias[0] + scale_bias[1]
    return columns


def write_kv(task: Task, k: Array, v: Array, cache: Cache, layer: int) -> None:
    """Put keys and values ``[n_rows, n_head, d_head]`` in their places."""
    slots, positions = task.slots, task.positions
    cache.keys[layer, slots, :, positions // WIDTH, :, positions % WIDTH] = k
    cache.values[layer, slots, :, positions, : v.shape[-1]] = v


def attend(q: Array, cache: Cache, layer: int, slot: int, n: int) -> Array:
    """Attention of one row over the first ``n`` places of its slot: ``[n_head, d_head]``."""
    keys = cache.keys[layer, slot, :, : -(-n // WIDTH)]  # [n_head, n_blocks, d_head, WIDTH]
    scores = (q[:, None, None] @ keys).reshape(len(q), -1)[:, :n]  # [n_head, n]
    weights = softmax(scores / math.sqrt(q.shape[-1]))  # [n_head, n]
    values = cache.values[layer, slot, :, :n, : q.shape[-1]]  # [n_head, n, d_head]
    mixed: Array = (weights[:, None] @ values)[:, 0]  # [n_head, d_head]
    return mixed
