"""Weights on disk: ``params`` <-> ``model.safetensors``, opened as a memory map.

Between the loader, which knows where a model lies, and the forward pass, which wants
``params``: the nested dict ``{"wte", "wpe", "blocks": [...], "ln_f"}``. The file uses
the names and layout of the well-known ``gpt2`` release (``h.0.attn.c_attn.weight`` is
``[n_in, n_out]``), so files made for other tools load here, and ours load there.

Invariants: float32 tensors are views of the map, read-only and never copied, so all
processes that open one model share its pages; float16 and bfloat16 are widened to
float32; a file is complete and checked before it bears its name.

Format: https://github.com/huggingface/safetensors (8 bytes of header length, a JSON
header, then the tensors end to end).
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2core.errors import ModelFileError
from gpt2core.files import atomic_write
from gpt2core.hparams import HParams

MAX_HEADER = 100_000_000  # bytes, the format's own limit
ALIGNMENT = 64  # bytes, a cache line
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
MASK_BUFFERS = (".attn.bias", ".attn.masked_bias")  # kept by older transformers, not weights


def tensor_shapes(hparams: HParams) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 and its shape, in the order of the forward pass."""
    d = hparams.n_embd
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (hparams.n_vocab, d),
        "wpe.weight": (hparams.n_ctx, d),
    }
    for layer in range(hparams.n_layer):
        for name, n_in, n_out in (
            ("ln_1", None, d),
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("ln_2", None, d),
            ("mlp.c_fc", d, 4 * d),
            ("mlp.c_proj", 4 * d, d),
        ):
            shapes[f"h.{layer}.{name}.weight"] = (n_out,) if n_in is None else (n_in, n_out)
            shapes[f"h.{layer}.{name}.bias"] = (n_out,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (d,)
    return shapes


def params_from_tensors(tensors: dict, n_layer: int) -> dict:
    """Tensors by their flat names -> the nested ``params``."""

    def norm(name):
        return {"g": tensors[f"{name}.weight"], "b": tensors[f"{name}.bias"]}

    def dense(name):
        return {"w": tensors[f"{name}.weight"], "b": tensors[f"{name}.bias"]}

    blocks = [
        {
            "ln_1": norm(f"h.{i}.ln_1"),
            "attn": {"c_attn": dense(f"h.{i}.attn.c_attn"), "c_proj": dense(f"h.{i}.attn.c_proj")},
            "ln_2": norm(f"h.{i}.ln_2"),
            "mlp": {"c_fc": dense(f"h.{i}.mlp.c_fc"), "c_proj": dense(f"h.{i}.mlp.c_proj")},
        }
        for i in range(n_layer)
    ]
    return {
        "wte": tensors["wte.weight"],
        "wpe": tensors["wpe.weight"],
        "blocks": blocks,
        "ln_f": norm("ln_f"),
    }


def tensors_from_params(params: dict) -> dict:
    """The nested ``params`` -> tensors by their flat names; nothing is copied."""
    tensors = {"wte.weight": params["wte"], "wpe.weight": params["wpe"]}
    for i, block in enumerate(params["blocks"]):
        for part, layer in (
            ("ln_1", block["ln_1"]),
            ("attn.c_attn", block["attn"]["c_attn"]),
            ("attn.c_proj", block["attn"]["c_proj"]),
            ("ln_2", block["ln_2"]),
            ("mlp.c_fc", block["mlp"]["c_fc"]),
            ("mlp.c_proj", block["mlp"]["c_proj"]),
        ):
            tensors[f"h.{i}.{part}.weight"] = layer["g" if part.startswith("ln") else "w"]
            tensors[f"h.{i}.{part}.bias"] = layer["b"]
    tensors["ln_f.weight"], tensors["ln_f.bias"] = params["ln_f"]["g"], params["ln_f"]["b"]
    return tensors


def shape_tree(params):
    """``params`` with every array replaced by its shape, to look at."""
    if isinstance(params, dict):
        return {name: shape_tree(value) for name, value in params.items()}
    if isinstance(params, (list, tuple)):
        return [shape_tree(value) for value in params]
    return list(params.shape)


def load_params(path: Path, hparams: HParams) -> dict:
    """``params`` from a safetensors file, float32, mapped where the file is float32.

    Names may carry the prefix ``transformer.``; the causal-mask buffers and the tied
    ``lm_head.weight`` that some tools write are passed over. Raises ModelFileError,
    naming the tensor, where one is missing, unknown, of the wrong shape or of a dtype
    that is not a float.
    """
    shapes = tensor_shapes(hparams)
    entries, data = open_safetensors(path)
    tensors: dict[str, np.ndarray] = {}
    lm_head = None
    for full_name, entry in entries.items():
        name = full_name.removeprefix("transformer.")
        if name.endswith(MASK_BUFFERS):
            continue
        expected = shapes.get("wte.weight" if name == "lm_head.weight" else name)
        if expected is None:
            raise ModelFileError(
                f"{path} holds a tensor {full_name!r}, "
                f"which a GPT-2 of {hparams.n_layer} layers does not have."
            )
        if entry.shape != expected:
            raise ModelFileError(
                f"{path}: tensor {full_name!r} has shape {list(entry.shape)}, "
                f"but the hyper-parameters ask for {list(expected)}."
            )
        array = as_float32(data[entry.begin : entry.end], entry, full_name, path)
        if name == "lm_head.weight":
            lm_head = array
        else:
            tensors[name] = array
    missing = [name for name in shapes if name not in tensors]
    if missing:
        raise ModelFileError(
            f"{path} lacks the tensor {missing[0]!r}"
            + (f" and {len(missing) - 1} others." if len(missing) > 1 else ".")
        )
    if lm_head is not None and not np.array_equal(lm_head, tensors["wte.weight"]):
        raise ModelFileError(
            f"{path}: 'lm_head.weight' is not equal to 'wte.weight', as it is in every GPT-2."
        )
    return params_from_tensors(tensors, hparams.n_layer)


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in the header of a safetensors file; ``begin`` and ``end`` count data bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def open_safetensors(path: Path) -> tuple[dict[str, TensorEntry], np.ndarray]:
    """The header's entries by name, and the bytes they index as a memory map."""
    try:
        with open(path, "rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            if not 2 <= header_size <= min(MAX_HEADER, os.path.getsize(path) - 8):
                raise ValueError("its header is damaged or cut off")
            header = json.loads(file.read(header_size))
            header.pop("__metadata__", None)
        data = np.memmap(path, np.uint8, mode="r")[8 + header_size :]  # [n_bytes]
        entries = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= len(data):
                raise ValueError(f"tensor {name!r} lies beyond the end: the file is cut off")
            entries[name] = TensorEntry(entry["dtype"], tuple(entry["shape"]), begin, end)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a readable safetensors file: {error}") from error
    return entries, data


def as_float32(raw: np.ndarray, entry: TensorEntry, name: str, path: Path) -> np.ndarray:
    """Bytes of a tensor -> float32 array: a view for F32, widened for F16 and BF16."""
    if entry.dtype not in ITEM_BYTES:
        raise ModelFileError(
            f"{path}: tensor {name!r} is {entry.dtype}; only F32, F16 and BF16 can be read."
        )
    if raw.size != ITEM_BYTES[entry.dtype] * math.prod(entry.shape):
        raise ModelFileError(f"{path}: tensor {name!r} has not the bytes that its shape asks for.")
    if entry.dtype == "F32":
        array = raw.view(np.float32)
        # An unaligned map would make BLAS copy the tensor on every product.
        array = array if array.flags.aligned else array.copy()
    elif entry.dtype == "F16":
        array = raw.view(np.float16).astype(np.float32)
    else:  # BF16, the upper half of a float32
        array = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array).reshape(entry.shape)


def save_params(path: Path, params: dict, dtype: str = "F32") -> None:
    """Write ``params`` as a safetensors file of dtype ``"F32"`` or ``"F16"``."""
    tensors = tensors_from_params(params)
    shapes = {name: array.shape for name, array in tensors.items()}
    write_safetensors(path, shapes, tensors.__getitem__, dtype)


def write_safetensors(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    dtype: str = "F32",
) -> None:
    """Write a safetensors file tensor by tensor: ``read(name)`` is asked for each in turn.

    Only one tensor is held at a time. Through a temporary file beside it, checked by the
    format's own reader, so ``path`` is either the old file or the whole new one.
    """
    from safetensors import safe_open  # only writers need the package

    numpy_dtype = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}[dtype]
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + numpy_dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode("utf-8")
    # Spaces, which the format allows, so that the data begins on a cache line.
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with atomic_write(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in shapes:
                file.write(np.ascontiguousarray(read(name), dtype=numpy_dtype).data)
        with safe_open(temporary, framework="numpy") as written:  # raises unless it is whole
            if set(written.keys()) != set(shapes):
                raise ModelFileError(f"{path} could not be written as it should be.")
