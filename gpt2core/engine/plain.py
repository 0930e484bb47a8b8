"""The forward pass of the engine in plain NumPy: its arrays, and what ``kernels.py`` compiles.

The functions are those of ``model.py``; what is new are the cache and int8 weights, which multiply
activations that are rounded to 16 bits. The functions serve where Numba is not installed and while
the kernels are compiled, and the kernels' tests compare them with these.

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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine.packed import WIDTH, Matrix, PackedWeights, n_blocks
from gpt2core.hparams import HParams
from gpt2core.model import gelu, layer_norm, softmax

Array = NDArray[np.float32]
Ints = NDArray[np.int64]

TILE_ROWS = 4  # rows that the kernels multiply together
INT16_MAX = np.float32(32767)


class Task(NamedTuple):
    """The rows of one pass: new tokens of one or several slots, a slot's in order."""

    ids: Ints  # [n_rows]
    slots: Ints  # [n_rows]
    positions: Ints  # [n_rows]: places in the slot's text
    n_logits: int  # of the last rows: 0, 1 or all
    head_gates: Array  # [n_layer, n_rows, n_head]
    attn_gates: Array  # [n_layer, n_rows]
    mlp_gates: Array  # [n_layer, n_rows]


class Cache(NamedTuple):
    """Keys and values of every slot, in blocks of WIDTH places of a text.

    A block of keys lies as a block of weights does, so that the same tiles multiply it. A block of
    places, with all layers and heads, is one piece of memory: a short text uses little.
    """

    keys: Array  # [n_slots, n_blocks, n_layer, n_head, d_head, WIDTH]
    values: Array  # [n_slots, n_blocks, n_layer, n_head, WIDTH, d_head up to a multiple of WIDTH]


class Buffers(NamedTuple):
    """Intermediate results of a pass; the first ``n_rows`` rows of each are used."""

    x: Array  # [max_rows, d]: the residual stream
    normed: Array  # [n_threads, max_rows, d]: each thread normalises all rows for itself,
    rounded: NDArray[np.int16]  # [n_threads, max_rows, n_columns]: and rounds them for int8 weights
    scales: Array  # [n_threads, max_rows]: what a rounded row is multiplied by; 1 for float32
    qkv: Array  # [max_rows, n_columns]
    heads: Array  # [max_rows, d]: the outputs of all heads
    delta: Array  # [max_rows, n_columns]: what attention or MLP adds to the stream
    hidden: Array  # [max_rows, n_columns]: the MLP's hidden layer
    scores: Array  # [n_threads, TILE_ROWS, n_places]
    mixed: Array  # [n_threads, TILE_ROWS, padded d_head]
    taken: Ints  # [n_phases]: parts of each phase that a thread has taken, see phases.shared
    done: Ints  # [n_phases]: parts that are computed


def make_cache(hparams: HParams, n_slots: int) -> Cache:
    """An empty cache. The operating system commits its pages when they are first written."""
    lead = (n_slots, n_blocks(hparams.n_ctx), hparams.n_layer, hparams.n_head)
    d_head = hparams.n_embd // hparams.n_head
    return Cache(
        np.zeros((*lead, d_head, WIDTH), np.float32),
        np.zeros((*lead, WIDTH, n_blocks(d_head) * WIDTH), np.float32),
    )


