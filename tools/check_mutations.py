"""Damage good model folders at random, and check that each loads right or is refused.

A right load is one whose ids, for 60 texts with and without special tokens, are those that
Hugging Face's ``tokenizers`` gives for the folder's ``tokenizer.json``, or transformers 4
for a folder without one; where they cannot read the folder, those of the folder before
the damage. Weights must be what they were, and the shape and the tokens that end a text
what transformers reads. Run with an environment that has them::

    pip install transformers==4.57.6 protobuf safetensors numpy regex
    PYTHONPATH=. python tools/check_mutations.py 2000

Prints every difference, and counts at the end; the exit status is 1 if there is any.

Fast tokenizers close a gap in the ids of added tokens, slow ones keep it. A load with the ids
as stated is right too if the weights end with the row of the last token. They are asked of
``tokenizers`` by filling the gaps with tokens that no text has.
"""

import collections
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "critical"}

import numpy as np
import tokenizers
import transformers

from gpt2core.errors import ModelFileError
from gpt2core.store.loader import Model, load_model
from gpt2core.store.weights import tensors_from_params
from tests.helpers.folder_mutations import Good, mutate
from tests.helpers.tokenizer_folders import texts


def pyo3_panic() -> type[BaseException]:
    """The class of a panic in the Rust library: no Exception, and nowhere to import it from."""
    model = {"type": "BPE", "vocab": {"ab": 0, "a": 1, "b": 2}, "merges": [["a", "b"]]}
    try:
        tokenizers.Tokenizer.from_str(
            json.dumps({"model": model | {"continuing_subword_prefix": "##"}})
        )
    except BaseException as error:
        return type(error)
    raise AssertionError("this version of tokenizers does not panic")


TEXTS = texts()[::4] + texts()[:10]
Ids = list[list[int]]
PANIC = pyo3_panic()
HUGGING_FACE_NAMES = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}


def main(n: int, first: int = 0) -> int:
    """Check ``n`` mutations with seeds from ``first``; the exit status."""
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        good = Good(Path(name) / "good")
        originals = {kind: load_model(str(folder)) for kind, folder in good.folders.items()}
        for seed in range(first, first + n):
            directory = Path(name) / str(seed)
            mutation = mutate(good, directory, seed)
            outcome = check(directory, originals[mutation.kind])
            counts[outcome] += 1
            if outcome.startswith("WRONG"):
                print(f"{seed}: {outcome}: {mutation}", flush=True)
    print(dict(counts))
    return int(any(outcome.startswith("WRONG") for outcome in counts))


def check(directory: Path, original: Model) -> str:
    """What became of a mutated folder, in words; ``WRONG …`` is a fault."""
    try:
        model = load_model(str(directory))
    except ModelFileError as error:
        sentence = str(error)
        return "refused" if "\n" not in sentence and sentence.endswith(".") else "WRONG sentence"
    except Exception as error:
        return f"WRONG exception {type(error).__name__}: {error}"
    if not same_weights(model, original):
        return "WRONG weights"
    if not same_settings(model, directory):
        return "WRONG shape or ends"
    ids = read(lambda text, special: model.encoder.encode(text, special))
    with readable(directory) as copy:
        found = readings(copy)
    # A slow tokenizer that is told to split special tokens splits all added tokens.
    if ids in found or ids[: len(TEXTS)] in [one[: len(TEXTS)] for one in found[-1:]]:
        return "loaded, with a reader's ids"
    if found:
        return "WRONG ids"
    before = read(lambda text, special: original.encoder.encode(text, special))
    return "loaded, unreadable for others, as before" if ids == before else "WRONG ids, no reader"


def read(encode: Callable[[str, bool], list[int]]) -> Ids:
    """The ids of all texts, with and without special tokens."""
    return [encode(text, special) for special in (True, False) for text in TEXTS]


