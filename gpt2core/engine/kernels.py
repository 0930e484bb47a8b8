"""The forward pass, compiled: one function that every thread of an engine runs.

Importing this module compiles it with Numba, or loads what an earlier process has compiled
(see ``compiling.py``, which decides when). ``plain.py`` defines the same function in NumPy.

All products are made of the tiles of ``tiles.py``.

Invariants: every output is added up over ``n_in`` one element after the other. So no bit
depends on the other rows of a pass, on the tile's size or on the number of threads. Nothing is
allocated here, nothing is raised, and no array is indexed beyond its end.
"""

from typing import Any

import numpy as np
from numba import njit, types

from gpt2core.engine.packed import WIDTH, PackedWeights
from gpt2core.engine.task import LANES, TILE_ROWS, Buffers, Cache, Task
from gpt2core.engine.tiles import (
    SLEEP,
    WIDE,
    atomic_add,
    atomic_load,
    sleep,
    tile_1x16,
    tile_1x64,
    tile_4x16,
    tile_4x64,
    two_to,
)

# error_model="numpy": a division by zero is infinity and no exception. An exception could not
# leave a thread that others wait for, and a loop that may raise one does not vectorize.
F = np.float32
# Elements of n_in that are multiplied for all rows of a pass before the next: with 64 columns,
# 128 KB of float32, which stay in the second cache.
DEPTH = 512
# Looks at a barrier before the thread sleeps: about 50 us, more than threads that are all running
# ever wait. On a busy machine the thread that is waited for may not be running.
SPINS = 5000
EPS = F(1e-5)

# Products


@njit(nogil=True, error_model="numpy")
def multiply_rows(x, x_stride, n_rows, w, w_address, w_stride, n, out, out_stride, n_columns):
    """Add ``x [n_rows, n] @ w [n, n_columns]`` to ``out``; addresses and strides as in a tile.

    ``n_columns`` is a multiple of 16.
    """
    row = 0
    while row < n_rows:
        x_row, out_row = x + row * x_stride, out + row * out_stride
        if row + TILE_ROWS <= n_rows:
            row += TILE_ROWS
            if WIDE and n_columns == WIDTH:
                tile_4x64(x_row, x_stride, w, w_address, w_stride, n, out_row, out_stride)
            else:
                for c in range(0, n_columns, LANES):
                    w_part = w_address + c * w.itemsize
                    tile_4x16(x_row, x_stride, w, w_part, w_stride, n, out_row + 4 * c, out_stride)
        else:
            row += 1
            if n_columns == WIDTH:
                tile_1x64(x_row, x_stride, w, w_address, w_stride, n, out_row, out_stride)
            else:
                for c in range(0, n_columns, LANES):
                    w_part = w_address + c * w.itemsize
                    tile_1x16(x_row, x_stride, w, w_part, w_stride, n, out_row + 4 * c, out_stride)


