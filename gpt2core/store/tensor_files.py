"""Safetensors files: tensors by name, opened as a memory map and written through a temporary file.

Weights lie in this format, as the checkpoint has them (``store/weights.py``) and in the engine's
own order (``store/packed_files.py``).

Invariants: what is opened is whole, and nothing of it is copied; all processes that open one file
share its pages. A file is complete and checked before it gets its name.

Format: https://github.com/huggingface/safetensors (8 bytes with the header's length, a
JSON header, then the tensors end to end).
"""

import json
import math
import mmap
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2core.errors import ModelFileError
from gpt2core.files import atomic_write

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
ALIGNMENT = 64  # bytes, a cache line
LIKE_OTHER_TOOLS = {"format": "pt"}  # metadata without which some do not open a file
# The system's cache puts large writes into large pages, which are faster to read.
WRITE_BYTES = 2**26
NUMPY_TYPES: dict[str, np.dtype[Any]] = {  # of tensors that are written
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in a safetensors header; ``begin`` and ``end`` are offsets in the data, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile(NamedTuple):
    """An open file. ``data [n_bytes]`` is a read-only memory map of its tensors."""

    entries: dict[str, TensorEntry]
    data: NDArray[np.uint8]
    metadata: dict[str, str]

    def bytes_of(self, name: str) -> NDArray[np.uint8]:
        """The bytes of one tensor, not copied."""
        entry = self.entries[name]
        return self.data[entry.begin : entry.end]


def open_safetensors(path: Path) -> TensorFile:
    """Open a file; its tensors are read when they are used.

    Raises ModelFileError if the file is missing, damaged or cut off.
    """
    try:
        with open(path, "rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            if not 2 <= header_size <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
                raise ValueError("its header is damaged or cut off")
            header = json.loads(file.read(header_size))
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # Every token reads all weights. With pages of 2 MB instead of 4 KB, if the system
            # has them, a step takes 5 % less time.
            with suppress(OSError):  # a kernel built without them
                mapped.madvise(mmap.MADV_HUGEPAGE)
        data = np.frombuffer(mapped, np.uint8)[8 + header_size :]  # [n_bytes]
        metadata = header.pop("__metadata__", {})
        entries = {name: read_entry(name, entry, len(data)) for name, entry in header.items()}
        # The format has the tensors end to end. Anything else is a damaged header, which
        # would give a tensor the numbers of another place.
        end = 0
        for entry in sorted(entries.values(), key=lambda one: (one.begin, one.end)):
            if entry.begin != end:
                raise ValueError("its tensors are not end to end")
            end = entry.end
        if end != len(data):
            raise ValueError(f"its tensors take {end:,} bytes and {len(data):,} are there")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path} is not a readable safetensors file: {error}.") from error
    return TensorFile(entries, data, metadata)


def read_entry(name: str, entry: Any, n_bytes: int) -> TensorEntry:
    """One entry of a header. Raises ValueError, KeyError or TypeError if it is damaged."""
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"tensor {name!r} has the shape {list(shape)}")
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= n_bytes:
        raise ValueError(f"tensor {name!r} lies beyond the end: the file is cut off")
    return TensorEntry(str(entry["dtype"]), shape, begin, end)


def write_safetensors(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    read: Callable[[str], Iterable[NDArray[Any]]],
    metadata: Mapping[str, str] = LIKE_OTHER_TOOLS,
) -> None:
    """Write a file: ``tensors`` by name, each with its dtype, of NUMPY_TYPES, and its shape.

    Calls ``read(name)`` for each in turn, which gives the tensor's numbers from start to end, in
    one array or in several. Only one array is in memory at a time. The file is checked by the
    format's own reader before it gets its name. ``path`` is the old file or the complete new one.
    """
    from safetensors import safe_open  # only writers need the package

    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + NUMPY_TYPES[dtype].itemsize * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode("utf-8")
    # Spaces, which the format allows, so that the data begins on a cache line.
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with atomic_write(path) as temporary:
        with open(temporary, "wb", WRITE_BYTES) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name, (dtype, _) in tensors.items():
                for array in read(name):
                    file.write(np.ascontiguousarray(array, NUMPY_TYPES[dtype]).data)
                file.flush()  # so that the file's size tells how far it is
        with safe_open(temporary, framework="numpy") as written:  # raises if it is damaged
            if set(written.keys()) != set(tensors):
                raise ModelFileError(f"{path} could not be written as it should be.")
