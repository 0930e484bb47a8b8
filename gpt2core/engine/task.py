"""What a forward pass reads and writes beside the weights: its rows, the cache, buffers.

``kernels.py`` and ``plain.py`` take these tuples of arrays; ``engine.py`` makes them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine.packed import WIDTH, n_blocks
from gpt2core.hparams import HParams

Array = NDArray[np.float32]
Ints = NDArray[np.int64]

LANES = 16  # floats in a vector of the kernels
TILE_ROWS = 4  # rows that are multiplied together


class Task(NamedTuple):
    """The rows of one pass: new tokens of one or several slots, a slot's in order."""

    ids: Ints  # [n_rows]
    slots: Ints  # [n_rows]
    positions: Ints  # [n_rows]: places in the slot's text
    n_logits: int  # of the last rows: 0, 1 or all
    # Without gates these have n_layer = 0.
    head_gates: Array  # [n_layer, n_rows, n_head]
    attn_gates: Array  # [n_layer, n_rows]
    mlp_gates: Array  # [n_layer, n_rows]


class Cache(NamedTuple):
    """Keys and values of every slot.

    Keys lie in blocks, as the weights do, so that the same tiles multiply them.
    """

    keys: Array  # [n_layer, n_slots, n_head, n_blocks, d_head, WIDTH]
    values: Array  # [n_layer, n_slots, n_head, n_places, d_head up to a multiple of LANES]


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
    arrived: Ints  # [2]: see kernels.barrier


def make_cache(hparams: HParams, n_slots: int) -> Cache:
    """An empty cache. The operating system commits its pages when they are first written."""
    lead = (hparams.n_layer, n_slots, hparams.n_head)
    d_head, blocks = hparams.n_embd // hparams.n_head, n_blocks(hparams.n_ctx)
    return Cache(
        np.zeros((*lead, blocks, d_head, WIDTH), np.float32),
        np.zeros((*lead, blocks * WIDTH, -(-d_head // LANES) * LANES), np.float32),
    )


def make_buffers(hparams: HParams, max_rows: int, n_threads: int) -> Buffers:
    """Buffers for passes of up to ``max_rows`` rows."""
    d, n_places = hparams.n_embd, n_blocks(hparams.n_ctx) * WIDTH
    d_head = -(-(d // hparams.n_head) // LANES) * LANES

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
        arrived=np.zeros(2, np.int64),
    )
