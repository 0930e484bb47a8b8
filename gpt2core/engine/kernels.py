"""The forward pass, compiled: one function that every thread of an engine runs.

Importing this module compiles it with Numba, or loads what an earlier process has compiled
(see ``compiling.py``, which decides when). ``plain.py`` defines the same function in NumPy.

All products are made of the tiles of ``tiles.py``.

A pass is a series of phases, such as the product with one matrix. Every phase consists of
independent parts, such as blocks of columns. Threads take the next part that is left, and enter
the next phase when all parts are done. So no thread waits for one that the system has not
started yet, only for one that is computing a part.

Invariants: every output is added up over ``n_in`` one element after the other. So no bit
depends on the other rows of a pass, on the tile's size or on the number of threads. Nothing is
allocated here, nothing is raised, and no array is indexed beyond its end.
"""

from typing import Any

import numpy as np
from numba import njit, types

from gpt2core.engine.packed import WIDTH, PackedWeights
from gpt2core.engine.plain import TILE_ROWS, Buffers, Cache, Task
from gpt2core.engine.tiles import TILE_COLUMNS, compiled, four_rows, one_row, shared

F = np.float32
# Bytes of a block that are multiplied for all rows of a pass before the next: half of the first
# cache.
CHUNK_BYTES = 2**14
EPS = F(1e-5)


# Products


@compiled
def multiply_rows(x, x_stride, n_rows, w, w_address, w_stride, n, out, out_stride, next_w):
    """Add ``x [n_rows, n] @ w [n, WIDTH]`` to ``out``; addresses and strides as in a tile."""
    row = 0
    while row + TILE_ROWS <= n_rows:
        for c in range(0, WIDTH, TILE_COLUMNS):
            four_rows(
                x + row * x_stride, x_stride,
                w, w_address + c * w.itemsize, w_stride, n,
                out + row * out_stride + 4 * c, out_stride,
                next_w + n * c * w.itemsize,
            )  # fmt: skip
        row += TILE_ROWS
    while row < n_rows:
        out_row = out + row * out_stride
        one_row(x + row * x_stride, x_stride, w, w_address, w_stride, n, out_row, 0, next_w)
        row += 1


@compiled
def product(x, w, scale_bias, blocks, out):
    """Some blocks of columns, ``(first, end)``, of ``out = x @ w * scale + bias``.

    ``x [n_rows, n_in or more]``, ``w [n_blocks, n_in, WIDTH]``, ``out [n_rows, n_blocks *
    WIDTH]``.
    """
    n_rows, n_in, w_stride = len(x), w.shape[1], w.strides[1]
    depth = CHUNK_BYTES // w_stride
    first, end = blocks[0] * WIDTH, blocks[1] * WIDTH
    # If one tile multiplies all rows, reading memory is all it does, and prefetching from
    # a second place slows it down.
    n_tiles = n_rows // TILE_ROWS * (WIDTH // TILE_COLUMNS) + n_rows % TILE_ROWS
    out[:, first:end] = F(0)
    for block in range(blocks[0], blocks[1]):
        for i in range(0, n_in, depth):
            n = min(depth, n_in - i)
            w_chunk = w.ctypes.data + block * w.strides[0] + i * w_stride
            multiply_rows(
                x.ctypes.data + 4 * i, x.strides[0], n_rows,
                w, w_chunk, w_stride, n,
                out.ctypes.data + 4 * block * WIDTH, out.strides[0],
                w_chunk + n * w_stride if n_tiles > 1 else w_chunk,
            )  # fmt: skip
    # Loops over slices, here and below, because indices from 0 are never negative: a loop
    # in which they might be does not vectorize.
    scale, bias = scale_bias[0, first:end], scale_bias[1, first:end]
    for row in range(n_rows):
        columns = out[row, first:end]
        for c in range(len(columns)):
            columns[c] = columns[c] * scale[c] + bias[c]


# Elementwise functions


@compiled
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
    two_to_n = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(F)
    return (p * r * r + r + F(1)) * two_to_n


@compiled(fastmath=True)
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


@compiled
def gelu(x, blocks):
    """``model.gelu`` of some blocks of columns of ``x``, in place.

    ``0.5 * (1 + tanh(u))`` is ``1 / (1 + exp(-2 * u))``.
    """
    for row in range(len(x)):
        columns = x[row, blocks[0] * WIDTH : blocks[1] * WIDTH]
        for c in range(len(columns)):
            v = columns[c]
            u = F(0.7978845608) * (v + F(0.044715) * v * v * v)
            columns[c] = v / (F(1) + exp(F(-2) * u))


@compiled
def add_to_stream(x, delta, gates, blocks):
    """``x += delta``, times the gate of each row, for some blocks of columns."""
    first, end = blocks[0] * WIDTH, min(blocks[1] * WIDTH, x.shape[1])
    for row in range(len(x)):
        columns, added, gate = x[row, first:end], delta[row, first:end], gates[row]
        for c in range(len(columns)):
            columns[c] += added[c] * gate


@compiled(fastmath={"nnan", "reassoc", "nsz"})
def softmax(scores, n, end, scale):
    """``model.softmax`` of ``scale * scores`` for the first ``n``, in place; 0 up to ``end``."""
    highest = scores[0]
    for p in range(1, n):
        highest = max(highest, scores[p])
    for p in range(n):
        scores[p] = exp((scores[p] - highest) * scale)
    total = F(0)
    for p in range(n):
        total += scores[p]
    for p in range(n):
        scores[p] *= F(1) / total
    for p in range(n, end):
        scores[p] = F(0)


# Attention


