"""Record the ids that Hugging Face's libraries give for texts under each kind of folder.

``tests/helpers/tokenizer_folders.py`` writes the folders and has the texts; this tool asks
``tokenizers`` and ``transformers`` and writes ``tests/golden/tokenizer_folders.json``, so
the tests can compare without either library. Two environments are asked, because two
major versions of transformers read folders differently::

    pip install transformers==4.57.6 protobuf              # in the one: tokenizers 0.22
    PYTHONPATH=. python tools/make_tokenizer_goldens.py ask old.json
    pip install transformers==5.24.0                       # in the other: tokenizers 0.23
    PYTHONPATH=. python tools/make_tokenizer_goldens.py ask new.json
    PYTHONPATH=. python tools/make_tokenizer_goldens.py merge old.json new.json

The golden file has, for each folder, the ids of the reader that ``Folder.source`` names,
with and without special tokens read in the text, as differences from the plain folder's
ids, and for every other reader the number of texts for which it gives other ids.
"""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.helpers.tokenizer_folders import FOLDERS, TOKENIZER_GOLDENS, texts

Ids = list[list[int]]
SOURCES = {
    "tokenizers": "tokenizers 0.23.3",
    "fast": "transformers 4.57.6 fast",
    "slow": "transformers 4.57.6 slow",
}


def ask(path: Path) -> None:
    """Write the ids that this environment's libraries give under each folder to ``path``."""
    answers = {}
    for name, folder in FOLDERS.items():
        with tempfile.TemporaryDirectory() as directory:
            answers[name] = readings(folder.write(Path(directory) / name))
        print(name, {reader: len(ids) for reader, ids in answers[name].items()}, flush=True)
    path.write_text(json.dumps(answers))


def readings(directory: Path) -> dict[str, dict[str, Ids]]:
    """Reader -> ``"on"`` and ``"off"``: the ids with and without special tokens in the text."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    import tokenizers
    import transformers

    found: dict[str, dict[str, Ids]] = {}
    version = transformers.__version__
    classes = {"fast": True, "slow": False} if version.startswith("4") else {"": True}
    for kind, use_fast in classes.items():
        with reported(f"{directory.name} {version} {kind}"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(directory, use_fast=use_fast)
            found[f"transformers {version} {kind}".strip()] = {
                "on": [tokenizer(text).input_ids for text in texts()],
                "off": [tokenizer(text, split_special_tokens=True).input_ids for text in texts()],
            }
    if (directory / "tokenizer.json").exists():
        with reported(f"{directory.name} tokenizers"):
            raw = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
            on = [raw.encode(text).ids for text in texts()]
            raw.encode_special_tokens = True
            off = [raw.encode(text).ids for text in texts()]
            found[f"tokenizers {tokenizers.__version__}"] = {"on": on, "off": off}
    return found


@contextlib.contextmanager
def reported(what: str):
    """Report a reader that fails and go on: a folder need not suit every reader."""
    try:
        yield
    except BaseException as error:  # tokenizers' panics are no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        print(f"{what}: {type(error).__name__}: {str(error).strip()[:100]}", file=sys.stderr)


def merge(paths: list[Path]) -> None:
    """Write the golden file from the answers of both environments."""
    answers: dict[str, dict[str, dict[str, Ids]]] = {}
    for path in paths:
        for name, found in json.loads(path.read_text()).items():
            answers.setdefault(name, {}).update(found)
    base = answers["plain_json"][SOURCES["tokenizers"]]["on"]
    folders = {
        name: summary(found, SOURCES.get(FOLDERS[name].source), base)
        for name, found in answers.items()
    }
    lines = [f"{json.dumps(name)}: {compact(value)}" for name, value in folders.items()]
    head = f'{{"texts": {compact(texts())},\n"plain": {compact(base)},\n"folders": {{\n'
    TOKENIZER_GOLDENS.write_text(head + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


def summary(found: dict[str, dict[str, Ids]], source: str | None, base: Ids) -> dict[str, Any]:
    """The golden entry of one folder; without ``on`` and ``off`` where no reader is right."""
    entry: dict[str, Any] = {"source": source}
    if source is not None:
        right = found[source]
        # A slow tokenizer that is told to split special tokens splits all added tokens.
        for key in ("on",) if source == SOURCES["slow"] else ("on", "off"):
            entry[key] = {
                str(i): ids for i, ids in enumerate(right[key]) if ids != base[i]
            }  # text's index -> ids
        entry["other_ids"] = {
            reader: [sum(a != b for a, b in zip(ids[k], right[k], strict=True)) for k in right]
            for reader, ids in found.items()
            if reader != source
        }
    return entry


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "ask":
        ask(Path(arguments[0]))
    else:
        merge([Path(argument) for argument in arguments])
