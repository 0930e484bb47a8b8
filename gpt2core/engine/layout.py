"""Packed weights: the parameters in the order in which the engine reads them.

The checkpoint's ``[n_in, n_out]`` matrices are good to read and slow to multiply with few
rows: OpenBLAS repacks them on every call. Here they are cut into blocks of ``WIDTH`` columns,
``[n_blocks, n_in, WIDTH]``. Each small product ``[n_rows, n_in] @ [n_in, WIDTH]`` then takes
OpenBLAS's path without packing, streams memory from start to end, and adds up each row in
the same order whatever the other rows are. The engine reads nothing but this layout.

Every layer is also cut into ``n_shards`` tensor-parallel *shards*. A shard has some of the
attention heads and as large a part of the hidden layer, and needs no other shard until
their results are added up, so each thread can take some of them.

Constant factors are multiplied into the matrices once: the gains and shifts of the layer norms
into the matrices that follow them, ``1 / sqrt(d_head)`` into the queries, and the one half of
GELU into the matrix behind it. Matrices that write to the residual stream write rows of mean
zero, because every layer norm would subtract that mean.

A layout is as large as the weights in float32. The layout of a large model is a file beside
``model.safetensors``. All worker processes map and share this file, and ``model.safetensors``
itself does not stay in memory. If the folder cannot be written, and for small models, each
process has a layout of its own.

Invariants: a file under the layout's name is complete and belongs to its model. A file of
another model, of other weights or of another version is written again.
"""

import json
import logging
import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2core.errors import WriteError
from gpt2core.files import atomic_write, check_space, folder_lock, remove_unfinished_writes
from gpt2core.hparams import HParams
from gpt2core.model import Params

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

WIDTH = 64  # columns in a block: four AVX-512 registers
MAX_SHARDS = 5
FILE_NAME = "model.layout"
SHARED_FROM = 2**27  # bytes; a smaller layout is packed quickly, and each process can have its own
VERSION = 1
HEADER = 4096  # bytes: one page, so that the tensors behind it are aligned
# The system's cache puts large writes into large pages: nearly the whole file with this
# size, three quarters of it when written matrix by matrix.
WRITE_SIZE = 2**26  # bytes, more than any matrix of a layer


def count_shards(hparams: HParams) -> int:
    """The number of shards: at most MAX_SHARDS, each with the same number of heads.

    An even number is preferred, which two threads divide evenly: 4, except 5 for 1558M.
    """
    possible = (n for n in range(1, MAX_SHARDS + 1) if hparams.n_head % n == 0)
    return max(possible, key=lambda n: (n % 2 == 0, n))


def layout_shapes(hparams: HParams) -> dict[str, tuple[int, ...]]:
    """Every tensor of a layout and its shape, in the order of the file."""
    d, n_layer, shards = hparams.n_embd, hparams.n_layer, count_shards(hparams)
    n_heads, n_hidden = d // shards, 4 * d // shards  # a shard's columns of q; of the hidden layer
    qkv, hidden, out = n_blocks(3 * n_heads), n_blocks(n_hidden), n_blocks(d)
    return {
        "wpe": (hparams.n_ctx, d),
        "ln_f_g": (d,),
        "ln_f_b": (d,),
        "qkv_b": (n_layer, shards, qkv * WIDTH),
        "proj_b": (n_layer, d),
        "fc_b": (n_layer, shards, hidden * WIDTH),
        "out_b": (n_layer, d),
        "qkv_w": (n_layer, shards, qkv, d, WIDTH),
        "proj_w": (n_layer, shards, out, n_heads, WIDTH),
        "fc_w": (n_layer, shards, hidden, d, WIDTH),
        "out_w": (n_layer, shards, out, n_hidden, WIDTH),
        "vocab": (n_blocks(hparams.n_vocab), d, WIDTH),
    }


