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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from gpt2core.engine.packed import PackedWeights, Precision, pack, packed_parts, packed_tensors
from gpt2core.errors import ModelFileError, WriteError
from gpt2core.files import check_space, folder_lock, remove_unfinished_writes
from gpt2core.hparams import HParams
from gpt2core.model import Params
from gpt2core.store.shards import weight_files
from gpt2core.store.tensor_files import open_safetensors, write_safetensors

log = logging.getLogger(__name__)

SHARED_FROM = 2**26  # bytes; smaller weights are packed quickly, and each process has its own
VERSION = 1
OLD_FILE, OLD_BEGINNING = "model.layout", b'{"gpt2core layout"'  # of earlier versions
FORMAT_NAMES = {"float32": "F32", "int8": "I8"}  # of types, in a safetensors header


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
    size, path = n_bytes(hparams, precision), packed_path(source, precision)
    if size < SHARED_FROM:
        return pack(load_params(source, hparams), hparams, precision)
    metadata = metadata_of(source, hparams)
    try:
        weights = map_packed(path, metadata, hparams, precision)
        if weights is None:
            with folder_lock(path.parent):
                remove_old_file(path.with_name(OLD_FILE))
                # Another process may have written it while this one waited for the lock.
                if map_packed(path, metadata, hparams, precision) is None:
                    remove_unfinished_writes(path)
                    check_space(path.parent, size)
                    # The source is opened here and closed after, so that no page of it stays.
                    write_packed(path, metadata, load_params(source, hparams), hparams, precision)
            weights = map_packed(path, metadata, hparams, precision)
        if weights is not None:
            return weights
        raise WriteError(f"{path} was replaced while it was opened.")
    except (OSError, WriteError) as error:  # the folder is read-only, or the disk full
        log.warning("%s cannot be kept; each process holds the weights itself: %s", path, error)
        return pack(load_params(source, hparams), hparams, precision)


def has_current_file(source: Path, hparams: HParams) -> bool:
    """Whether packed weights of ``source`` as it is now, and so checked ones, are there."""
    metadata = metadata_of(source, hparams)
    return any(
        map_packed(packed_path(source, one), metadata, hparams, one) is not None
        for one in get_args(Precision)
    )


def remove_old_file(path: Path) -> None:
    """Remove the packed weights that earlier versions wrote."""
    with suppress(FileNotFoundError):
        with open(path, "rb") as file:
            is_ours = file.read(len(OLD_BEGINNING)) == OLD_BEGINNING
        if is_ours:
            path.unlink()
            log.info("removed %s, which an earlier version wrote and this one does not use", path)


def n_bytes(hparams: HParams, precision: Precision) -> int:
    """The size of all tensors."""
    tensors = packed_tensors(hparams, precision).values()
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in tensors)


def metadata_of(source: Path, hparams: HParams) -> dict[str, str]:
    """What the header of current packed weights says of ``source``."""
    # An index of shards stays as it is if a shard is replaced.
    stats = [path.stat() for path in (source, *weight_files(source))]
    facts = {"version": VERSION, **hparams.to_dict()}
    facts |= {"bytes": sum(s.st_size for s in stats), "time": max(s.st_mtime_ns for s in stats)}
    return {"gpt2core": json.dumps(facts)}


def write_packed(
    path: Path, metadata: dict[str, str], params: Params, hparams: HParams, precision: Precision
) -> None:
    """Write the packed weights of ``params``."""
    tensors = {
        name: (FORMAT_NAMES[dtype.name], shape)
        for name, (dtype, shape) in packed_tensors(hparams, precision).items()
    }
    write_safetensors(path, tensors, lambda name: packed_parts(name, params, precision), metadata)


def map_packed(
    path: Path, metadata: dict[str, str], hparams: HParams, precision: Precision
) -> PackedWeights | None:
    """The packed weights with this metadata; None if the file is missing, damaged or stale."""
    try:
        file = open_safetensors(path)
        if file.metadata != metadata:
            return None
        tensors: dict[str, Any] = {
            name: file.bytes_of(name).view(dtype).reshape(shape)
            for name, (dtype, shape) in packed_tensors(hparams, precision).items()
        }
        return PackedWeights(**tensors)
    except (ModelFileError, KeyError, ValueError):  # no such file, no such tensor, another shape
        return None
