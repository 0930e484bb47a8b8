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

from safetensors.numpy import load_file, save_file

from tests.helpers.model_folders import SHAPE, write_model
from tests.helpers.tokenizer_folders import END, ENDOFTEXT, N

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
    "gap_file": 6,
}
# Folders made of those above with further files or other names.
COPIES = {
    "ends": "plain_both",
    "special_map": "added_config_and_json",
    "shards": "plain_two",
    "openai": "dialogue",
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
            write_json(self.folders[kind] / "hparams.json", SHAPE.to_dict())
        for kind, base in COPIES.items():
            self.folders[kind] = root / kind
            shutil.copytree(self.folders[base], root / kind)
        ends = {"bos_token_id": END, "eos_token_id": [END, 7], "max_length": 20}
        write_json(self.folders["ends"] / "generation_config.json", ends)
        write_special_map(self.folders["special_map"])
        split_weights(self.folders["shards"])
        rename_as_openai(self.folders["openai"])


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def write_special_map(directory: Path) -> None:
    """State the added tokens of ``added_config_and_json`` in the two other files, too."""
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    user = {"content": "<|user|>", **flags}
    tokens = {"eos_token": ENDOFTEXT, "additional_special_tokens": [user]}
    write_json(directory / "special_tokens_map.json", tokens)
    ids = {"<|user|>": N, "<|bot|>": N + 1, "für": N + 2}
    write_json(directory / "added_tokens.json", ids)


def split_weights(directory: Path) -> None:
    """Two shards and their index in place of one file."""
    tensors = load_file(directory / WEIGHTS)
    table = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in sorted(set(table.values())):
        names = [name for name in table if table[name] == file]
        save_file({name: tensors[name] for name in names}, directory / file)
    size = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": table}
    write_json(directory / f"{WEIGHTS}.index.json", index)
    (directory / WEIGHTS).unlink()


def rename_as_openai(directory: Path) -> None:
    """OpenAI's names for the vocabulary and the hyper-parameters."""
    (directory / "vocab.json").rename(directory / "encoder.json")
    (directory / "merges.txt").rename(directory / "vocab.bpe")
    (directory / "config.json").unlink()


def shape(extra: int) -> dict[str, int]:
    return SHAPE.to_dict() | {"n_vocab": N + extra}


def mutate(good: Good, directory: Path, seed: int) -> Mutation:
    """Copy a good folder to ``directory`` and change one thing in it."""
    rng = random.Random(seed)
    kind = rng.choice(list(good.folders))
    shutil.copytree(good.folders[kind], directory)
    files = sorted(directory.iterdir())
    path = rng.choice(files + 3 * [file for file in files if file.suffix == ".json"])
    anything = [flip, flip, empty, cut, remove]
    if path.suffix == ".safetensors":
        change = rng.choice([flip_header, flip_header, flip_header, empty, cut, remove])
    elif path.suffix == ".json":
        change = rng.choice([change_key] * 10 + [exchange] * 6 + [recode] + anything)
    else:
        change = rng.choice([change_line] * 4 + [recode] + anything)
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


def recode(path: Path, rng: random.Random) -> str:
    """Write the text as another program might: in another encoding, with other line ends."""
    text = path.read_bytes().decode("utf-8")
    encoding = rng.choice(["utf-8-sig", "utf-16", "utf-8", "latin-1"])
    if encoding == "utf-8":
        text = text.replace("\n", "\r\n")
    path.write_bytes(text.encode(encoding, errors="replace"))
    return f"written in {encoding}" + (" with CRLF" if encoding == "utf-8" else "")


def change_line(path: Path, rng: random.Random) -> str:
    """Drop a line, write it twice, or exchange two."""
    lines = path.read_bytes().split(b"\n")
    one, other = rng.randrange(min(9, len(lines))), rng.randrange(len(lines))
    if rng.random() < 0.5:
        one = other  # not always among the first, which may be a header
    what = rng.choice(["dropped", "doubled", "exchanged"])
    if what == "dropped":
        del lines[one]
    elif what == "doubled":
        lines.insert(one, lines[one])
    else:
        other = (one + rng.randrange(1, len(lines))) % len(lines)
        lines[one], lines[other] = lines[other], lines[one]
    path.write_bytes(b"\n".join(lines))
    return f"line {one} {what}" + (f" with {other}" if what == "exchanged" else "")


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


def exchange(path: Path, rng: random.Random) -> str:
    """Exchange two values or two keys, move a value to another key, or repeat an item."""
    values = json.loads(path.read_text(encoding="utf-8"))
    where = rng.choice(places(values, rng))
    parent, key = values, where[-1]
    for step in where[:-1]:
        parent = parent[step]
    other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    what = rng.choice(["exchanged with", "moved to", "repeated at"])
    if what == "exchanged with":
        parent[key], parent[other] = parent[other], parent[key]
    elif isinstance(parent, list):
        item = parent[key] if what == "repeated at" else parent.pop(key)
        parent.insert(other, item)
    elif what == "repeated at":
        parent[other] = parent[key]
    else:
        parent[other] = parent.pop(key)
    write_json(path, values)
    return f"{'.'.join(map(str, where))}: {what} {other}"


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
