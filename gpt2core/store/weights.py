"""Weights on disk: ``params`` <-> ``model.safetensors`` (see ``store/tensor_files.py``).

The loader calls this module with a file's path; ``params`` (see ``model.py``) is what the
forward pass takes. The file uses the names and layout of Hugging Face's ``gpt2`` release
(``h.0.attn.c_attn.weight`` is ``[n_in, n_out]``), so files of other tools load here, and
files written here load there.

Invariants: float32 tensors are views of a memory map, read-only and never copied. float16 and
bfloat16 are widened to float32.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2core.errors import ModelFileError
from gpt2core.hparams import HParams
from gpt2core.model import BlockParams, LayerNormParams, LinearParams, Params
from gpt2core.store.shards import weight_files
from gpt2core.store.tensor_files import TensorEntry, open_safetensors, write_safetensors

FloatArray: TypeAlias = NDArray[np.float32]

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
HEAD = "lm_head.weight"  # wte again
# Names end like this in files of older transformers versions. These are no weights.
MASK_BUFFERS = (".attn.bias", ".attn.masked_bias")
CHECKED_AT_ONCE = 2**20  # numbers looked at in one call; bounds the memory it takes


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


def params_from_tensors(tensors: Mapping[str, FloatArray], n_layer: int) -> Params:
    """Tensors by their flat names -> the nested ``params``."""

    def norm(name: str) -> LayerNormParams:
        return {"g": tensors[f"{name}.weight"], "b": tensors[f"{name}.bias"]}

    def linear(name: str) -> LinearParams:
        return {"w": tensors[f"{name}.weight"], "b": tensors[f"{name}.bias"]}

    blocks: list[BlockParams] = [
        {
            "ln_1": norm(f"h.{i}.ln_1"),
            "attn": {
                "c_attn": linear(f"h.{i}.attn.c_attn"),
                "c_proj": linear(f"h.{i}.attn.c_proj"),
            },
            "ln_2": norm(f"h.{i}.ln_2"),
            "mlp": {"c_fc": linear(f"h.{i}.mlp.c_fc"), "c_proj": linear(f"h.{i}.mlp.c_proj")},
        }
        for i in range(n_layer)
    ]
    return {
        "wte": tensors["wte.weight"],
        "wpe": tensors["wpe.weight"],
        "blocks": blocks,
        "ln_f": norm("ln_f"),
    }


def tensors_from_params(params: Params) -> dict[str, FloatArray]:
    """The nested ``params`` -> tensors by their flat names; nothing is copied."""
    tensors = {"wte.weight": params["wte"], "wpe.weight": params["wpe"]}

    def add_norm(name: str, norm: LayerNormParams) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = norm["g"], norm["b"]

    def add_linear(name: str, linear: LinearParams) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = linear["w"], linear["b"]

    for i, block in enumerate(params["blocks"]):
        add_norm(f"h.{i}.ln_1", block["ln_1"])
        add_linear(f"h.{i}.attn.c_attn", block["attn"]["c_attn"])
        add_linear(f"h.{i}.attn.c_proj", block["attn"]["c_proj"])
        add_norm(f"h.{i}.ln_2", block["ln_2"])
        add_linear(f"h.{i}.mlp.c_fc", block["mlp"]["c_fc"])
        add_linear(f"h.{i}.mlp.c_proj", block["mlp"]["c_proj"])
    add_norm("ln_f", params["ln_f"])
    return tensors


def shape_tree(params: Any) -> Any:
    """``params``, or any branch of it, with every array replaced by its shape, to print."""
    if isinstance(params, dict):
        return {name: shape_tree(value) for name, value in params.items()}
    if isinstance(params, (list, tuple)):
        return [shape_tree(value) for value in params]
    return list(params.shape)


def load_params(path: Path, hparams: HParams, tied: bool = True) -> Params:
    """``params`` from safetensors, in float32; views of the maps where the files are float32.

    ``path`` is one file or an index of shards. Names may have the prefix ``transformer.``.
    Some tools also write the causal mask and ``lm_head.weight``, which must be ``wte``
    again; both are left out. Unless ``tied``, the head must be there. Raises
    ModelFileError, naming the tensor, if one is missing, unknown, of the wrong shape or
    not a float.
    """
    shapes = tensor_shapes(hparams)
    # The head is checked like any tensor, and must then be equal to wte.
    accepted = {**shapes, HEAD: shapes["wte.weight"]}
    tensors: dict[str, FloatArray] = {}
    for file in weight_files(path):
        opened = open_safetensors(file)
        for full_name, entry in opened.entries.items():
            name = full_name.removeprefix("transformer.")
            if name.endswith(MASK_BUFFERS):
                continue
            if name not in accepted:
                raise ModelFileError(
                    f"{file} holds a tensor {full_name!r}, "
                    f"which a GPT-2 of {hparams.n_layer} layers does not have."
                )
            if name in tensors:
                raise ModelFileError(f"{file}: tensor {full_name!r} is there twice.")
            if entry.shape != accepted[name]:
                raise ModelFileError(
                    f"{file}: tensor {full_name!r} has shape {list(entry.shape)}, "
                    f"but the hyper-parameters ask for {list(accepted[name])}."
                )
            tensors[name] = as_float32(opened.bytes_of(full_name), entry, full_name, file)
    missing = [name for name in (shapes if tied else accepted) if name not in tensors]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ModelFileError(f"{path} lacks the tensor {missing[0]!r}{others}.")
    lm_head = tensors.pop(HEAD, None)
    if lm_head is not None and not equal(lm_head, tensors["wte.weight"]):
        raise ModelFileError(f"{path}: {HEAD!r} is not equal to 'wte.weight', as in every GPT-2.")
    return params_from_tensors(tensors, hparams.n_layer)


def equal(one: FloatArray, other: FloatArray) -> bool:
    """Whether two arrays hold the same numbers. NaN is equal to NaN: it is another error."""
    return np.array_equal(one, other) or np.array_equal(one, other, equal_nan=True)


def check_finite(params: Params, path: Path) -> None:
    """Raise ModelFileError, naming the tensor, if a weight is NaN or infinite. Reads them all."""
    for name, array in tensors_from_params(params).items():
        flat = array.reshape(-1)
        for start in range(0, flat.size, CHECKED_AT_ONCE):
            finite = np.isfinite(flat[start : start + CHECKED_AT_ONCE])
            if not finite.all():
                value = flat[start + int(finite.argmin())]
                raise ModelFileError(
                    f"{path}: tensor {name!r} holds {value}, so nothing can be computed with it."
                )


def as_float32(raw: NDArray[np.uint8], entry: TensorEntry, name: str, path: Path) -> FloatArray:
    """Bytes of a tensor -> float32 array: a view for F32, widened for F16 and BF16.

    Raises ModelFileError for another dtype, and for bytes that do not match the shape.
    """
    if entry.dtype not in ITEM_BYTES:
        raise ModelFileError(
            f"{path}: tensor {name!r} is {entry.dtype}; only F32, F16 and BF16 can be read."
        )
    if raw.size != ITEM_BYTES[entry.dtype] * math.prod(entry.shape):
        raise ModelFileError(f"{path}: tensor {name!r} has not the bytes that its shape asks for.")
    array: FloatArray
    if entry.dtype == "F32":
        array = raw.view(np.float32)
        if not array.flags.aligned:  # BLAS would copy the tensor in every product
            array = array.copy()
    elif entry.dtype == "F16":
        array = raw.view(np.float16).astype(np.float32)
    else:  # BF16, the upper half of a float32
        array = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array).reshape(entry.shape)


def save_params(path: Path, params: Params, dtype: Literal["F32", "F16"] = "F32") -> None:
    """Write ``params`` as a safetensors file of dtype ``"F32"`` or ``"F16"``.

    ``path`` is either the old file or the complete new one.
    """
    tensors = tensors_from_params(params)
    types = {name: (dtype, array.shape) for name, array in tensors.items()}
    write_safetensors(path, types, lambda name: [tensors[name]])


def weights_digest(params: Params) -> str:
    """Eight hexadecimal digits that other weights have otherwise; reads a small part of them.

    Any training changes the last layer norm, whose numbers are hashed with the first position's.
    """
    parts = (params["ln_f"]["g"], params["ln_f"]["b"], params["wpe"][0])
    return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()[:8]
