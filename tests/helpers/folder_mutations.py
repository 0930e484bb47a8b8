"""Random damage to good model folders, one change each, the same for the same seed.

A mutated folder must load right or raise ModelFileError. Used by a test of some dozens and
by ``tools/check_mutations.py``, which asks Hugging Face's libraries too.
"""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.model_folders import SHAPE, write_model
from tests.helpers.tokenizer_folders import N

# Good folders, and how many tokens beyond the first N have a row.
KINDS = {
    "plain_json": 0,
    "plain_both": 0,
    "plain_two": 0,
    "dialogue": 0,
    "added_json": 3,
    "added_file": 3,
    "added_file_special": 2,
    "added_config": 3,
    "added_config_and_json": 3,
    "strips": 3,
    "bos_template": 0,
    "bos_config": 0,
    "prefix_json": 0,
    "prefix_two": 0,
    "ignore_merges_shuffled": 0,
    "pad_config": 0,
}
WEIGHTS = "model.safetensors"
LARGE = ("vocab", "merges")  # keys whose contents are changed rarely: there are thousands


@dataclass(frozen=True)
class Mutation:
    """What was done: to which kind of folder, to which file, and in words."""

    kind: str
    file: str
    change: str


class Good:
    """The good folders, written once under ``root``."""

    def __init__(self, root: Path) -> None:
        self.folders = {
            kind: write_model(root / kind, kind, SHAPE.__class__(**shape(extra)))
            for kind, extra in KINDS.items()
        }
        for kind in ("plain_json", "dialogue"):
            values = SHAPE.to_dict()
            (self.folders[kind] / "hparams.json").write_text(json.dumps(values))


def shape(extra: int) -> dict[str, int]:
    return SHAPE.to_dict() | {"n_vocab": N + extra}


def mutate(good: Good, directory: Path, seed: int) -> Mutation:
    """Copy a good folder to ``directory`` and change one thing in it."""
    rng = random.Random(seed)
    kind = rng.choice(list(KINDS))
    shutil.copytree(good.folders[kind], directory)
    files = sorted(directory.iterdir())
    path = rng.choice(files + 3 * [file for file in files if file.suffix == ".json"])
    if path.name == WEIGHTS:
        change = rng.choice([flip_header, flip_header, flip_header, empty, cut, remove])
    elif path.suffix == ".json":
        change = rng.choice([change_key] * 12 + [flip, flip, empty, cut, remove])
    else:
        change = rng.choice([flip, flip, empty, cut, remove])
    return Mutation(kind, path.name, change(path, rng))


# --- changes to a file ------------------------------------------------------------


def flip_header(path: Path, rng: random.Random) -> str:
    """Flip one bit in the header of a safetensors file, its length included."""
    size = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    return flip_bit(path, rng, rng.choice([8, size]))


def flip(path: Path, rng: random.Random) -> str:
    """Flip one bit anywhere."""
    return flip_bit(path, rng, path.stat().st_size)


def flip_bit(path: Path, rng: random.Random, size: int) -> str:
    data = bytearray(path.read_bytes())
    at, bit = rng.randrange(size), rng.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at} flipped, now {bytes(data[max(at - 12, 0) : at + 12])!r}"


def empty(path: Path, rng: random.Random) -> str:
    path.write_bytes(b"")
    return "emptied"


def cut(path: Path, rng: random.Random) -> str:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    return f"cut to {path.stat().st_size} bytes"


def remove(path: Path, rng: random.Random) -> str:
    path.unlink()
    return "removed"


# --- changes to a key of a JSON file ----------------------------------------------


def change_key(path: Path, rng: random.Random) -> str:
    """Drop a key, or give it another value or another type."""
    values = json.loads(path.read_text(encoding="utf-8"))
    where = rng.choice(places(values, rng))
    parent, key = values, where[-1]
    for step in where[:-1]:
        parent = parent[step]
    if rng.random() < 0.25:
        del parent[key]
        what = "dropped"
    else:
        old, parent[key] = parent[key], other_value(parent[key], rng)
        what = f"{old!r:.40} -> {parent[key]!r:.40}"
    path.write_text(json.dumps(values), encoding="utf-8")
    return f"{'.'.join(map(str, where))}: {what}"


def places(values: Any, rng: random.Random, where: tuple = ()) -> list[tuple]:
    """The paths of all keys and items, few of those in a large part."""
    if not isinstance(values, dict | list):
        return []
    keys = list(values) if isinstance(values, dict) else list(range(len(values)))
    is_large = len(keys) > 500
    found = [(*where, key) for key in (rng.sample(keys, 3) if is_large else keys)]
    for key in keys if not is_large else []:
        found += places(values[key], rng, (*where, key))
    return found


def other_value(value: Any, rng: random.Random) -> Any:
    """A value of the same type, or of another."""
    same: list[Any] = []
    if isinstance(value, bool):
        same = [not value] * 4
    elif isinstance(value, int):
        same = [value + 1, value - 1, -value - 1, value * 2, 10**12]
    elif isinstance(value, str):
        same = [value + "x", value.lower(), value[:-1], "", "Lowercase", "<|user|>", "\ud800"]
    elif isinstance(value, list):
        same = [value[:-1], value[::-1], value * 2, []]
    elif isinstance(value, dict):
        same = [{}, {**value, "type": "Digits"}]
    other = [None, True, False, 0, 1, 1.5, "x", [], {}, [1], {"type": "Strip"}, 1e400]
    return rng.choice([one for one in same + other if one is not value])
