"""A whole folder as other tools leave it: loads right, or is refused in one sentence.

What a folder's tokenizer gives is in ``tests/gpt2core/tokenizer/test_folder.py``.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gpt2core.errors import InputError, ModelFileError
from gpt2core.hparams import HParams
from gpt2core.store.loader import get_encoder, load_model
from gpt2core.store.weights import save_params
from gpt2core.tokenizer.folder import read_tokenizer
from tests.helpers.model_folders import SHAPE, change, write_model
from tests.helpers.openai_layout import seeded_params, seeded_tensors
from tests.helpers.tokenizer_folders import (
    CONFIG,
    END,
    ENDOFTEXT,
    FOLDERS,
    N,
    added,
    decoder_table,
)

OWN_SHAPE = HParams(n_ctx=64, n_embd=8, n_head=2, n_layer=1)
OWN_CONFIG = CONFIG | {"vocab_size": 50257, "bos_token_id": 50256, "eos_token_id": 50256}


def write_own(directory: Path, **config) -> Path:
    """A model with the shape of GPT-2's own vocabulary, and no tokenizer."""
    (directory / "config.json").write_text(json.dumps(OWN_CONFIG | config))
    shape = HParams(**{**OWN_SHAPE.to_dict(), "n_vocab": config.get("vocab_size", 50257)})
    save_params(directory / "model.safetensors", seeded_params(shape))
    return directory


def refusal(directory: Path) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(ModelFileError) as caught:
        load_model(str(directory))
    message = str(caught.value)
    assert str(directory) in message and "\n" not in message and message.endswith(".")
    return message


# --- A3: what speaks against GPT-2's own vocabulary -------------------------------


OTHERS = ["spiece.model", "vocab.txt", "tokenizer.model", "sentencepiece.bpe.model", "x.tiktoken"]


@pytest.mark.parametrize("file", OTHERS)
def test_a3_a_file_of_another_tokenizer_is_named(tmp_path, file):
    write_own(tmp_path)
    (tmp_path / file).write_bytes(b"\x0a")
    assert f"has {file} and no GPT-2 vocabulary" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("name", ["BertTokenizerFast", "T5Tokenizer", "LlamaTokenizer", 7])
def test_a3_a_class_of_another_tokenizer_is_named(tmp_path, file, name):
    write_own(tmp_path)
    change(tmp_path, file, tokenizer_class=name)
    assert f"{file}: tokenizer_class is {name!r}" in refusal(tmp_path)


@pytest.mark.parametrize("n_rows", [64_000, 51_201, 50_256, 300])
def test_a3_rows_that_are_not_gpt2s_tokens_are_refused(tmp_path, n_rows):
    write_own(tmp_path, vocab_size=n_rows)
    assert f"its {n_rows:,} tokens are not those of GPT-2's own vocabulary" in refusal(tmp_path)


@pytest.mark.parametrize("ends", [0, 2, 50257, [50256, 3]])
def test_a3_a_last_token_that_is_not_gpt2s_is_refused(tmp_path, ends):
    write_own(tmp_path, eos_token_id=ends)
    assert "config.json: eos_token_id is" in refusal(tmp_path)


@pytest.mark.parametrize("n_rows", [50257, 50304, 51200])
def test_a3_without_evidence_against_it_gpt2s_own_vocabulary_is_used(tmp_path, n_rows):
    model = load_model(str(write_own(tmp_path, vocab_size=n_rows)))
    assert model.encoder.encode("Not all") == [3673, 477] and model.hparams.n_vocab == 50257


# --- A7: what ends a text ---------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        (..., ..., {END}),
        (7, ..., {7}),
        ([7, 8], ..., {7, 8}),
        (7, 9, {9}),
        (7, [9, 10], {9, 10}),
        (7, None, {7}),
        (N + 40, ..., {END}),
        ([N + 40, 7], ..., {7}),
    ],
)
def test_a7_what_ends_a_text_is_read_from_the_folder(tmp_path, config, generation, ends):
    write_model(tmp_path)
    change(tmp_path, "config.json", eos_token_id=config)
    change(tmp_path, "generation_config.json", eos_token_id=generation)
    assert load_model(str(tmp_path)).encoder.rules.end_ids == ends


