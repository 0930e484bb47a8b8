"""Products of a few rows with packed weights, compiled; the tiles of ``tiles.py`` put together.

Invariants: every output is added up over ``n_in`` in order, of int8 weights 256 at a time. So no
bit depends on the other rows of a pass, on the tile's size or on the number of threads. No
array is indexed beyond its end.
"""

import numpy as np
from numba import types
from numba.extending import overload

from gpt2core.engine.packed import WIDTH
from gpt2core.engine.phases import compiled, place
from gpt2core.engine.plain import INT16_MAX, TILE_ROWS
from gpt2core.engine.tiles import TILE_COLUMNS, four_rows, one_row

F = np.float32
# Bytes of a block that are multiplied for all rows of a unit before the next: half of the first
# cache. Of int8, 256 inputs: the sum of so many products of 16 and 8 bits fits in 32 bits.
CHUNK_BYTES = 2**14
AHEAD = 8  # steps between what a tile reads and prefetches, if it is the only one of its weights


@compiled
def multiply_rows(
    x, x_stride, n_rows, w, w_address, w_stride, n, out, out_stride, next_w, next_stride
):
    """Add ``x @ w`` to ``out [n_rows, WIDTH]`` in ``n`` steps; addresses and strides as in a tile.

    The tiles prefetch one after the other from ``next_w`` on.
    """
    column_bytes = 2 if w.itemsize == 1 else 4  # of a step: of int8, two
    row = 0
    while row + TILE_ROWS <= n_rows:
        for c in range(0, WIDTH, TILE_COLUMNS):
            four_rows(
                x + row * x_stride, x_stride,
                w, w_address + c * column_bytes, w_stride, n,
                out + row * out_stride + 4 * c, out_stride,
                next_w, next_stride,
            )  # fmt: skip
            next_w += n * next_stride
        row += TILE_ROWS
    while row < n_rows:
        one_row(
            x + row * x_stride, x_stride, w, w_address, w_stride, n,
            out + row * out_stride, out_stride, next_w, next_stride,
        )  # fmt: skip
        next_w += n * next_stride
        row += 1


@compiled
def product(x, scales, w, scale_bias, units, out):
    """Some units, ``(first, end)``, of ``out = x @ w * scale + bias``.

    ``x [n_rows, n_in or more]`` and ``scales [n_rows]`` are what ``inputs`` returned,
    ``w [n_blocks, n_steps, WIDTH, n_together]``, ``out [n_rows, n_blocks * WIDTH]``.
    """
    n_steps, w_stride = w.shape[1], w.strides[1]
    depth = CHUNK_BYTES // w_stride
    for unit in range(units[0], units[1]):
        (column, end_column), (row, end_row) = place(unit, len(x))
        n_rows = end_row - row
        n_tiles = n_rows // TILE_ROWS * (WIDTH // TILE_COLUMNS) + n_rows % TILE_ROWS
        out[row:end_row, column:end_column] = F(0)
        w_block = w.ctypes.data + column // WIDTH * w.strides[0]
        for i in range(0, n_steps, depth):
            n, w_chunk = min(depth, n_steps - i), w_block + i * w_stride
            # If one tile multiplies all rows, reading memory is all it does, and prefetching from
            # a second place slows it down.
            ahead = w_stride * (n if n_tiles > 1 else AHEAD)
            multiply_rows(
                # A step is 4 bytes of float32 and of int16.
                x.ctypes.data + row * x.strides[0] + 4 * i, x.strides[0], n_rows,
                w, w_chunk, w_stride, n,
                out.ctypes.data + row * out.strides[0] + 4 * column, out.strides[0],
                w_chunk + ahead, w_stride // n_tiles,
            )  # fmt: skip
        # Loops over slices, here and below, because indices from 0 are never negative: a loop
        # in which they might be does not vectorize.
        scale, bias = scale_bias[0, column:end_column], scale_bias[1, column:end_column]
        for r in range(row, end_row):
            numbers, row_scale = out[r, column:end_column], scales[r]
            for c in range(len(numbers)):
                numbers[c] = numbers[c] * row_scale * scale[c] + bias[c]


def inputs(x, w, whole, scales):
    """What ``product`` takes for ``x [n_rows, n_in]``: ``x`` itself, or rounded for int8 ``w``."""


@overload(inputs)
def inputs_for(x, w, whole, scales):
    if w.dtype == types.int8:
        return lambda x, w, whole, scales: rounded(x, whole, scales)
    return lambda x, w, whole, scales: x


@compiled
def rounded(x, whole, scales):
    """``plain.rounded``, into ``whole [n_rows, n_in or more]`` and ``scales [n_rows]``."""
    for row in range(len(x)):
        numbers, out = x[row], whole[row, : x.shape[1]]
        # The bits of floats without their sign are in the order of the floats; those of an
        # infinity, and of what is no number, are above all others.
        bits, highest = numbers.view(np.int32), np.int32(0)
        for i in range(len(bits)):
            highest = max(highest, np.int32(bits[i] & np.int32(0x7FFFFFFF)))
        largest = np.int32(highest).view(F)
        scales[row] = largest / INT16_MAX
        factor = INT16_MAX / largest if F(1e-30) < largest < F(np.inf) else F(0)
        for i in range(len(numbers)):
            out[i] = np.int16(np.int32(np.floor(numbers[i] * factor + F(0.5))))
    return whole[: len(x)]
