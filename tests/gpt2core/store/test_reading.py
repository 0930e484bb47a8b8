"""The file of a guided reading: true of its weights, ignored for any other."""

import json
from dataclasses import replace

import pytest

from gpt2core.errors import ModelFileError
from gpt2core.inside.findings import Reading
from gpt2core.store import reading as stored
from gpt2core.store.reading import read_reading, reading_path, search_model, write_reading


def numbers(found, path="") -> dict[str, float]:
    """Every leaf of a JSON object by its path."""
    if isinstance(found, dict | list | tuple):
        items = found.items() if isinstance(found, dict) else enumerate(found)
        return {k: v for key, one in items for k, v in numbers(one, f"{path}.{key}").items()}
    return {path: found}


@pytest.fixture(scope="module")
def searched(demo) -> Reading:
    return search_model(demo)


def test_the_bundled_models_file_is_what_its_weights_say(demo, searched):
    """Other weights need ``python -m tools.make_reading``."""
    found = read_reading(demo)
    assert found, "the bundled reading.json belongs to other weights"
    assert numbers(found.to_json()) == pytest.approx(numbers(searched.to_json()), rel=1e-3)


@pytest.fixture
def copied(demo, tmp_path):
    """The bundled model, with its weights said to be in a folder that can be written."""
    return replace(demo, path=tmp_path / "model.safetensors")


def test_what_is_written_is_read(copied, searched):
    assert read_reading(copied) is None
    path = write_reading(copied, searched)
    assert path == reading_path(copied) and read_reading(copied) == searched
    assert [file.name for file in path.parent.iterdir()] == ["reading.json"]


def test_it_is_ignored_for_other_weights_and_other_texts(copied, searched, monkeypatch):
    write_reading(copied, searched)
    params = {**copied.params, "ln_f": {**copied.params["ln_f"]}}
    params["ln_f"]["g"] = params["ln_f"]["g"] * 2
    assert read_reading(replace(copied, params=params)) is None
    monkeypatch.setattr(stored, "TEXTS", ("Another text",))
    assert read_reading(copied) is None


@pytest.mark.parametrize("damage", ["{", "[]", "previous", "habit", "more"])
def test_a_damaged_file_is_ignored(copied, searched, damage):
    path = write_reading(copied, searched)
    found = json.loads(path.read_text("utf-8"))
    if damage == "previous":
        del found["previous"]
    elif damage == "habit":
        found["copying"]["habit"] = 3
    elif damage == "more":
        found["removal"]["colour"] = 3
    path.write_text(damage if damage in ("{", "[]") else json.dumps(found))
    assert read_reading(copied) is None


def test_a_model_made_in_memory_has_no_file(demo, searched):
    in_memory = replace(demo, path=None)
    assert read_reading(in_memory) is None
    with pytest.raises(ModelFileError, match="has no folder"):
        write_reading(in_memory, searched)
