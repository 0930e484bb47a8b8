"""Weights in the order in which the engine reads them: blocks, parts, one flat file.

The checkpoint's ``[n_in, n_out]`` matrices are good to read and slow to multiply with
few rows: OpenBLAS repacks them on every call. Cut into blocks of ``WIDTH`` columns,
``[n_blocks, n_in, WIDTH]``, each small product ``[n_rows, n_in] @ [n_in, WIDTH]`` takes
its path without packing, streams memory from start to end, and adds each row up in the
same order whatever the other rows are. The engine touches nothing but this layout.

A layer is also cut into ``n_parts`` *parts*, each some of the attention heads and the
same share of the hidden layer: a part needs no other part until its results are added
up, so parts can go to threads.

What can be computed once is: the norms' gains and shifts are multiplied into the
matrices that follow them, ``1 / sqrt(d_head)`` into the queries, gelu's one half into
the matrix behind it; and matrices that write to the residual stream write rows of mean
zero, as every norm would subtract that mean.

A layout is as large as the weights in float32. That of a large model is a file beside
``model.safetensors``, mapped and shared by all worker processes, and then nothing of
``model.safetensors`` stays in memory. Where the folder cannot be written, and for small
models, each process has a layout of its own.

Invariants: a file is complete and fits its model before it bears its name; one that
does not fit (another model, other weights, another version) is written anew.
"""

import errno
import json
import logging
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from gpt2core.hparams import HParams
from gpt2core.store.weights import load_params

log = logging.getLogger(__name__)

WIDTH = 64  # columns in a block: four AVX-512 registers
MAX_PARTS = 5
FILE_NAME = "model.layout"
SHARED_FROM = 2**27  # bytes; smaller layouts are made in a moment and cost little twice
VERSION = 1
HEADER = 4096  # bytes: one page, so that the tensors behind it are aligned
# What is written in large steps lies in large pages of the system's cache: nearly all of
# it with these, three quarters of it when written matrix by matrix.
WRITE_SIZE = 2**26  # bytes, more than any matrix of a layer


def n_parts(hparams: HParams) -> int:
    """Into how many parts a layer is cut: as many as share the heads evenly, up to MAX_PARTS.

    Rather an even number, which two threads can share: 4 but for 1558M, which gets 5.
    """
    possible = (n for n in range(1, MAX_PARTS + 1) if hparams.n_head % n == 0)
    return max(possible, key=lambda n: (n % 2 == 0, n))


def layout_shapes(hparams: HParams) -> dict[str, tuple[int, ...]]:
    """Every tensor of a layout and its shape, in the order of the file."""
    d, n_layer, parts = hparams.n_embd, hparams.n_layer, n_parts(hparams)
    n_heads, n_hidden = d // parts, 4 * d // parts  # a part's columns of q and of the hidden layer
    qkv, hidden, out = n_blocks(3 * n_heads), n_blocks(n_hidden), n_blocks(d)
    return {
        "wpe": (hparams.n_ctx, d),
        "ln_f_g": (d,),
        "ln_f_b": (d,),
        "qkv_b": (n_layer, parts, qkv * WIDTH),
        "proj_b": (n_layer, d),
        "fc_b": (n_layer, parts, hidden * WIDTH),
        "out_b": (n_layer, d),
        "qkv_w": (n_layer, parts, qkv, d, WIDTH),
        "proj_w": (n_layer, parts, out, n_heads, WIDTH),
        "fc_w": (n_layer, parts, hidden, d, WIDTH),
        "out_w": (n_layer, parts, out, n_hidden, WIDTH),
        "vocab": (n_blocks(hparams.n_vocab), d, WIDTH),
    }


