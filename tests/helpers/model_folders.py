"""Whole folders of small models: one kind of tokenizer folder with seeded weights."""

import json
from pathlib import Path

from gpt2core.hparams import HParams
from gpt2core.store.weights import save_params
from tests.helpers.openai_layout import seeded_params
from tests.helpers.tokenizer_folders import FOLDERS, N

SHAPE = HParams(n_vocab=N, n_ctx=64, n_embd=8, n_head=2, n_layer=1)


def write_model(directory: Path, kind: str = "plain_json", shape: HParams = SHAPE) -> Path:
    """A model of our own weights with one kind of tokenizer folder."""
    FOLDERS[kind].write(directory)
    change(directory, "config.json", vocab_size=shape.n_vocab)
    save_params(directory / "model.safetensors", seeded_params(shape))
    return directory


def change(directory: Path, name: str, **values) -> None:
    """Set keys of a JSON file; those set to ``...`` are dropped."""
    path = directory / name
    old = json.loads(path.read_text()) if path.exists() else {}
    new = {key: value for key, value in {**old, **values}.items() if value is not ...}
    path.write_text(json.dumps(new))