def make_buffers(hparams: HParams, max_rows: int, n_threads: int) -> Buffers:
    """Buffers for passes of up to ``max_rows`` rows."""
    d, n_places = hparams.n_embd, n_blocks(hparams.n_ctx) * WIDTH
    d_head = n_blocks(d // hparams.n_head) * WIDTH  # padded
    n_phases = 5 * hparams.n_layer + 2

    def zeros(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    return Buffers(
        x=zeros(max_rows, d),
        normed=zeros(n_threads, max_rows, d),
        rounded=np.zeros((n_threads, max_rows, n_blocks(4 * d) * WIDTH), np.int16),
        scales=np.ones((n_threads, max_rows), np.float32),
        qkv=zeros(max_rows, n_blocks(3 * d) * WIDTH),
        heads=zeros(max_rows, d),
        delta=zeros(max_rows, n_blocks(d) * WIDTH),
        hidden=zeros(max_rows, n_blocks(4 * d) * WIDTH),
        scores=zeros(n_threads, TILE_ROWS, n_places),
        mixed=zeros(n_threads, TILE_ROWS, d_head),
        taken=np.zeros(n_phases, np.int64),
        done=np.zeros(n_phases, np.int64),
    )


# The pass


def forward(task: Task, w: PackedWeights, cache: Cache, logits: Array, n_head: int) -> None:
    """Run a pass: appends its rows to the cache, and writes ``logits [n_logits, n_columns]``."""
    x = embed(task, w)  # [n_rows, d]
    n_rows, d = x.shape
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
        heads *= task.head_gates[layer, rows, :, None]
        if not len(heads):
            return
        x = x[rows]  # [n_rows, d]
        delta = product(heads.reshape(-1, d), w.proj_w[layer], w.proj_s[layer])[:, :d]
        x += delta * task.attn_gates[layer, rows, None]
        normed = layer_norm(x, *w.ln_2[layer])  # [n_rows, d]
        hidden = gelu(product(normed, w.fc_w[layer], w.fc_s[layer]))  # [n_rows, n_columns]
        delta = product(hidden[:, : 4 * d], w.out_w[layer], w.out_s[layer])[:, :d]
        x += delta * task.mlp_gates[layer, rows, None]
    logits[:] = product(layer_norm(x, *w.ln_f), w.vocab_w, w.vocab_s)  # [n_logits, n_columns]


def embed(task: Task, w: PackedWeights) -> Array:
    """The residual stream before the first layer: ``[n_rows, d]``."""
    # A token's embedding is a column of a block.
    columns = w.vocab_w[task.ids // WIDTH, :, task.ids % WIDTH]  # [n_rows, n_steps, n_together]
    embeddings = columns.reshape(len(columns), -1)[:, : w.wpe.shape[1]].astype(np.float32)
    scaled: Array = embeddings * w.vocab_s[0, task.ids, None] + w.wpe[task.positions]
    return scaled  # [n_rows, d]


def product(x: Array, w: Matrix, scale_bias: Array) -> Array:
    """``x @ w * scale + bias``: ``[n_rows, n_in]`` -> ``[n_rows, n_blocks * WIDTH]``."""
    n_steps, n_together = w.shape[1], w.shape[3]
    out = np.empty((len(x), len(w), WIDTH), np.float32)
    scales: Array = np.ones((1, 1), np.float32)
    if w.dtype == np.int8:
        x, scales = rounded(x)
    # float32 blocks as they are; int8 blocks are widened, some at a time.
    step = len(w) if w.dtype == np.float32 else 64
    for i in range(0, len(w), step):
        in_order = w[i : i + step].swapaxes(2, 3).reshape(-1, n_steps * n_together, WIDTH)
        # [n, n_in or one more, WIDTH]
        widened = in_order[:, : x.shape[1]].astype(np.float32, copy=False)
        np.matmul(x, widened, out=out[:, i : i + step].swapaxes(0, 1))
    columns: Array = out.reshape(len(x), -1) * scales * scale_bias[0] + scale_bias[1]
    return columns


def rounded(x: Array) -> tuple[Array, Array]:
    """Rows rounded to whole numbers of up to INT16_MAX, and the scale of each.

    ``x [n_rows, n_in]`` is about the first result times the second, ``[n_rows, 1]``. A scale
    that is not finite belongs to a row that is not.
    """
    largest = np.abs(x).max(axis=1, keepdims=True)  # [n_rows, 1]
    usual = (largest > 1e-30) & np.isfinite(largest)
    factor = np.where(usual, INT16_MAX / np.where(usual, largest, 1), 0).astype(np.float32)
    whole: Array = np.floor(x * factor + np.float32(0.5))
    return whole, largest / INT16_MAX


def write_kv(task: Task, k: Array, v: Array, cache: Cache, layer: int) -> None:
    """Put keys and values ``[n_rows, n_head, d_head]`` in their places."""
    slots, blocks, places = task.slots, task.positions // WIDTH, task.positions % WIDTH
    cache.keys[slots, blocks, layer, :, :, places] = k
    cache.values[slots, blocks, layer, :, places, : v.shape[-1]] = v


def attend(q: Array, cache: Cache, layer: int, slot: int, n: int) -> Array:
    """Attention of one row over the first ``n`` places of its slot: ``[n_head, d_head]``."""
    n_head, d_head = q.shape
    keys = cache.keys[slot, : n_blocks(n), layer]  # [n_blocks, n_head, d_head, WIDTH]
    scores = (q[:, None] @ keys).swapaxes(0, 1).reshape(n_head, -1)[:, :n]  # [n_head, n]
    weights = softmax(scores / math.sqrt(d_head))  # [n_head, n]
    values = cache.values[slot, : n_blocks(n), layer]  # [n_blocks, n_head, WIDTH, padded d_head]
    values = values.swapaxes(0, 1).reshape(n_head, -1, values.shape[-1])[:, :n, :d_head]
    mixed: Array = (weights[:, None] @ values)[:, 0]  # [n_head, d_head]
    return mixed