@compiled
def write_kv(qkv, keys, values, task, head, d_head, d):
    """Put the keys and values of one head into the cache, for all rows of a pass."""
    for row in range(len(qkv)):
        slot, position = task.slots[row], task.positions[row]
        block, column = position // WIDTH, position % WIDTH
        for j in range(d_head):
            keys[slot, head, block, j, column] = qkv[row, d + head * d_head + j]
            values[slot, head, position, j] = qkv[row, 2 * d + head * d_head + j]


@compiled
def rows_together(task, row):
    """How many rows from ``row`` on are attended together: TILE_ROWS of a prompt, else 1."""
    if row + TILE_ROWS > len(task.slots):
        return 1
    for i in range(1, TILE_ROWS):
        if task.slots[row + i] != task.slots[row]:
            return 1
    return TILE_ROWS


@compiled
def attend(qkv, keys, values, task, gates, first, head, d_head, scores, mixed, out):
    """Attention of one head for the rows from ``first`` on, into its columns of ``out``.

    ``scores [TILE_ROWS, n_places]`` and ``mixed [TILE_ROWS, padded d_head]`` are scratch.
    """
    scale = F(1) / np.sqrt(F(d_head))
    row = first
    while row < len(qkv):
        n_rows = rows_together(task, row)
        end = task.positions[row + n_rows - 1] + 1
        slot_keys = keys[task.slots[row], head]  # [n_blocks, d_head, WIDTH]
        slot_values = values[task.slots[row], head]  # [n_places, padded d_head]
        keys_address, values_address = slot_keys.ctypes.data, slot_values.ctypes.data
        next_slot = task.slots[min(row + n_rows, len(qkv) - 1)]
        query = qkv.ctypes.data + row * qkv.strides[0] + 4 * head * d_head
        for block in range((end + WIDTH - 1) // WIDTH):
            scores[:n_rows, block * WIDTH : (block + 1) * WIDTH] = F(0)
            multiply_rows(
                query, qkv.strides[0], n_rows,
                slot_keys, keys_address + block * slot_keys.strides[0], slot_keys.strides[1],
                d_head, scores.ctypes.data + 4 * block * WIDTH, scores.strides[0],
                values_address + block * WIDTH * slot_values.strides[0],
            )  # fmt: skip
        for i in range(n_rows):
            softmax(scores[i], task.positions[row + i] + 1, end, scale)
        mixed[:n_rows] = F(0)
        for c in range(0, mixed.shape[1], WIDTH):
            multiply_rows(
                scores.ctypes.data, scores.strides[0], n_rows,
                slot_values, values_address + 4 * c, slot_values.strides[0],
                end, mixed.ctypes.data + 4 * c, mixed.strides[0],
                keys[next_slot, head].ctypes.data,
            )  # fmt: skip
        for i in range(n_rows):
            for j in range(d_head):
                out[row + i, head * d_head + j] = mixed[i, j] * gates[row + i, head]
        row += n_rows


# The pass


@compiled
def embed(task, w, rows, x):
    """Some rows, ``(first, end)``, of the residual stream before the first layer."""
    for row in range(rows[0], rows[1]):
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
    [array(f32, n) for n in (2, 3, 2, 2, 2, 2, 3, 3)] + [array(i64, 1)] * 2, Buffers
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
    d_head, n_layer = d // n_head, len(w.ln_1)
    x, qkv, heads, first = r.x[:n_rows], r.qkv[:n_rows], r.heads[:n_rows], 0
    for rows in shared(r, 0, n_rows, n_threads):
        embed(task, w, rows, x)
    for layer in range(n_layer):
        phase = 1 + 5 * layer
        normed = r.normed[thread, : len(x)]
        layer_norm(x, w.ln_1[layer], normed)
        for blocks in shared(r, phase, len(w.qkv_w[layer]), n_threads):
            product(normed, w.qkv_w[layer], w.qkv_s[layer], blocks, qkv)
        if layer == n_layer - 1:
            first = n_rows - task.n_logits  # of the rows before only keys and values are needed
        keys, values, gates = cache.keys[layer], cache.values[layer], task.head_gates[layer]
        for some_heads in shared(r, phase + 1, n_head, n_threads):
            for head in range(some_heads[0], some_heads[1]):
                write_kv(qkv, keys, values, task, head, d_head, d)
                attend(
                    qkv, keys, values, task, gates, first, head, d_head,
                    r.scores[thread], r.mixed[thread], heads,
                )  # fmt: skip
        x, heads = x[first:], heads[first:]
        if len(x) == 0:
            return
        normed, delta, hidden = normed[: len(x)], r.delta[: len(x)], r.hidden[: len(x)]
        for blocks in shared(r, phase + 2, len(w.proj_w[layer]), n_threads):
            product(heads, w.proj_w[layer], w.proj_s[layer], blocks, delta)
            add_to_stream(x, delta, task.attn_gates[layer, first:], blocks)
        layer_norm(x, w.ln_2[layer], normed)
        for blocks in shared(r, phase + 3, len(w.fc_w[layer]), n_threads):
            product(normed, w.fc_w[layer], w.fc_s[layer], blocks, hidden)
            gelu(hidden, blocks)
        for blocks in shared(r, phase + 4, len(w.out_w[layer]), n_threads):
            product(hidden, w.out_w[layer], w.out_s[layer], blocks, delta)
            add_to_stream(x, delta, task.mlp_gates[layer, first:], blocks)
    layer_norm(x, w.ln_f, r.normed[thread, : len(x)])
    for blocks in shared(r, 1 + 5 * n_layer, len(w.vocab_w), n_threads):
        product(r.normed[thread, : len(x)], w.vocab_w, w.vocab_s, blocks, logits)
