"""``inspect`` says what is in a folder, what decided, and what was refused and why."""

import pytest

from gpt2core.errors import ModelFileError
from gpt2core.hparams import HParams
from gpt2core.store.inspection import inspect_folder
from gpt2core.store.loader import load_model
from tests.helpers.model_folders import SHAPE, change, write_model
from tests.helpers.tokenizer_folders import FOLDERS, N


def labelled(directory) -> dict[str, str]:
    """The lines by label; those without one follow the line before them."""
    lines: dict[str, str] = {}
    last = ""
    for label, text in inspect_folder(directory).lines:
        last = label or last
        lines[last] = f"{lines[last]}\n{text}" if last in lines else text
    return lines


@pytest.mark.parametrize(
    ("kind", "n_rows"),
    [("plain_both", N), ("prefix_added", N + 3), ("bos_other", N + 9), ("gap_json", N + 6)],
)
def test_ten_lines_are_enough(kind, n_rows, tmp_path):
    write_model(tmp_path, kind, HParams(**{**SHAPE.to_dict(), "n_vocab": n_rows}))
    assert 7 <= len(inspect_folder(tmp_path).lines) <= 10
    assert labelled(tmp_path)["result"] == "the folder loads."


def test_a_folder_that_loads_is_described_in_ten_lines(tmp_path):
    shape = HParams(**{**SHAPE.to_dict(), "n_vocab": N + 7})
    write_model(tmp_path, "added_config", shape)
    lines = labelled(tmp_path)
    assert lines["folder"] == str(tmp_path)
    assert lines["files"].split(", ") == [
        "config.json", "merges.txt", "model.safetensors", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip
    assert lines["tokenizer"].startswith(f"from vocab.json and merges.txt; {N + 3:,} tokens")
    assert "adds 3 tokens: <|user|>, <|bot|>, für" in lines["tokenizer"]
    assert lines["text ends"] == f"with <|endoftext|> ({N - 1})"
    assert lines["shape"] == f"n_vocab {N + 7:,}, n_ctx 64, n_embd 8, n_head 2, n_layer 1"
    assert lines["weights"].startswith("model.safetensors, ")
    assert lines["no token"].startswith("4 rows of the weights")
    assert lines["result"] == "the folder loads."
    assert len(inspect_folder(tmp_path).lines) <= 10


def test_tokens_without_a_row_are_named(tmp_path):
    write_model(tmp_path, "pad_config")
    assert labelled(tmp_path)["no row"].startswith(f"[PAD] ({N}): never sampled")


@pytest.mark.parametrize("kind", [kind for kind in FOLDERS if FOLDERS[kind].refused])
def test_a_refused_folder_has_the_sentence_that_loading_gives(kind, tmp_path):
    write_model(tmp_path, kind)
    with pytest.raises(ModelFileError) as caught:
        load_model(str(tmp_path))
    inspection = inspect_folder(tmp_path)
    assert inspection.refusal == str(caught.value)
    assert ("tokenizer", f"refused: {caught.value}") in inspection.lines
    assert inspection.lines[-1] == ("result", "the folder is refused.")


def test_a_fault_in_one_part_does_not_hide_the_others(tmp_path):
    write_model(tmp_path, "lowercase")
    change(tmp_path, "config.json", activation_function="relu")
    (tmp_path / "model.safetensors").write_bytes(b"")
    lines = labelled(tmp_path)
    assert "Lowercase" in lines["tokenizer"] and "relu" in lines["shape"]
    assert lines["weights"].startswith("model.safetensors")


def test_weights_that_are_damaged_are_the_refusal(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "model.safetensors is not a readable" in labelled(tmp_path)["rows"]


def test_a_folder_without_weights_says_what_it_lacks(tmp_path):
    FOLDERS["plain_json"].write(tmp_path)
    inspection = inspect_folder(tmp_path)
    assert dict(inspection.lines)["weights"] == f"{tmp_path} lacks hparams.json"
    assert "holds neither model.safetensors nor" in inspection.refusal


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(ModelFileError, match="is not a folder"):
        inspect_folder(tmp_path / "nowhere")
