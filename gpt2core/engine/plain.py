"""The forward pass of the engine in plain NumPy: its arrays, and what ``kernels.py`` compiles.

The functions are those of ``model.py``; what is new is the cache. They serve where Numba is not
installed and while the kernels are compiled, and the kernels' tests compare them with these.

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
    """Keys and values of every slot.

    Keys lie in blocks, as the weights do, so that the same tiles multiply them. ``n_places`` is
    n_ctx up to a multiple of WIDTH.
    """

    keys: Array  # [n_layer, n_slots, n_head, n_blocks, d_head, WIDTH]
    values: Array  # [n_layer, n_slots, n_head, n_places, d_head up to a multiple of WIDTH]


class Buffers(NamedTuple):
    """Intermediate results of a pass; the first ``n_rows`` rows of each are used."""

    x: Array  # [max_rows, d]: the residual stream
    normed: Array  # [n_threads, max_rows, d]: each thread normalises all rows for itself
    qkv: Array  # [max_rows, n_columns]
    heads: Array  # [max_rows, d]: the outputs of all heads
    delta: Array  # [max_rows, n_columns]: what attention or MLP adds to the stream
    hidden: Array  # [max_rows, n_columns]: the MLP's hidden layer
    scores: Array  # [n_threads, TILE_ROWS, n_places]
    mixed: Array  # [n_threads, TILE_ROWS, padded d_head]
    taken: Ints  # [n_phases]: parts of each phase that a thread has taken, see tiles.shared
    done: Ints  # [n_phases]: parts that are computed


def make_cache(hparams: HParams, n_slots: int) -> Cache:
    """An empty cache. The operating system commits its pages when they are first written."""
    lead = (hparams.n_layer, n_slots, hparams.n_head)
    d_head, blocks = hparams.n_embd // hparams.n_head, n_blocks(hparams.n_ctx)
    return Cache(
        np.zeros((*lead, blocks, d_head, WIDTH), np.float32),
        np.zeros((*lead, blocks * WIDTH, n_blocks(d_head) * WIDTH), np.float32),
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