def n_blocks(n: int) -> int:
    """The number of blocks that hold ``n`` columns; the last is padded with zeros."""
    return -(-n // WIDTH)


def blocked(w: Array) -> Array:
    """``[..., n_in, n_out] -> [..., n_blocks, n_in, WIDTH]``, a copy."""
    *lead, n_in, n_out = w.shape
    blocks = n_blocks(n_out)
    out = np.zeros((*lead, blocks, n_in, WIDTH), np.float32)
    whole = n_out // WIDTH
    w_blocks = w[..., : whole * WIDTH].reshape(*lead, n_in, whole, WIDTH)
    out[..., :whole, :, :] = np.moveaxis(w_blocks, -2, -3)
    if whole < blocks:
        out[..., whole, :, : n_out - whole * WIDTH] = w[..., whole * WIDTH :]
    return out


def padded(b: Array) -> Array:
    """``[..., n] -> [..., n_blocks * WIDTH]``, zeros at the end."""
    out = np.zeros((*b.shape[:-1], n_blocks(b.shape[-1]) * WIDTH), np.float32)
    out[..., : b.shape[-1]] = b
    return out


def packed_tensors(params: Params, hparams: HParams) -> Iterator[Array]:
    """The layout of ``params`` from start to end, in float32 arrays of at most a matrix.

    In the order of :func:`layout_shapes`; tensors of all layers come layer by layer.
    """
    d, shards = hparams.n_embd, count_shards(hparams)
    layers = params["blocks"]
    scale = 1 / math.sqrt(d // hparams.n_head)

    def attn_in(array: Array) -> Array:
        """c_attn's columns ``[..., 3*n_embd]`` as ``[n_shards, ..., 3*n_embd/n_shards]``."""
        split = array.reshape(*array.shape[:-1], 3, shards, d // shards).copy()
        split[..., 0, :, :] *= scale  # the queries
        split = np.moveaxis(split, -2, 0)  # [n_shards, ..., 3, d / n_shards]
        return split.reshape(*split.shape[:-2], 3 * d // shards)

    def mlp_in(array: Array) -> Array:
        """c_fc's columns ``[..., 4*n_embd]`` as ``[n_shards, ..., 4*n_embd/n_shards]``."""
        return np.moveaxis(array.reshape(*array.shape[:-1], shards, 4 * d // shards), -2, 0)

    yield params["wpe"]  # [n_ctx, d]
    yield params["ln_f"]["g"]  # [d]
    yield params["ln_f"]["b"]  # [d]
    # Biases: the shift of a norm goes through the matrix that follows it.
    for layer in layers:
        linear = layer["attn"]["c_attn"]
        shift = layer["ln_1"]["b"] @ linear["w"]  # [3*d]
        yield padded(attn_in(shift + linear["b"]))  # [n_shards, qkv * WIDTH]
    for layer in layers:
        yield centred(layer["attn"]["c_proj"]["b"])  # [d]
    for layer in layers:
        linear = layer["mlp"]["c_fc"]
        shift = layer["ln_2"]["b"] @ linear["w"]  # [4*d]
        yield padded(mlp_in(shift + linear["b"]))  # [n_shards, hidden * WIDTH]
    for layer in layers:
        yield centred(layer["mlp"]["c_proj"]["b"])  # [d]
    # Matrices into a layer are cut by columns, those out of it by rows.
    for layer in layers:
        w = layer["ln_1"]["g"][:, None] * layer["attn"]["c_attn"]["w"]  # [d, 3*d]
        yield blocked(attn_in(w))  # [n_shards, qkv, d, WIDTH]
    for layer in layers:
        w = centred(layer["attn"]["c_proj"]["w"])  # [d, d]
        yield blocked(w.reshape(shards, d // shards, d))  # [n_shards, out, d / n_shards, WIDTH]
    for layer in layers:
        w = layer["ln_2"]["g"][:, None] * layer["mlp"]["c_fc"]["w"]  # [d, 4*d]
        yield blocked(mlp_in(w))  # [n_shards, hidden, d, WIDTH]
    for layer in layers:
        w = centred(layer["mlp"]["c_proj"]["w"]) * np.float32(0.5)  # [4*d, d]
        # [n_shards, out, 4*d / n_shards, WIDTH]
        yield blocked(w.reshape(shards, 4 * d // shards, d))
    step = 64 * WIDTH  # tokens at a time, or the vocabulary would be in memory twice
    for start in range(0, hparams.n_vocab, step):
        yield blocked(params["wte"][start : start + step].T)  # [n_some, d, WIDTH]


def centred(w: Array) -> Array:
    """``w [..., n]`` less the mean of each row."""
    result: Array = w - w.mean(axis=-1, keepdims=True)
    return result


class Layout:
    """The tensors of :func:`layout_shapes`, views of one flat float32 array."""

    def __init__(self, flat: Array, hparams: HParams):
        self.hparams = hparams
        self.n_shards = count_shards(hparams)
        tensors: dict[str, Array] = {}
        start = 0
        for name, shape in layout_shapes(hparams).items():
            size = math.prod(shape)
            tensors[name] = flat[start : start + size].reshape(shape)
            start += size
        # In blocks of WIDTH columns, of all layers and shards; see layout_shapes.
        self.wpe, self.vocab = tensors["wpe"], tensors["vocab"]
        self.ln_f_g, self.ln_f_b = tensors["ln_f_g"], tensors["ln_f_b"]
        self.qkv_w, self.qkv_b = tensors["qkv_w"], tensors["qkv_b"]
        self.proj_w, self.proj_b = tensors["proj_w"], tensors["proj_b"]
        self.fc_w, self.fc_b = tensors["fc_w"], tensors["fc_b"]
        self.out_w, self.out_b = tensors["out_w"], tensors["out_b"]


def layout_size(hparams: HParams) -> int:
    """The number of float32 numbers in a layout."""
    return sum(math.prod(shape) for shape in layout_shapes(hparams).values())


def layout_in_memory(params: Params, hparams: HParams) -> Layout:
    """A layout of this process's own."""
    flat = np.empty(layout_size(hparams), np.float32)
    start = 0
    for tensor in packed_tensors(params, hparams):
        flat[start : start + tensor.size] = tensor.reshape(-1)
        start += tensor.size
    return Layout(flat, hparams)


def open_layout(
    source: Path, hparams: HParams, load_params: Callable[[Path, HParams], Params]
) -> Layout:
    """The layout of the safetensors file ``source``, shared through a file if it is large.

    Packs what ``load_params`` reads from ``source`` and writes the file, if it is missing or
    stale. If it cannot be written, the layout is in memory. Raises what ``load_params``
    raises for a ``source`` that is not this model's.
    """
    path = source.with_name(FILE_NAME)
    header = file_header(source, hparams)
    if 4 * layout_size(hparams) < SHARED_FROM:
        return layout_in_memory(load_params(source, hparams), hparams)
    try:
        if not fits(path, header, hparams):
            with folder_lock(path.parent):
                if not fits(path, header, hparams):  # another process may have written it
                    remove_unfinished_writes(path)
                    check_space(path.parent, 4 * layout_size(hparams))
                    # The source is opened here and closed after, so that none of its pages stay.
                    write_layout(path, header, load_params(source, hparams), hparams)
        flat = map_layout(path)
    except (OSError, WriteError) as error:  # the folder is read-only, or the disk full
        log.warning("%s cannot be kept; each process holds the weights itself: %s", path, error)
        return layout_in_memory(load_params(source, hparams), hparams)
    return Layout(flat, hparams)


def has_current_layout(source: Path, hparams: HParams) -> bool:
    """Whether the layout file of ``source`` is there and was made from it as it is now."""
    if 4 * layout_size(hparams) < SHARED_FROM:
        return False
    return fits(source.with_name(FILE_NAME), file_header(source, hparams), hparams)


def map_layout(path: Path) -> Array:
    """The numbers of a layout file, flat and read-only, shared by all processes that map it."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Every token reads half a gigabyte. With pages of 2 MB instead of 4 KB, if the
        # system has them, a step takes 5 % less time.
        with suppress(OSError):  # a kernel built without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.float32, offset=HEADER)


def file_header(source: Path, hparams: HParams) -> bytes:
    """The header that a current layout of ``source`` begins with."""
    # An index of shards stays as it is if a shard is replaced.
    shards = source.parent.glob("*.safetensors") if source.suffix == ".json" else []
    stats = [path.stat() for path in (source, *shards)]
    facts = {
        "gpt2core layout": VERSION,
        "width": WIDTH,
        "n_shards": count_shards(hparams),
        **hparams.to_dict(),
        "source": [sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)],
    }
    return json.dumps(facts).encode().ljust(HEADER)


def fits(path: Path, header: bytes, hparams: HParams) -> bool:
    """Whether ``path`` is a whole layout with that header."""
    try:
        with open(path, "rb") as file:
            whole = os.fstat(file.fileno()).st_size == HEADER + 4 * layout_size(hparams)
            return whole and file.read(HEADER) == header
    except FileNotFoundError:
        return False


def write_layout(path: Path, header: bytes, params: Params, hparams: HParams) -> None:
    """Write the layout file. ``path`` is the old file or the complete new one."""
    with atomic_write(path) as temporary, open(temporary, "wb", WRITE_SIZE) as file:
        file.write(header)
        for tensor in packed_tensors(params, hparams):
            file.write(np.ascontiguousarray(tensor, np.float32).data)
