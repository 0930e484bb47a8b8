"""The forward pass, compiled: one function that every thread of an engine runs.

Importing this module compiles it with Numba, or loads what an earlier process has compiled
(see ``compiling.py``, which decides when). ``plain.py`` defines the same function in NumPy.

A pass is a series of phases (``phases.py``) of products (``products.py``), attention and
functions of single rows (``elementwise.py``).

Invariants: every output is added up over ``n_in`` one element after the other. So no bit
depends on the other rows of a pass, on the tile's size or on the number of threads. Nothing is
allocated here, nothing is raised, and no array is indexed beyond its end.
"""

from typing import Any

import numpy as np
from numba import njit, typeof, types

from gpt2core.engine.elementwise import add_to_stream, gelu, layer_norm, softmax
from gpt2core.engine.gates import row_gates
from gpt2core.engine.packed import WIDTH, PackedWeights, Precision, packed_tensors
from gpt2core.engine.phases import compiled, count_units, shared
from gpt2core.engine.plain import TILE_ROWS, Task, make_buffers, make_cache
from gpt2core.engine.products import inputs, multiply_rows, product
from gpt2core.hparams import HParams

F = np.float32


# Attention


@compiled
def write_kv(qkv, cache, task, layer, head, d_head, d):
    """Put the keys and values of one head into the cache, for all rows of a pass."""
    for row in range(len(qkv)):
        slot, block, place = (
            task.slots[row],
            task.positions[row] // WIDTH,
            task.positions[row] % WIDTH,
        )
        for j in range(d_head):
            key, value = qkv[row, d + head * d_head + j], qkv[row, 2 * d + head * d_head + j]
            cache.keys[slot, block, layer, head, j, place] = key
            cache.values[slot, block, layer, head, place, j] = value


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
def attend(qkv, cache, task, layer, first, head, d_head, scores, mixed, out):
    """Attention of one head for the rows from ``first`` on, into its columns of ``out``.

    ``scores [TILE_ROWS, n_places]`` and ``mixed [TILE_ROWS, padded d_head]`` are scratch.
    """
    scale = F(1) / np.sqrt(F(d_head))
    row = first
    while row < len(qkv):
        n_rows, slot = rows_together(task, row), task.slots[row]
        end = task.positions[row + n_rows - 1] + 1
        next_slot = task.slots[min(row + n_rows, len(qkv) - 1)]
        query = qkv.ctypes.data + row * qkv.strides[0] + 4 * head * d_head
        for place in range(0, end, WIDTH):
            keys = cache.keys[slot, place // WIDTH, layer, head]  # [d_head, WIDTH]
            next_values = cache.values[slot, place // WIDTH, layer, head]
            scores[:n_rows, place : place + WIDTH] = F(0)
            multiply_rows(
                query, qkv.strides[0], n_rows,
                keys, keys.ctypes.data, keys.strides[0], d_head,
                scores.ctypes.data + 4 * place, scores.strides[0],
                next_values.ctypes.data, keys.strides[0],
            )  # fmt: skip
        for i in range(n_rows):
            softmax(scores[i], task.positions[row + i] + 1, end, scale)
        mixed[:n_rows] = F(0)
        for place in range(0, end, WIDTH):
            values = cache.values[slot, place // WIDTH, layer, head]  # [WIDTH, padded d_head]
            next_keys = cache.keys[next_slot, place // WIDTH, layer, head]
            for c in range(0, mixed.shape[1], WIDTH):
                multiply_rows(
                    scores.ctypes.data + 4 * place, scores.strides[0], n_rows,
                    values, values.ctypes.data + 4 * c, values.strides[0], min(WIDTH, end - place),
                    mixed.ctypes.data + 4 * c, mixed.strides[0],
                    next_keys.ctypes.data, values.strides[0],
                )  # fmt: skip
        for i in range(n_rows):
            gate = task.head_gates[layer, row + i, head]
            for j in range(d_head):
                out[row + i, head * d_head + j] = mixed[i, j] * gate
        row += n_rows


# The pass


@compiled
def embed(task, w, rows, x):
    """Some rows, ``(first, end)``, of the residual stream before the first layer."""
    for row in range(rows[0], rows[1]):
        id, position = task.ids[row], task.positions[row]
        scale, column = w.vocab_s[0, id], w.vocab_w[id // WIDTH, :, id % WIDTH]
        n_together = column.shape[1]
        for i in range(x.shape[1]):
            element = F(column[i // n_together, i % n_together])
            x[row, i] = element * scale + w.wpe[position, i]


def signature(precision: Precision) -> Any:
    """The types of the arguments of ``forward``, which are the same for every model."""
    smallest = HParams(n_vocab=1, n_ctx=1, n_embd=1, n_head=1, n_layer=1)
    ints, logits = np.zeros(1, np.int64), np.zeros((1, 1), np.float32)
    weights = []
    for dtype, shape in packed_tensors(smallest, precision).values():
        weights.append(np.zeros(shape, dtype))
        weights[-1].flags.writeable = False
    arguments = (
        Task(ints, ints, ints, 0, *row_gates([None], smallest)),
        PackedWeights(*weights),
        make_cache(smallest, 1),
        make_buffers(smallest, 1, 1),
        logits,
        *(1, 0, 1),  # n_head, thread, n_threads
    )
    return types.void(*map(typeof, arguments))


@njit([signature("float32"), signature("int8")], nogil=True, error_model="numpy", cache=True)
def forward(task, w, cache, buffers, logits, n_head, thread, n_threads):
    """Thread ``thread``'s part of a pass; see ``plain.forward``, which does all of it."""
    r, n_rows, d = buffers, len(task.ids), w.ln_f.shape[1]
    d_head, n_layer = d // n_head, len(w.ln_1)
    x, qkv, heads, first = r.x[:n_rows], r.qkv[:n_rows], r.heads[:n_rows], 0
    whole, scales = r.rounded[thread], r.scales[thread]
    for rows in shared(r, 0, n_rows, n_threads):
        embed(task, w, rows, x)
    for layer in range(n_layer):
        phase = 1 + 5 * layer
        normed = r.normed[thread, : len(x)]
        layer_norm(x, w.ln_1[layer], normed)
        given = inputs(normed, w.qkv_w, whole, scales)
        for units in shared(r, phase, count_units(len(w.qkv_w[layer]), len(x)), n_threads):
            product(given, scales, w.qkv_w[layer], w.qkv_s[layer], units, qkv)
        if layer == n_layer - 1:
            first = n_rows - task.n_logits  # of the rows before only keys and values are needed
        for some_heads in shared(r, phase + 1, n_head, n_threads):
            for head in range(some_heads[0], some_heads[1]):
                write_kv(qkv, cache, task, layer, head, d_head, d)
                attend(
                    qkv, cache, task, layer, first, head, d_head,
                    r.scores[thread], r.mixed[thread], heads,
                )  # fmt: skip
        x, heads = x[first:], heads[first:]
        if len(x) == 0:
            return
        normed, delta, hidden = normed[: len(x)], r.delta[: len(x)], r.hidden[: len(x)]
        given = inputs(heads, w.proj_w, whole, scales)
        for units in shared(r, phase + 2, count_units(len(w.proj_w[layer]), len(x)), n_threads):
            product(given, scales, w.proj_w[layer], w.proj_s[layer], units, delta)
            add_to_stream(x, delta, task.attn_gates[layer, first:], units)
        layer_norm(x, w.ln_2[layer], normed)
        given = inputs(normed, w.fc_w, whole, scales)
        for units in shared(r, phase + 3, count_units(len(w.fc_w[layer]), len(x)), n_threads):
            product(given, scales, w.fc_w[layer], w.fc_s[layer], units, hidden)
            gelu(hidden, units)
        given = inputs(hidden, w.out_w, whole, scales)
        for units in shared(r, phase + 4, count_units(len(w.out_w[layer]), len(x)), n_threads):
            product(given, scales, w.out_w[layer], w.out_s[layer], units, delta)
            add_to_stream(x, delta, task.mlp_gates[layer, first:], units)
    normed = r.normed[thread, : len(x)]
    layer_norm(x, w.ln_f, normed)
    given = inputs(normed, w.vocab_w, whole, scales)
    for units in shared(r, 1 + 5 * n_layer, count_units(len(w.vocab_w), len(x)), n_threads):
        product(given, scales, w.vocab_w, w.vocab_s, units, logits)
