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

from collections.abc import Callable, Iterator
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
    bias of every column.
    """

    wpe: Array  # [n_ctx, d]
    ln_1: Array  # [n_layer, 2, d]: gain and shift
    ln_2: Array  # [n_layer, 2, d]
    ln_f: Array  # [2, d]
    qkv_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together], of all heads
    qkv_s: Array  # [n_layer, 2, n_columns]
    proj_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together]
    proj_s: Array  # [n_layer, 2, n_columns]
    fc_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together]
    fc_s: Array  # [n_layer, 2, n_columns]
    out_w: Matrix  # [n_layer, n_blocks, n_steps, WIDTH, n_together]
    out_s: Array  # [n_layer, 2, n_columns]
    vocab_w: Matrix  # [n_blocks, n_steps, WIDTH, n_together]: a column is a token's embedding
    vocab_s: Array  # [2, n_columns]


MATRICES = ("qkv_w", "proj_w", "fc_w", "out_w", "vocab_w")


def n_blocks(n: int) -> int:
    """The number of blocks that hold ``n`` columns."""
    return -(-n // WIDTH)


def packed_shapes(hparams: HParams, precision: Precision) -> dict[str, tuple[int, ...]]:
    """Every tensor of :class:`PackedWeights` and its shape."""
    d, n_layer = hparams.n_embd, hparams.n_layer
    n_together = N_TOGETHER[precision]
    shapes: dict[str, tuple[int, ...]] = {
        "wpe": (hparams.n_ctx, d),
        "ln_1": (n_layer, 2, d),
        "ln_2": (n_layer, 2, d),
        "ln_f": (2, d),
    }
    for name, n_in, n_out in (
        ("qkv", d, 3 * d),
        ("proj", d, d),
        ("fc", d, 4 * d),
        ("out", 4 * d, d),
    ):
        n_steps = -(-n_in // n_together)
        shapes[f"{name}_w"] = (n_layer, n_blocks(n_out), n_steps, WIDTH, n_together)
        shapes[f"{name}_s"] = (n_layer, 2, n_blocks(n_out) * WIDTH)
    n_steps = -(-d // n_together)
    shapes["vocab_w"] = (n_blocks(hparams.n_vocab), n_steps, WIDTH, n_together)
    shapes["vocab_s"] = (2, n_blocks(hparams.n_vocab) * WIDTH)
    return shapes


def element_type(name: str, precision: Precision) -> "np.dtype[Any]":
    """The type of the elements of the tensor ``name``."""
    is_int8 = precision == "int8" and name in MATRICES
    return np.dtype(np.int8 if is_int8 else np.float32)


def packed_parts(
    name: str, params: Params, hparams: HParams, precision: Precision
) -> Iterator[Matrix]:
    """The tensor ``name`` from start to end, in parts of at most one matrix of a layer."""
    layers = params["blocks"]
    if name == "wpe":
        yield params["wpe"]
    elif name.startswith("ln_"):
        norms = {
            "ln_1": [layer["ln_1"] for layer in layers],
            "ln_2": [layer["ln_2"] for layer in layers],
            "ln_f": [params["ln_f"]],
        }
        for norm in norms[name]:
            yield np.stack([norm["g"], norm["b"]])  # [2, d]
    else:
        unembedding: LinearParams = {
            "w": np.asarray(params["wte"]).T,
            "b": np.zeros(hparams.n_vocab, np.float32),
        }
        matrices = {
            "qkv": [layer["attn"]["c_attn"] for layer in layers],
            "proj": [layer["attn"]["c_proj"] for layer in layers],
            "fc": [layer["mlp"]["c_fc"] for layer in layers],
            "out": [layer["mlp"]["c_proj"] for layer in layers],
            "vocab": [unembedding],
        }
        for linear in matrices[name[:-2]]:
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

    def tensor(name: str, shape: tuple[int, ...]) -> Matrix:
        array: Matrix = np.empty(shape, element_type(name, precision))
        flat, start = array.reshape(-1), 0
        for part in packed_parts(name, params, hparams, precision):
            flat[start : start + part.size] = part.reshape(-1)
            start += part.size
        return array

    return weights_from(tensor, hparams, precision)


def weights_from(
    tensor: Callable[[str, tuple[int, ...]], Matrix], hparams: HParams, precision: Precision
) -> PackedWeights:
    """The weights whose tensors ``tensor(name, shape)`` returns."""
    tensors: dict[str, Any] = {}
    for name, shape in packed_shapes(hparams, precision).items():
        tensors[name] = tensor(name, shape).view()
        # Kernels are compiled for read-only arrays, as those of a memory map are.
        tensors[name].flags.writeable = False
    return PackedWeights(**tensors)