@njit(nogil=True, error_model="numpy")
def product(x, w, scale_bias, out, thread, n_threads):
    """``out = x @ w * scale + bias`` for this thread's blocks of columns.

    ``x [n_rows, n_in or more]``, ``w [n_blocks, n_in, WIDTH]``, ``out [n_rows, n_blocks *
    WIDTH]``.
    """
    n_rows, n_in = len(x), w.shape[1]
    for block in range(len(w) * thread // n_threads, len(w) * (thread + 1) // n_threads):
        first = block * WIDTH
        out[:, first : first + WIDTH] = F(0)
        for i in range(0, n_in, DEPTH):
            multiply_rows(
                x.ctypes.data + 4 * i,
                x.strides[0],
                n_rows,
                w,
                w.ctypes.data + block * w.strides[0] + i * w.strides[1],
                w.strides[1],
                min(DEPTH, n_in - i),
                out.ctypes.data + 4 * first,
                out.strides[0],
                WIDTH,
            )
        # Loops over slices, here and below, because indices from 0 are never negative: a loop
        # in which they might be does not vectorize.
        scale = scale_bias[0, first : first + WIDTH]
        bias = scale_bias[1, first : first + WIDTH]
        for row in range(n_rows):
            columns = out[row, first : first + WIDTH]
            for c in range(WIDTH):
                columns[c] = columns[c] * scale[c] + bias[c]


# Elementwise functions


@njit(nogil=True, error_model="numpy")
def exp(x):
    """``e ** x`` to two units in the last place, for ``x <= 0`` or small; 0 is about 1e-38.

    The library's function is called for one number at a time; this one vectorizes.
    """
    x = min(max(x, F(-87)), F(88))
    n = np.floor(x * F(1.44269504) + F(0.5))
    r = x - n * F(0.693359375) - n * F(-2.12194440e-4)  # in two parts, for precision
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    return (p * r * r + r + F(1)) * two_to(n)


@njit(nogil=True, error_model="numpy", fastmath=True)
def layer_norm(x, gain_shift, out):
    """``model.layer_norm`` of each row of ``x [n_rows, n_embd]``."""
    n = x.shape[1]
    for row in range(len(x)):
        total = F(0)
        for i in range(n):
            total += x[row, i]
        mean, squares = total / F(n), F(0)
        for i in range(n):
            squares += (x[row, i] - mean) * (x[row, i] - mean)
        scale = F(1) / np.sqrt(squares / F(n) + EPS)
        for i in range(n):
            out[row, i] = (x[row, i] - mean) * scale * gain_shift[0, i] + gain_shift[1, i]


@njit(nogil=True, error_model="numpy")
def gelu(x, first, last):
    """``model.gelu`` of the columns ``first`` to ``last`` of ``x``, in place.

    ``0.5 * (1 + tanh(u))`` is ``1 / (1 + exp(-2 * u))``.
    """
    for row in range(len(x)):
        columns = x[row, first:last]
        for c in range(len(columns)):
            v = columns[c]
            u = F(0.7978845608) * (v + F(0.044715) * v * v * v)
            columns[c] = v / (F(1) + exp(F(-2) * u))


@njit(nogil=True, error_model="numpy", fastmath={"nnan", "reassoc", "nsz"})
def softmax_numerators(scores, n, end, scale):
    """``exp(scale * (scores - max))`` of the first ``n`` in place, 0 up to ``end``; their sum."""
    highest = scores[0]
    for p in range(1, n):
        highest = max(highest, scores[p])
    for p in range(n):
        scores[p] = exp((scores[p] - highest) * scale)
    total = F(0)
    for p in range(n):
        total += scores[p]
    for p in range(n, end):
        scores[p] = F(0)
    return total


# Attention


@njit(nogil=True, error_model="numpy")
def write_kv(qkv, keys, values, slots, positions, head, d_head, d):
    """Put the keys and values of one head into the cache, for all rows of a pass."""
    for row in range(len(qkv)):
        slot, position = slots[row], positions[row]
        block, column = position // WIDTH, position % WIDTH
        for j in range(d_head):
            keys[slot, head, block, j, column] = qkv[row, d + head * d_head + j]
            values[slot, head, position, j] = qkv[row, 2 * d + head * d_head + j]


@njit(nogil=True, error_model="numpy")
def attend(qkv, keys, values, slots, positions, first, head, d_head, scores, mixed, out):
    """Attention of one head for the rows from ``first`` on, into its columns of ``out``.

    ``scores [TILE_ROWS, n_places]`` and ``mixed [TILE_ROWS, padded d_head]`` are scratch.
    """
    scale = F(1) / np.sqrt(F(d_head))
    row = first
    while row < len(qkv):
        # Rows of a prompt go together: their places follow each other.
        n_rows = TILE_ROWS if row + TILE_ROWS <= len(qkv) else 1
        for i in range(1, n_rows):
            if slots[row + i] != slots[row] or positions[row + i] != positions[row] + i:
                n_rows = 1
                break
        slot, end = slots[row], positions[row + n_rows - 1] + 1
        query = qkv.ctypes.data + row * qkv.strides[0] + 4 * head * d_head
        for block in range((end + WIDTH - 1) // WIDTH):
            scores[:n_rows, block * WIDTH : (block + 1) * WIDTH] = F(0)
            block_keys = keys[slot, head, block]  # [d_head, WIDTH]
            multiply_rows(
                query, qkv.strides[0], n_rows,
                block_keys, block_keys.ctypes.data, block_keys.strides[0], d_head,
                scores.ctypes.data + 4 * block * WIDTH, scores.strides[0], WIDTH,
            )  # fmt: skip
        slot_values = values[slot, head]  # [n_places, padded d_head]
        mixed[:n_rows] = F(0)
        for i in range(n_rows):
            total = softmax_numerators(scores[i], positions[row + i] + 1, end, scale)
            out[row + i, head * d_head] = total
        multiply_rows(
            scores.ctypes.data, scores.strides[0], n_rows,
            slot_values, slot_values.ctypes.data, slot_values.strides[0], end,
            mixed.ctypes.data, mixed.strides[0], mixed.shape[1],
        )  # fmt: skip
        for i in range(n_rows):
            total = out[row + i, head * d_head]
            for j in range(d_head):
                out[row + i, head * d_head + j] = mixed[i, j] / total
        row += n_rows


@njit(nogil=True, error_model="numpy")
def barrier(arrived, n_threads, count):
    """Wait until all threads have come to barrier number ``count`` (from 1) of this pass.

    ``arrived [2]``: how often a thread came to a barrier; whether the pass is given up.
    """
    atomic_add(arrived, 0, 1)
    spins = 0
    while atomic_load(arrived, 0) < count * n_threads and atomic_load(arrived, 1) == 0:
        spins += 1
        if spins > SPINS:
            sleep(SLEEP)
    return count + 1


@njit(nogil=True, error_model="numpy")
def add_to_stream(x, delta, gates, thread, n_threads):
    """``x += delta``, times a gate for each row, for this thread's blocks of columns."""
    n = (x.shape[1] + WIDTH - 1) // WIDTH
    first = n * thread // n_threads * WIDTH
    last = min(n * (thread + 1) // n_threads * WIDTH, x.shape[1])
    for row in range(len(x)):
        columns, added = x[row, first:last], delta[row, first:last]
        gate = gates[row] if len(gates) else F(1)
        for c in range(len(columns)):
            columns[c] += added[c] * gate


@njit(nogil=True, error_model="numpy")
def embed(task, w, x, thread, n_threads):
    """The residual stream before the first layer, of every ``n_threads``-th row."""
    for row in range(thread, len(x), n_threads):
        id, position = task.ids[row], task.positions[row]
        block, column, scale = id // WIDTH, id % WIDTH, w.vocab_s[0, id]
        for i in range(x.shape[1]):
            x[row, i] = F(w.vocab_w[block, i, column]) * scale + w.wpe[position, i]


def array(dtype: Any, n_dim: int, readonly: bool = False) -> Any:
    return types.Array(dtype, n_dim, "C", readonly=readonly)


f32, i64 = types.float32, types.int64
TASK = types.NamedTuple(
    [array(i64, 1)] * 3 + [i64, array(f32, 3), array(f32, 2), array(f32, 2)], Task
)
CACHE = types.NamedTuple([array(f32, 6), array(f32, 5)], Cache)
BUFFERS = types.NamedTuple(
    [array(f32, n) for n in (2, 3, 2, 2, 2, 2, 3, 3)] + [array(i64, 1)], Buffers
)


def weights_type(element: Any) -> Any:
    """The type of :class:`PackedWeights` whose matrices have such elements."""
    n_dims = (2, 3, 3, 2, 4, 3, 4, 3, 4, 3, 4, 3, 3, 2)
    kinds = [
        array(element if name.endswith("_w") else f32, n, readonly=True)
        for name, n in zip(PackedWeights._fields, n_dims, strict=True)
    ]
    return types.NamedTuple(kinds, PackedWeights)


SIGNATURES = [
    types.void(TASK, weights_type(element), CACHE, BUFFERS, array(f32, 2), i64, i64, i64)
    for element in (f32, types.int8)
]


@njit(SIGNATURES, nogil=True, error_model="numpy", cache=True)
def forward(task, w, cache, buffers, logits, n_head, thread, n_threads):
    """Thread ``thread``'s part of a pass; see ``plain.forward``, which does all of it."""
    r, n_rows, d = buffers, len(task.ids), w.ln_f.shape[1]
    d_head, n_layer, arrived = d // n_head, len(w.ln_1), buffers.arrived
    x, normed, mixed = r.x[:n_rows], r.normed[thread, :n_rows], r.mixed[thread]
    qkv, heads, delta, hidden = (
        r.qkv[:n_rows],
        r.heads[:n_rows],
        r.delta[:n_rows],
        r.hidden[:n_rows],
    )
    gated = len(task.attn_gates) > 0
    embed(task, w, x, thread, n_threads)
    count = barrier(arrived, n_threads, 1)
    first = 0  # row: those before it are not computed any further
    for layer in range(n_layer):
        layer_norm(x, w.ln_1[layer], normed)
        product(normed, w.qkv_w[layer], w.qkv_s[layer], qkv, thread, n_threads)
        count = barrier(arrived, n_threads, count)
        if layer == n_layer - 1:
            first = n_rows - task.n_logits
        for head in range(n_head * thread // n_threads, n_head * (thread + 1) // n_threads):
            keys, values = cache.keys[layer], cache.values[layer]
            write_kv(qkv, keys, values, task.slots, task.positions, head, d_head, d)
            attend(
                qkv, keys, values, task.slots, task.positions, first, head, d_head,
                r.scores[thread], mixed, heads,
            )  # fmt: skip
            if gated:
                for row in range(first, n_rows):
                    for j in range(head * d_head, (head + 1) * d_head):
                        heads[row, j] *= task.head_gates[layer, row, head]
        if first == n_rows:
            return
        count = barrier(arrived, n_threads, count)
        product(heads[first:], w.proj_w[layer], w.proj_s[layer], delta[first:], thread, n_threads)
        gates = task.attn_gates[layer, first:] if gated else task.attn_gates[0:0].reshape(0)
        add_to_stream(x[first:], delta[first:], gates, thread, n_threads)
        count = barrier(arrived, n_threads, count)
        layer_norm(x[first:], w.ln_2[layer], normed[first:])
        product(normed[first:], w.fc_w[layer], w.fc_s[layer], hidden[first:], thread, n_threads)
        n = len(w.fc_w[layer])
        gelu(hidden[first:], n * thread // n_threads * WIDTH, n * (thread + 1) // n_threads * WIDTH)
        count = barrier(arrived, n_threads, count)
        product(hidden[first:], w.out_w[layer], w.out_s[layer], delta[first:], thread, n_threads)
        gates = task.mlp_gates[layer, first:] if gated else task.mlp_gates[0:0].reshape(0)
        add_to_stream(x[first:], delta[first:], gates, thread, n_threads)
        count = barrier(arrived, n_threads, count)
    layer_norm(x[first:], w.ln_f, normed[first:])
    product(normed[first:], w.vocab_w, w.vocab_s, logits, thread, n_threads)
