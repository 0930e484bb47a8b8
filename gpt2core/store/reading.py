"""The guided reading of a model, and the file ``reading.json`` in its folder.

The file saves the search that :mod:`gpt2core.inside.reading` describes. It names the weights and
the texts that it belongs to, and is ignored for others, so it need not be removed when a model
is trained again. The bundled model has one; ``tools/make_reading.py`` writes it.

Invariant: nothing but :func:`write_reading` writes the file.
"""

import json
from pathlib import Path

from gpt2core.errors import ModelFileError
from gpt2core.files import atomic_write, read_json
from gpt2core.inside.findings import Reading
from gpt2core.inside.reading import TEXTS, InTurn, at_once, search
from gpt2core.store.loader import Model
from gpt2core.store.weights import weights_digest

READING_FILE = "reading.json"


def search_model(model: Model, in_turn: InTurn = at_once) -> Reading:
    """Search a model; see :func:`gpt2core.inside.reading.search`. Raises InputError."""
    texts = [model.encoder.encode(text) for text in TEXTS]
    return search(texts, model.params, model.hparams.n_head, in_turn)


def read_reading(model: Model) -> Reading | None:
    """The reading in the model's folder; None if there is none of these weights and texts."""
    try:
        found = read_json(reading_path(model))
        if {name: found.get(name) for name in ("weights", "texts")} != origin(model):
            return None
        return Reading.from_json(found)
    except (ModelFileError, KeyError, TypeError):
        return None


def write_reading(model: Model, reading: Reading) -> Path:
    """Write the reading of a model that has a folder into it. Raises OSError."""
    path = reading_path(model)
    with atomic_write(path) as temporary:
        text = json.dumps(origin(model) | reading.to_json(), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", "utf-8")
    return path


def reading_path(model: Model) -> Path:
    """Where the file is, or would be. Raises ModelFileError for a model made in memory."""
    if model.path is None:
        raise ModelFileError(f"model {model.name!r} has no folder.")
    return model.path.parent / READING_FILE


def origin(model: Model) -> dict[str, object]:
    """What a reading belongs to."""
    return {"weights": weights_digest(model.params), "texts": list(TEXTS)}
