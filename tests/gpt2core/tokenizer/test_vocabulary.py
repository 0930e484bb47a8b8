"""A model's own vocabulary files are read; damaged ones and other kinds are errors."""

import json

import pytest

from gpt2core.errors import ModelFileError
from gpt2core.tokenizer.folder import encoder_from_directory
from gpt2core.tokenizer.table import ENDOFTEXT
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, default_encoder, read_merges
from tests.helpers.texts import CAPES, CAPES_IDS
from tests.helpers.tokenizer_folders import added


def write_vocabulary(folder, merges_name, ids_name, table):
    folder.joinpath(merges_name).write_bytes(VOCAB_PATH.read_bytes())
    folder.joinpath(ids_name).write_text(json.dumps(table), encoding="utf-8")


@pytest.mark.parametrize("names", [("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json")])
def test_a_models_own_vocabulary_files_are_read(tmp_path, names, encoder):
    # The last two pieces change places, so that the file is seen to be used.
    table = {**encoder.encoder, "Ġgazed": 50256, ENDOFTEXT: 50255}
    write_vocabulary(tmp_path, *names, table)
    own = encoder_from_directory(tmp_path)
    assert own.endoftext == 50255
    assert own.encode(" gazed") == [50256]
    assert own.encode(CAPES) == CAPES_IDS


def test_a_folder_without_vocabulary_files_gets_gpt2s_own(tmp_path):
    assert encoder_from_directory(tmp_path) is default_encoder()


@pytest.mark.parametrize(
    ("there", "lacks"),
    [("vocab.bpe", "encoder.json"), ("encoder.json", "vocab.bpe"), ("merges.txt", "vocab.json")],
)
def test_half_a_vocabulary_is_an_error_with_the_missing_file(tmp_path, there, lacks):
    tmp_path.joinpath(there).write_text("{}")
    with pytest.raises(ModelFileError, match=f"has {there} but not {lacks}"):
        encoder_from_directory(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        "not json",
        "[1, 2]",
        '{"a": "0"}',
        '{"a": 0.0}',
        '{"a": true}',
        '{"a": [0]}',
        "{}",
        '{"a": 0}',
    ],
)
def test_a_damaged_id_table_is_an_error(tmp_path, table):
    write_vocabulary(tmp_path, "vocab.bpe", "encoder.json", {})
    tmp_path.joinpath("encoder.json").write_text(table, encoding="utf-8")
    with pytest.raises(ModelFileError, match="encoder.json"):
        encoder_from_directory(tmp_path)


@pytest.mark.parametrize("change", [{"Ġgazed": 0}, {"Ġgazed": 1.0}, {"Ġgazed": -1}])
def test_ids_that_are_not_one_for_each_piece_are_an_error(tmp_path, change, encoder):
    write_vocabulary(tmp_path, "vocab.bpe", "encoder.json", {**encoder.encoder, **change})
    with pytest.raises(ModelFileError, match="an id of its own"):
        encoder_from_directory(tmp_path)


def tokenizer_json(encoder, merges, **changes):
    """What Hugging Face's libraries write for GPT-2, with other parts where ``changes`` say so."""
    vocabulary = {piece: i for piece, i in encoder.encoder.items() if piece != ENDOFTEXT}
    return {
        "version": "1.0",
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [added(ENDOFTEXT, 50256, special=True)],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    } | changes


@pytest.mark.parametrize("spelling", [list, " ".join], ids=["pairs", "older_strings"])
def test_a_tokenizer_json_is_read(tmp_path, spelling, encoder):
    merges = [spelling(pair) for pair in read_merges(VOCAB_PATH)]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(encoder, merges)), encoding="utf-8")
    own = encoder_from_directory(tmp_path)
    assert own.encoder == encoder.encoder and own.merge_ranks == encoder.merge_ranks
    assert own.encode(CAPES) == CAPES_IDS and own.endoftext == 50256


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        {"pre_tokenizer": None},
        {"model": {"type": "WordPiece", "vocab": {}}},
        {"model": None},
        {"model": {"type": "BPE", "vocab": {}, "merges": ["a b c"]}},
        {"added_tokens": None},
        {"added_tokens": [{"id": 50256}]},
        {"added_tokens": [added("<pad>", 0)]},
        {"added_tokens": [added("<pad>", 50257, lstrip=None)]},
    ],
    ids=str,
)
def test_a_tokenizer_json_of_another_kind_is_an_error(tmp_path, changes, encoder):
    values = tokenizer_json(encoder, read_merges(VOCAB_PATH), **changes)
    tmp_path.joinpath("tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelFileError, match="tokenizer.json: "):
        encoder_from_directory(tmp_path)


@pytest.mark.parametrize("merges", ["", "#version: 0.2\n", "#version: 0.2\na b c\n", "one\n"])
def test_a_damaged_merge_list_is_an_error(tmp_path, merges):
    path = tmp_path / "vocab.bpe"
    path.write_text(merges)
    with pytest.raises(ModelFileError, match="vocab.bpe is not a BPE vocabulary"):
        read_merges(path)


@pytest.mark.parametrize("n_bytes", [1, 2, 5])
def test_a_merge_list_that_is_cut_off_is_an_error(tmp_path, n_bytes):
    path = tmp_path / "vocab.bpe"
    path.write_bytes(VOCAB_PATH.read_bytes()[:-n_bytes])
    with pytest.raises(ModelFileError, match="vocab.bpe is cut off: its last line has no end"):
        read_merges(path)


@pytest.mark.parametrize("data", [b"\xff\xfe not UTF-8", None])
def test_an_unreadable_merge_list_is_an_error(tmp_path, data):
    path = tmp_path / "vocab.bpe"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_merges(path)


def test_a_merge_list_with_windows_line_ends_is_the_same(tmp_path):
    path = tmp_path / "vocab.bpe"
    path.write_bytes(VOCAB_PATH.read_bytes().replace(b"\n", b"\r\n"))
    assert read_merges(path) == read_merges(VOCAB_PATH)
