"""Packed weights on disk: one file beside the weights, mapped and shared by all processes.

``model.float32.safetensors`` and ``model.int8.safetensors`` hold a large model's weights in the
order in which the engine reads them (see ``engine/packed.py``), as safetensors files whose tensors
are the fields of ``PackedWeights``. They are made once from ``model.safetensors``, which itself
does not stay in memory. Small models, and folders that cannot be written, have none: then
each process packs the weights for itself.

Invariants: a file under one of these names is complete. One that belongs to another model, to
weights that have changed or to an earlier version is written again.
"""

import json
import logging
import math
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine.packed import (
    MATRICES,
    Matrix,
    PackedWeights,
    Precision,
    element_type,
    pack,
    packed_parts,
    packed_shapes,
    weights_from,
)
from gpt2core.errors import WriteError
from gpt2core.files import atomic_write, check_space, folder_lock, remove_unfinished_writes
from gpt2core.hparams import HParams
from gpt2core.model import Params
from gpt2core.store.shards import weight_files

log = logging.getLogger(__name__)

SHARED_FROM = 2**26  # bytes; smaller weights are packed quickly, and each process has its own
VERSION = 1
HEADER_BYTES = 4096  # one page, so that the tensors behind it are aligned
# The system's cache puts large writes into large pages, which are faster to read.
WRITE_BYTES = 2**26  # more than any matrix of a layer
OLD_FILE, OLD_BEGINNING = "model.layout", b'{"gpt2core layout"'  # of earlier versions
TYPE_NAMES = {"float32": "F32", "int8": "I8"}  # in a safetensors header


def packed_path(source: Path, precision: Precision) -> Path:
    """The file of packed weights that are made from ``source``."""
    return source.with_name(f"model.{precision}.safetensors")


def open_packed(
    source: Path,
    hparams: HParams,
    load_params: Callable[[Path, HParams], Params],
    precision: Precision = "float32",
) -> PackedWeights:
    """The packed weights of the safetensors file ``source``, shared through a file if large.

    Packs what ``load_params`` reads from ``source`` and writes the file, if it is missing or
    stale. Raises what ``load_params`` raises for a ``source`` that is not this model's.
    """
    path, header = packed_path(source, precision), file_header(source, hparams, precision)
    if n_bytes(hparams, precision) < SHARED_FROM:
        return pack(load_params(source, hparams), hparams, precision)
    try:
        if not fits(path, header, hparams, precision):
            with folder_lock(path.parent):
                remove_old_file(path.with_name(OLD_FILE))
                if not fits(path, header, hparams, precision):  # another process may have
                    remove_unfinished_writes(path)
                    check_space(path.parent, n_bytes(hparams, precision))
                    # The source is opened here and closed after, so that no page of it stays.
                    write_packed(path, header, load_params(source, hparams), hparams, precision)
        return map_packed(path, hparams, precision)
    except (OSError, WriteError) as error:  # the folder is read-only, or the disk full
        log.warning("%s cannot be kept; each process holds the weights itself: %s", path, error)
        return pack(load_params(source, hparams), hparams, precision)


def has_current_file(source: Path, hparams: HParams) -> bool:
    """Whether packed weights of ``source`` as it is now, and so checked ones, are there."""
    precisions: tuple[Precision, ...] = ("float32", "int8")
    return any(
        fits(packed_path(source, one), file_header(source, hparams, one), hparams, one)
        for one in precisions
    )


def remove_old_file(path: Path) -> None:
    """Remove the packed weights that earlier versions wrote."""
    with suppress(FileNotFoundError):
        with open(path, "rb") as file:
            is_ours = file.read(len(OLD_BEGINNING)) == OLD_BEGINNING
        if is_ours:
            path.unlink()
            log.info("removed %s, which an earlier version wrote and this one does not use", path)


def tensor_order(hparams: HParams, precision: Precision) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of the file: matrices first, which keeps them aligned."""
    shapes = packed_shapes(hparams, precision)
    return sorted(shapes.items(), key=lambda item: item[0] not in MATRICES)


def tensor_bytes(name: str, shape: tuple[int, ...], precision: Precision) -> int:
    return math.prod(shape) * element_type(name, precision).itemsize


def n_bytes(hparams: HParams, precision: Precision) -> int:
    """The size of all tensors."""
    shapes = packed_shapes(hparams, precision).items()
    return sum(tensor_bytes(name, shape, precision) for name, shape in shapes)


def file_header(source: Path, hparams: HParams, precision: Precision) -> bytes:
    """The header that current packed weights of ``source`` begin with, with its length."""
    # An index of shards stays as it is if a shard is replaced.
    stats = [path.stat() for path in (source, *weight_files(source))]
    facts = {"version": VERSION, **hparams.to_dict()}
    facts |= {"bytes": sum(s.st_size for s in stats), "time": max(s.st_mtime_ns for s in stats)}
    header: dict[str, object] = {"__metadata__": {"gpt2core": json.dumps(facts)}}
    offset = 0
    for name, shape in tensor_order(hparams, precision):
        end = offset + tensor_bytes(name, shape, precision)
        dtype = TYPE_NAMES[element_type(name, precision).name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode().ljust(HEADER_BYTES - 8)  # the format allows spaces
    return len(text).to_bytes(8, "little") + text


def fits(path: Path, header: bytes, hparams: HParams, precision: Precision) -> bool:
    """Whether ``path`` is a whole file with that header."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            whole = size == len(header) + n_bytes(hparams, precision)
            return whole and file.read(len(header)) == header
    except FileNotFoundError:
        return False


def write_packed(
    path: Path, header: bytes, params: Params, hparams: HParams, precision: Precision
) -> None:
    """Write the file. ``path`` is the old file or the complete new one."""
    with atomic_write(path) as temporary, open(temporary, "wb", WRITE_BYTES) as file:
        file.write(header)
        for name, _ in tensor_order(hparams, precision):
            for part in packed_parts(name, params, hparams, precision):
                data = np.ascontiguousarray(part, element_type(name, precision))
                file.write(data.data)


def map_packed(path: Path, hparams: HParams, precision: Precision) -> PackedWeights:
    """The weights of a file, views of a memory map that all processes share."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Every token reads all weights. With pages of 2 MB instead of 4 KB, if the system
        # has them, a step takes 5 % less time.
        with suppress(OSError):  # a kernel built without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    data: NDArray[np.uint8] = np.frombuffer(mapped, np.uint8)[HEADER_BYTES:]  # [n_bytes]
    begins, begin = {}, 0
    for name, shape in tensor_order(hparams, precision):
        begins[name] = begin
        begin += tensor_bytes(name, shape, precision)

    def tensor(name: str, shape: tuple[int, ...]) -> Matrix:
        end = begins[name] + tensor_bytes(name, shape, precision)
        view: Matrix = data[begins[name] : end].view(element_type(name, precision))
        return view.reshape(shape)

    return weights_from(tensor, hparams, precision)