def test_a7_an_added_token_may_end_a_text(tmp_path):
    write_model(tmp_path, "added_json", HParams(**{**SHAPE.to_dict(), "n_vocab": N + 3}))
    change(tmp_path, "config.json", eos_token_id=N)
    assert load_model(str(tmp_path)).encoder.rules.end_ids == {N}


@pytest.mark.parametrize("value", ["7", -1, 1.0, True, [7, None], {}])
def test_a7_what_cannot_be_a_token_is_told(tmp_path, value):
    write_model(tmp_path)
    change(tmp_path, "generation_config.json", eos_token_id=value)
    assert "generation_config.json: eos_token_id is" in refusal(tmp_path)


# --- A8, A11: hyper-parameters ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("activation_function", "relu"), ("n_inner", 100), ("model_type", "llama"), ("n_head", 4)],
)
def test_a8_hparams_json_does_not_hide_the_checks_of_config_json(tmp_path, name, value):
    write_model(tmp_path)
    (tmp_path / "hparams.json").write_text(json.dumps(SHAPE.to_dict()))
    assert load_model(str(tmp_path)).hparams == SHAPE
    change(tmp_path, "config.json", **{name: value})
    assert name in refusal(tmp_path) and "config.json" in refusal(tmp_path)


@pytest.mark.parametrize("n_ctx", [48, 1024, 0])
def test_a11_n_positions_decides_over_n_ctx(tmp_path, n_ctx):
    write_model(tmp_path)
    change(tmp_path, "config.json", n_ctx=n_ctx, n_positions=64)
    assert load_model(str(tmp_path)).hparams.n_ctx == 64


@pytest.mark.parametrize(("name", "value"), [("n_layer", "1"), ("n_embd", ...), ("n_head", 0)])
def test_a13_a_fault_in_a_number_names_its_file(tmp_path, name, value):
    write_model(tmp_path)
    change(tmp_path, "config.json", **{name: value})
    assert f"{tmp_path / 'config.json'}: " in refusal(tmp_path)


# --- A9, A10: weights -------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["h.0.mlp.c_fc.weight", "ln_f.bias", "wpe.weight"])
def test_a9_weights_that_are_not_finite_are_refused_when_the_model_is_loaded(tmp_path, name, value):
    write_model(tmp_path)
    tensors = seeded_tensors(SHAPE)
    tensors[name].reshape(-1)[5] = value
    save_file(tensors, tmp_path / "model.safetensors")
    assert f"model.safetensors: tensor {name!r} holds {value}" in refusal(tmp_path)


