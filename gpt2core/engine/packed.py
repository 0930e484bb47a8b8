"""Packed weights: the parameters in the order in which the engine reads them.

Every matrix ``[n_in, n_out]`` of the checkpoint, and the transposed ``wte``, is cut into blocks
of ``WIDTH`` columns, ``[n_blocks, n_steps, WIDTH, n_together]``. A product of a few rows with a
block reads memory from start to end; read in the checkpoint's own order, it jumps by a whole row of
the matrix, and takes twice as long. The last block is padded with zeros.

The elements are float32 with ``n_together`` 1, or int8 with 2: then each column is divided by its
own scale, which is its largest element over 127, and rounded. Two int8 weights of a column lie
together, because processors multiply such pairs with pairs of activations and add both products in
one instruction. Float32 weights have the scale 1.

Invariants: arrays are read-only and C-contiguous, whether they are of this process or of a
memory map. Nothing but the int8 rounding changes a number.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2core.hparams import HParams
from gpt2core.model import LinearParams, Params

Array = NDArray[np.float32]
Matrix = NDArray[np.float32] | NDArray[np.int8]
Precision = Literal["float32", "int8"]

WIDTH = 64  # columns in a block: a step of it is two cache lines of int8, four of float32
INT8_MAX = 127
# Elements of a column that lie together, and are multiplied together.
N_TOGETHER: dict[Precision, int] = {"float32": 1, "int8": 2}


class PackedWeights(NamedTuple):
    """All tensors of a model; the engine and its kernels read nothing else.

    ``d`` is n_embd. A matrix ``…_w`` of ``n_in`` rows and ``n_out`` columns has ``n_blocks(n_out)``
    blocks of ``ceil(n_in / n_together)`` steps; ``…_s [2, n_blocks * WIDTH]`` are the scale and the
    bias of every column. The matrices are first, which keeps them aligned in a file.
    """

    qkv_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together], of all heads
    proj_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together]
    fc_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together]
    out_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together]
    vocab_w: Matrix  # [n_blocks, n_steps, WIDTH, n_together]: a column is a token's embedding
    qkv_s: Array  # [n_layer, 2, n_columns]
    proj_s: Array  # [n_layer, 2, n_columns]
    fc_s: Array  # [n_layer, 2, n_columns]
    out_s: Array  # [n_layer, 2, n_columns]
    vocab_s: Array  # [2, n_columns]
    ln_1: Array  # [n_layer, 2, d]: gain and shift
    ln_2: Array  # [n_layer, 2, d]
    ln_f: Array  # [2, d]
    wpe: Array  # [n_ctx, d]


def n_blocks(n: int) -> int:
    """The number of blocks that hold ``n`` columns."""
    return -(-n // WIDTH)


def packed_tensors(
    hparams: HParams, precision: Precision
) -> dict[str, tuple["np.dtype[Any]", tuple[int, ...]]]:
    """The type and the shape of every tensor of :class:`PackedWeights`."""
    d, layers, n_together = hparams.n_embd, (hparams.n_layer,), N_TOGETHER[precision]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, lead, n_in, n_out in (
        ("qkv", layers, d, 3 * d),
        ("proj", layers, d, d),
        ("fc", layers, d, 4 * d),
        ("out", layers, 4 * d, d),
        ("vocab", (), d, hparams.n_vocab),
    ):
        n_steps = -(-n_in // n_together)
        shapes[f"{name}_w"] = (*lead, n_blocks(n_out), n_steps, WIDTH, n_together)
        shapes[f"{name}_s"] = (*lead, 2, n_blocks(n_out) * WIDTH)
    shapes["ln_1"] = shapes["ln_2"] = (*layers, 2, d)
    shapes["ln_f"], shapes["wpe"] = (2, d), (hparams.n_ctx, d)
    return {
        name: (np.dtype(precision if name.endswith("_w") else "float32"), shapes[name])
        for name in PackedWeights._fields
    }


def packed_parts(name: str, params: Params, precision: Precision) -> Iterator[Matrix]:
    """The tensor ``name`` from start to end, in parts of at most one matrix of a layer."""
    layers, wte = params["blocks"], np.asarray(params["wte"])  # [n_vocab, d]
    unembedding: LinearParams = {"w": wte.T, "b": np.zeros(len(wte), np.float32)}
    norms = {
        "ln_1": [layer["ln_1"] for layer in layers],
        "ln_2": [layer["ln_2"] for layer in layers],
        "ln_f": [params["ln_f"]],
    }
    matrices = {
        "qkv": [layer["attn"]["c_attn"] for layer in layers],
        "proj": [layer["attn"]["c_proj"] for layer in layers],
        "fc": [layer["mlp"]["c_fc"] for layer in layers],
        "out": [layer["mlp"]["c_proj"] for layer in layers],
        "vocab": [unembedding],
    }
    if name == "wpe":
        yield params["wpe"]
    for norm in norms.get(name, ()):
        yield np.stack([norm["g"], norm["b"]])  # [2, d]
    for linear in matrices.get(name[:-2], ()):
        w = np.asarray(linear["w"])  # [n_in, n_out]
        scale = column_scales(w, precision)  # [n_out]
        if name.endswith("_w"):
            yield from blocks(w, scale, precision)  # [n_steps, WIDTH, n_together] each
        else:
            yield np.stack([padded(scale), padded(np.asarray(linear["b"]))])  # [2, n_columns]


def column_scales(w: Array, precision: Precision) -> Array:
    """What each column of ``w [n_in, n_out]`` is divided by: ``[n_out]``."""
    if precision == "float32":
        return np.ones(w.shape[1], np.float32)
    largest = np.maximum(w.max(axis=0), -w.min(axis=0))  # [n_out]
    scale: Array = (largest / np.float32(INT8_MAX)).astype(np.float32)  # [n_out]
    scale[scale == 0] = 1  # a column of zeros
    return scale


def blocks(w: Array, scale: Array, precision: Precision) -> Iterator[Matrix]:
    """``w [n_in, n_out]`` over ``scale [n_out]``, in blocks ``[n_steps, WIDTH, n_together]``."""
    (n_in, n_out), n_together = w.shape, N_TOGETHER[precision]
    for start in range(0, n_out, WIDTH):
        part = w[:, start : start + WIDTH]  # [n_in, up to WIDTH]
        if precision == "int8":
            part = np.rint(part / scale[start : start + WIDTH])
        block: Matrix = np.zeros((-(-n_in // n_together) * n_together, WIDTH), precision)
        block[:n_in, : part.shape[1]] = part
        yield block.reshape(-1, n_together, WIDTH).swapaxes(1, 2)


def padded(b: Array) -> Array:
    """``[n_out] -> [n_blocks * WIDTH]``, zeros at the end."""
    out = np.zeros(n_blocks(len(b)) * WIDTH, np.float32)
    out[: len(b)] = b
    return out


def pack(params: Params, hparams: HParams, precision: Precision = "float32") -> PackedWeights:
    """Packed weights of this process's own."""
    tensors: dict[str, Any] = {}
    for name, (dtype, shape) in packed_tensors(hparams, precision).items():
        tensors[name] = np.empty(shape, dtype)
        flat, start = tensors[name].reshape(-1), 0
        for part in packed_parts(name, params, precision):
            flat[start : start + part.size] = part.reshape(-1)
            start += part.size
        tensors[name].flags.writeable = False
    return PackedWeights(**tensors)