def readings(directory: Path) -> list[Ids]:
    """The ids that Hugging Face's libraries give; of a tokenizer.json first as it is."""
    found = []
    path = directory / "tokenizer.json"
    with contextlib.suppress(Exception, PANIC):
        if path.exists():
            text = path.read_text(encoding="utf-8")
            found.append(read_with_tokenizers(text))
            filled = fill_gaps(json.loads(text), directory)
            if filled:
                found.append(read_with_tokenizers(json.dumps(filled)))
    for use_fast in (True, False):
        with contextlib.suppress(Exception, PANIC):
            found.append(read_with_transformers(directory, use_fast))
    return found


def read_with_tokenizers(tokenizer_json: str) -> Ids:
    """The ids that a ``tokenizer.json`` gives."""
    raw = tokenizers.Tokenizer.from_str(tokenizer_json)
    raw.no_truncation()

    def encode(text: str, special: bool) -> list[int]:
        raw.encode_special_tokens = not special
        return raw.encode(text).ids

    return read(encode)


def fill_gaps(values: dict[str, Any], directory: Path) -> dict[str, Any] | None:
    """A ``tokenizer.json`` with a token for each missing id, if its last token has the last row."""
    tokens = {token["id"]: token for token in values["added_tokens"]}
    ids = {*tokens, *values["model"]["vocab"].values()}
    n_rows = transformers.GPT2Config.from_pretrained(directory).vocab_size
    if list(tokens) != sorted(tokens) or max(ids) + 1 != n_rows or len(ids) == n_rows:
        return None
    filler = {**values["added_tokens"][0], "special": True}
    for missing in {*range(n_rows)} - ids:
        tokens[missing] = {**filler, "id": missing, "content": f"\ue000{missing}"}
    return {**values, "added_tokens": [tokens[one] for one in sorted(tokens)]}


def read_with_transformers(directory: Path, use_fast: bool) -> Ids:
    """The ids that a tokenizer class of transformers 4 gives."""
    auto = transformers.AutoTokenizer.from_pretrained(directory, use_fast=use_fast)
    return read(lambda text, special: auto(text, split_special_tokens=not special).input_ids)


@contextlib.contextmanager
def readable(directory: Path) -> Iterator[Path]:
    """A copy of the folder without what stops transformers and changes no id.

    That is OpenAI's names of files, which it does not look for, and a ``model_max_length``
    that is no number.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        shutil.copytree(directory, copy)
        if (copy / "encoder.json").exists():
            for own, other in HUGGING_FACE_NAMES.items():
                with contextlib.suppress(FileNotFoundError):
                    (copy / own).rename(copy / other)
            (copy / "config.json").write_text('{"model_type": "gpt2"}')
        path = copy / "tokenizer_config.json"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            settings = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(settings.get("model_max_length"), int | float):
                settings.pop("model_max_length", None)
                path.write_text(json.dumps(settings), encoding="utf-8")
        yield copy


def same_settings(model: Model, directory: Path) -> bool:
    """Whether the shape, and the tokens that end a text, are those that transformers reads."""
    if not (directory / "config.json").exists():
        return True
    config = transformers.GPT2Config.from_pretrained(directory)
    ours = model.hparams
    if (ours.n_ctx, ours.n_embd, ours.n_head, ours.n_layer) != (
        config.n_positions,
        config.n_embd,
        config.n_head,
        config.n_layer,
    ):
        return False
    ends = None
    if (directory / "generation_config.json").exists():
        ends = transformers.GenerationConfig.from_pretrained(directory).eos_token_id
    stated = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    ends = stated.get("eos_token_id") if ends is None else ends
    # An end that is no token ends nothing.
    known = {*(ends if isinstance(ends, list) else [ends])} & model.encoder.decoder.keys()
    return not known or model.encoder.rules.end_ids == known


def same_weights(model: Model, original: Model) -> bool:
    """Whether all numbers are what they were, as far as both have them."""
    before = tensors_from_params(original.params)
    for name, array in tensors_from_params(model.params).items():
        n = min(len(array), len(before[name]))
        if not np.array_equal(array[:n], before[name][:n]):
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
