"""Weights in one file or in several: ``model.safetensors``, or an index of its shards.

Below :mod:`gpt2core.store.weights`. transformers writes large models as
``model-00001-of-00002.safetensors`` and so on, with ``model.safetensors.index.json`` saying
which tensor is in which file.

Invariant: a shard that the index names and the folder lacks is an error that names it.
"""

from pathlib import Path

from gpt2core.errors import ModelFileError
from gpt2core.files import file_size, read_json
from gpt2core.store.folder import WEIGHTS_FILE

SHARD_INDEX_FILE = f"{WEIGHTS_FILE}.index.json"


def find_weights(directory: Path) -> Path | None:
    """The file that a model's weights are opened by: one file, or the index of shards."""
    for name in (WEIGHTS_FILE, SHARD_INDEX_FILE):
        if (directory / name).exists():
            return directory / name
    return None


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that ``path`` stands for: itself, or the shards of an index."""
    if path.name != SHARD_INDEX_FILE:
        return [path]
    return [path.with_name(name) for name in sorted(set(read_index(path).values()))]


def read_index(path: Path) -> dict[str, str]:
    """Tensor's name -> shard's file name. Raises ModelFileError if a shard is missing."""
    table = read_json(path).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ModelFileError(f"{path} has no weight_map, which says where each tensor is.")
    for tensor, name in table.items():
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise ModelFileError(f"{path}: the file of tensor {tensor!r} is {name!r}.")
        if not path.with_name(name).is_file():
            raise ModelFileError(f"{path.parent} lacks {name}, which {path.name} names.")
    return table


def weights_size(path: Path) -> int:
    """Bytes of all files that ``path`` stands for; of an index that is damaged, its own."""
    try:
        return sum(file_size(file) for file in weight_files(path))
    except ModelFileError:
        return file_size(path)