def n_blocks(n: int) -> int:
    """How many blocks hold ``n`` columns; the last is filled up with zeros."""
    return -(-n // WIDTH)


def blocked(w: np.ndarray) -> np.ndarray:
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


def padded(b: np.ndarray) -> np.ndarray:
    """``[..., n] -> [..., n_blocks * WIDTH]``, zeros behind."""
    out = np.zeros((*b.shape[:-1], n_blocks(b.shape[-1]) * WIDTH), np.float32)
    out[..., : b.shape[-1]] = b
    return out


def pieces(params: dict, hparams: HParams) -> Iterator[np.ndarray]:
    """The layout of ``params`` from start to end, in float32 pieces of at most a matrix."""
    d, parts = hparams.n_embd, n_parts(hparams)
    layers = params["blocks"]
    scale = 1 / math.sqrt(d // hparams.n_head)

    def attn_in(array):
        """c_attn's columns ``[..., 3*n_embd]`` by part ``[n_parts, ..., 3*n_embd/n_parts]``."""
        split = array.reshape(*array.shape[:-1], 3, parts, d // parts).copy()
        split[..., 0, :, :] *= scale
        split = np.moveaxis(split, -2, 0)  # [n_parts, ..., 3, d / n_parts]
        return split.reshape(*split.shape[:-2], 3 * d // parts)

    def mlp_in(array):
        split = array.reshape(*array.shape[:-1], parts, 4 * d // parts)
        return np.moveaxis(split, -2, 0)  # [n_parts, ..., 4*d / n_parts]

    yield params["wpe"]
    yield params["ln_f"]["g"]
    yield params["ln_f"]["b"]
    for layer in layers:
        linear = layer["attn"]["c_attn"]
        yield padded(attn_in(layer["ln_1"]["b"] @ linear["w"] + linear["b"]))
    for layer in layers:
        yield centred(layer["attn"]["c_proj"]["b"])
    for layer in layers:
        linear = layer["mlp"]["c_fc"]
        yield padded(mlp_in(layer["ln_2"]["b"] @ linear["w"] + linear["b"]))
    for layer in layers:
        yield centred(layer["mlp"]["c_proj"]["b"])
    for layer in layers:
        w = layer["ln_1"]["g"][:, None] * layer["attn"]["c_attn"]["w"]
        yield blocked(attn_in(w))
    for layer in layers:
        w = centred(layer["attn"]["c_proj"]["w"])
        yield blocked(w.reshape(parts, d // parts, d))
    for layer in layers:
        yield blocked(mlp_in(layer["ln_2"]["g"][:, None] * layer["mlp"]["c_fc"]["w"]))
    for layer in layers:
        w = centred(layer["mlp"]["c_proj"]["w"]) * np.float32(0.5)
        yield blocked(w.reshape(parts, 4 * d // parts, d))
    step = 64 * WIDTH  # tokens at a time, or the vocabulary would be in memory twice
    for start in range(0, hparams.n_vocab, step):
        yield blocked(params["wte"][start : start + step].T)


def centred(w: np.ndarray) -> np.ndarray:
    """``w [..., n]`` less the mean of each row."""
    return w - w.mean(axis=-1, keepdims=True)


class Layout:
    """The tensors of :func:`layout_shapes` as attributes, views of one flat float32 array."""

    def __init__(self, flat: np.ndarray, hparams: HParams):
        self.hparams = hparams
        self.n_parts = n_parts(hparams)
        start = 0
        for name, shape in layout_shapes(hparams).items():
            size = math.prod(shape)
            setattr(self, name, flat[start : start + size].reshape(shape))
            start += size


def layout_size(hparams: HParams) -> int:
    """How many float32 numbers a layout holds."""
    return sum(math.prod(shape) for shape in layout_shapes(hparams).values())


def layout_in_memory(params: dict, hparams: HParams) -> Layout:
    """A layout of this process's own."""
    flat = np.empty(layout_size(hparams), np.float32)
    start = 0
    for piece in pieces(params, hparams):
        flat[start : start + piece.size] = piece.reshape(-1)
        start += piece.size
    return Layout(flat, hparams)


def open_layout(source: Path, hparams: HParams) -> Layout:
    """The layout of the safetensors file ``source``, shared through a file if it is large.

    Writes that file where it is missing or stale; where it cannot, the layout is in
    memory. Raises ModelFileError where ``source`` is not this model's.
    """
    path = source.with_name(FILE_NAME)
    header = file_header(source, hparams)
    if 4 * layout_size(hparams) < SHARED_FROM:
        return layout_in_memory(load_params(source, hparams), hparams)
    try:
        with only_one(path):
            if not fits(path, header, hparams):
                if shutil.disk_usage(path.parent).free < 4 * layout_size(hparams):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                # Opened here and closed after, so that none of its pages stay.
                write_layout(path, header, load_params(source, hparams), hparams)
        flat = map_layout(path)
    except OSError as error:  # a folder that is read-only, or full
        log.warning("%s cannot be kept; each process holds the weights itself: %s", path, error)
        return layout_in_memory(load_params(source, hparams), hparams)
    return Layout(flat, hparams)


def map_layout(path: Path) -> np.ndarray:
    """The numbers of a layout file, flat and read-only, shared with who else maps it."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Half a gigabyte read for every token: in pages of 2 MB rather than 4 KB, where
        # the system has them, a step takes a twentieth less.
        with suppress(OSError):  # a kernel built without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.float32, offset=HEADER)


def file_header(source: Path, hparams: HParams) -> bytes:
    """What the layout of ``source``, as it is now, begins with."""
    stat = source.stat()
    facts = {
        "gpt2core layout": VERSION,
        "width": WIDTH,
        "n_parts": n_parts(hparams),
        **hparams.to_dict(),
        "source": [stat.st_size, stat.st_mtime_ns],
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


def write_layout(path: Path, header: bytes, params: dict, hparams: HParams) -> None:
    """Write the layout file through a temporary one; ``path`` is never half a file.

    For one process at a time: what an earlier writer left when it was killed goes.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb", WRITE_SIZE) as file:
            file.write(header)
            for piece in pieces(params, hparams):
                file.write(np.ascontiguousarray(piece, np.float32).data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave a whole length of zeros
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def only_one(path: Path):
    """Let one process at a time in: workers that start together share one file, not two."""
    try:
        import fcntl
    except ImportError:  # not Unix: no forked workers either
        yield
        return
    handle = os.open(path.parent, os.O_RDONLY)  # locking the folder leaves no lock file
    try:
        with suppress(OSError):  # some network disks lock no folders; two then write alike
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