def test_a10_a_folder_with_shards_is_a_model(tmp_path):
    whole = write_model(tmp_path / "whole")
    shards = FOLDERS["plain_json"].write(tmp_path / "shards")
    tensors, table = seeded_tensors(SHAPE), {}
    for number, names in enumerate((sorted(tensors)[:5], sorted(tensors)[5:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, shards / file)
        table |= dict.fromkeys(names, file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    ids = get_encoder(str(shards)).encode("Not all")
    logits = [
        engine.prefill(engine.open(), ids)
        for engine in (load_model(str(folder)).engine() for folder in (whole, shards))
    ]
    assert np.array_equal(*logits)


def test_a9_weights_that_were_packed_are_not_looked_at_again(tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2core.store.packed_files.SHARED_FROM", 0)
    write_model(tmp_path)
    model = load_model(str(tmp_path))
    model.engine()
    assert (tmp_path / "model.float32.safetensors").exists()
    looks = []
    monkeypatch.setattr("gpt2core.store.loader.check_finite", lambda *_: looks.append(1))
    load_model(str(tmp_path))
    assert not looks
    save_params(tmp_path / "model.safetensors", seeded_params(SHAPE, seed=5))
    load_model(str(tmp_path))
    assert looks


# --- A13: what works elsewhere ----------------------------------------------------


@pytest.mark.parametrize("kind", ["pad_config", "pad_json", "pads_config"])
def test_a13_a_token_without_a_row_loads_and_is_refused_in_a_prompt(tmp_path, kind):
    model = load_model(str(write_model(tmp_path, kind)))
    assert model.hparams.n_vocab == N and model.encoder.encoder["[PAD]"] >= N
    engine = model.engine()
    assert engine.prefill(engine.open(), model.encoder.encode("Not all")).shape == (N,)
    with pytest.raises(InputError):
        engine.prefill(engine.open(), model.encoder.encode("Not[PAD]", special_tokens=True))


@pytest.mark.parametrize("kind", ["gap_config", "gap_file", "gap_json"])
def test_a13_rows_between_added_tokens_load_and_are_never_sampled(tmp_path, kind):
    shape = HParams(**{**SHAPE.to_dict(), "n_vocab": N + 6})
    write_model(tmp_path, kind, shape)
    params = seeded_params(shape)
    gaps = [N, N + 1, N + 2, N + 4]
    params["wte"][gaps] *= 100  # the likeliest, if they could be
    save_params(tmp_path / "model.safetensors", params)
    model = load_model(str(tmp_path))
    assert model.unused_ids == tuple(gaps) and model.hparams.n_vocab == N + 6
    engine = model.engine()
    slot = engine.open()
    logits = engine.prefill(slot, model.encoder.encode("Not all"))
    assert np.isneginf(logits[gaps]).all() and np.isfinite(np.delete(logits, gaps)).all()
    logits = engine.step([slot], [int(logits.argmax())])[0]
    assert np.isneginf(logits[gaps]).all()
    for bad in gaps:
        with pytest.raises(InputError):
            engine.step([slot], [bad])


def write_numbered(directory: Path, ids: dict[str, int], n_rows: int) -> Path:
    """A folder whose ``tokenizer.json`` lists these added tokens in this order."""
    write_model(directory, "plain_json", HParams(**{**SHAPE.to_dict(), "n_vocab": n_rows}))
    tokens = [added(ENDOFTEXT, END, special=True), *(added(name, id) for name, id in ids.items())]
    change(directory, "tokenizer.json", added_tokens=tokens)
    return directory


@pytest.mark.parametrize(
    ("ids", "n_rows"),
    [
        ({"<sep>": N + 1, "[X]": N + 2}, N + 4),  # without the token at N; some row is spare
        ({"<sep>": N + 1}, N + 64),
        ({"<mask>": 2 * N, "<sep>": N + 1}, N + 2),  # one id moved beyond the rows
        ({"<mask>": N, "<sep>": N + 9}, N + 2),
        ({"<sep>": N + 1, "<mask>": N}, N + 2),  # no gap, but out of order
        ({"<mask>": N + 1, "<sep>": N + 2, "[X]": N}, N + 3),
    ],
)
def test_ids_that_other_readers_of_tokenizer_json_number_otherwise_are_refused(
    tmp_path, ids, n_rows
):
    told = refusal(write_numbered(tmp_path, ids, n_rows))
    assert "tokenizer.json: the added token" in told and "fast tokenizers give it" in told


@pytest.mark.parametrize("ids", [{"<sep>": N + 1, "[X]": N + 2}, {"<mask>": N, "<sep>": N + 4}])
def test_ids_behind_a_gap_are_kept_and_told_if_the_last_row_is_theirs(tmp_path, ids):
    write_numbered(tmp_path, ids, max(ids.values()) + 1)
    reading = read_tokenizer(tmp_path)
    assert reading.encoder.encode("".join(ids)) == list(ids.values())
    assert any("<sep> keeps its id" in note for note in reading.notes)
    load_model(str(tmp_path))


@pytest.mark.parametrize("kind", ["gap_config", "gap_file"])
def test_ids_behind_a_gap_without_a_row_are_refused(tmp_path, kind):
    write_model(tmp_path, kind, HParams(**{**SHAPE.to_dict(), "n_vocab": N + 5}))
    assert f"'<|bot|>' has id {N + 5}" in refusal(tmp_path)


def test_a13_a_head_that_is_said_to_be_untied_but_equal_loads(tmp_path):
    write_model(tmp_path)
    change(tmp_path, "config.json", tie_word_embeddings=False)
    assert "lacks the tensor 'lm_head.weight'" in refusal(tmp_path)
    tensors = seeded_tensors(SHAPE)
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_model(str(tmp_path)).hparams == SHAPE
    tensors["lm_head.weight"][3] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    assert "'lm_head.weight' is not equal to 'wte.weight'" in refusal(tmp_path)


def test_a13_a_piece_of_bpe_without_a_row_is_a_fault(tmp_path):
    write_model(tmp_path, shape=HParams(**{**SHAPE.to_dict(), "n_vocab": N - 2}))
    assert f"the vocabulary has ids up to {N - 2:,}" in refusal(tmp_path)


# --- what contradicts each other --------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "values", "told"),
    [
        ("plain_both", "vocab.json", {"!": 1, '"': 0}, "'!' has id 0 in tokenizer.json and 1 in"),
        ("plain_both", "vocab.json", {"!": ...}, "'!' has id 0 in tokenizer.json and None in"),
        ("added_json", "added_tokens.json", {"<|user|>": N + 1}, "contradicts tokenizer.json"),
        ("added_json", "added_tokens.json", {"<|new|>": N}, "'<|new|>' has id"),
        ("added_json", "added_tokens.json", {"": N + 9}, "no content"),
        (
            "added_json", "tokenizer_config.json",
            {"added_tokens_decoder": decoder_table(added("<|user|>", N, True, lstrip=True))},
            "contradicts tokenizer.json about",
        ),
        ("prefix_json", "tokenizer_config.json", {"add_prefix_space": False}, "add_prefix_space"),
        ("bos_config", "tokenizer_config.json", {"add_bos_token": 1}, "true or false"),
        ("plain_two", "tokenizer_config.json", {"do_lower_case": True}, "do_lower_case is True"),
        ("plain_two", "tokenizer_config.json", {"pad_token": 7}, "content is None"),
        ("plain_two", "tokenizer_config.json", {"extra_special_tokens": "x"}, "must be a list"),
        ("plain_two", "special_tokens_map.json", {"additional_special_tokens": {}}, "must be a"),
        ("gap_file", "tokenizer_config.json", {"pad_token": "[PAD]"}, "'[PAD]', which has no id"),
        ("plain_two", "tokenizer_config.json", {"added_tokens_decoder": {"a": {}}}, "the id 'a'"),
    ],
)  # fmt: skip
def test_files_that_contradict_each_other_are_told(tmp_path, kind, name, values, told):
    write_model(tmp_path, kind)
    change(tmp_path, name, **values)
    assert told in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "config", "special_map"),
    [
        ("eos_token", "x", ENDOFTEXT),
        ("pad_token", {"content": "re"}, "x"),
        ("additional_special_tokens", ["<|user|>"], ["<|bot|>", "<|user|>"]),
    ],
)
def test_files_that_name_different_special_tokens_are_told(tmp_path, name, config, special_map):
    write_model(tmp_path, "added_file")
    for one in (config, special_map):
        change(tmp_path, "tokenizer_config.json", **{name: config})
        change(tmp_path, "special_tokens_map.json", **{name: one})
        if one is config:
            read_tokenizer(tmp_path)
    assert f"special_tokens_map.json contradicts tokenizer_config.json about {name}" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("unk_token", True), ("unk_token", {}), ("fuse_unk", "x"), ("byte_fallback", 1)],
)
def test_settings_of_the_wrong_type_are_told_though_they_change_no_id(tmp_path, name, value):
    write_model(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    change(tmp_path, "tokenizer.json", model=model | {name: value})
    assert f"tokenizer.json: {name} is" in refusal(tmp_path)


def test_merges_that_differ_between_two_files_are_told(tmp_path):
    write_model(tmp_path, "plain_both")
    lines = (tmp_path / "merges.txt").read_text().splitlines()
    (tmp_path / "merges.txt").write_text("\n".join([*lines[:5], *lines[6:]]) + "\n")
    assert "have different merges" in refusal(tmp_path)
