"""Names and folders: what a model is, what is there of it, and what other tools saved.

``golden/hf_gpt2`` is a directory that Hugging Face transformers saved, with what it says
of a text; ``tools/make_hf_directory.py`` made it. Where transformers itself can be
imported, the last tests ask it directly, with the same weights on both sides.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import gpt2core
from gpt2core.errors import ModelFileError
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.store.folder import DATA_FILE, OPENAI_FILES, WEIGHTS_FILE, Progress, read_hparams
from gpt2core.store.loader import (
    get_encoder,
    get_hparams,
    load_encoder_hparams_and_params,
    load_model,
    model_directory,
    model_state,
    prepare_model,
)
from gpt2core.store.weights import save_params, tensors_from_params
from gpt2core.tokenizer.folder import encoder_from_directory
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.openai_layout import (
    SMALL,
    ReleaseServer,
    seeded_params,
    small_release,
    tensorflow_stand_in,
)
from tests.helpers.paths import GOLDEN

HF_DIRECTORY = GOLDEN / "hf_gpt2"
PROMPT = "Alan Turing theorized that computers would one day become"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return small_release(tmp_path_factory)


@pytest.fixture
def unreachable_server(monkeypatch):
    """A base URL that fails: what is on the disk must be enough."""
    monkeypatch.setenv("GPT2_BASE_URL", "http://127.0.0.1:9/unreachable")


@pytest.fixture
def ready(tmp_path) -> Path:
    """A models folder with one model of our own, ``mine``."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "hparams.json").write_text(json.dumps(SMALL.to_dict()))
    save_params(folder / WEIGHTS_FILE, seeded_params(SMALL))
    return folder


# --- names ------------------------------------------------------------------------


def test_a_name_leads_to_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    assert model_directory("mine") == Path("models/mine")
    assert model_directory("elsewhere") == Path("elsewhere")
    assert model_directory("124M") == Path("models/124M")
    assert model_directory("124M", "else") == Path("else/124M")
    assert (model_directory("demo") / WEIGHTS_FILE).is_file()
    with pytest.raises(ModelFileError, match="name is empty"):
        model_directory("")


def test_a_model_by_name_and_by_directory(ready):
    by_name, by_path = load_model("mine", ready.parent), load_model(str(ready))
    assert by_name.name == "mine" and by_name.hparams == by_path.hparams == SMALL
    assert np.array_equal(by_name.params["wte"], by_path.params["wte"])


def test_the_demo_is_always_there(tmp_path, unreachable_server):
    prepare_model("demo", tmp_path)
    assert model_state("demo", tmp_path).status == "ready"
    assert load_model("demo", tmp_path).encoder.encode("Not all") == [3673, 477]


# --- states -----------------------------------------------------------------------


def test_states_from_missing_to_ready(release, tmp_path):
    folder = tmp_path / "124M"
    assert model_state("124M", tmp_path) == gpt2core.ModelState("missing", 0, 497_759_232)
    folder.mkdir()
    assert model_state("124M", tmp_path).status == "missing"
    for name in OPENAI_FILES[:-1]:
        shutil.copy(release / name, folder)
    (folder / f"{DATA_FILE}.part").write_bytes(bytes(1000))
    small = sum((release / name).stat().st_size for name in OPENAI_FILES[:-1])
    total = small + 4 * SMALL.n_params
    assert model_state("124M", tmp_path) == gpt2core.ModelState("partial", small + 1000, total)
    os.rename(folder / f"{DATA_FILE}.part", folder / DATA_FILE)  # picoGPT's way, cut off
    assert model_state("124M", tmp_path).status == "partial"
    shutil.copy(release / DATA_FILE, folder)
    assert model_state("124M", tmp_path) == gpt2core.ModelState("needs conversion", total, total)
    save_params(folder / WEIGHTS_FILE, seeded_params(SMALL))
    size = (folder / WEIGHTS_FILE).stat().st_size
    assert model_state("124M", tmp_path) == gpt2core.ModelState("ready", size, size)


def test_the_state_of_a_folder_that_is_no_release(release, tmp_path):
    shutil.copytree(release, tmp_path / "mine")
    assert model_state("mine", tmp_path).status == "needs conversion"
    (tmp_path / "mine" / "hparams.json").write_text("{}")
    assert model_state("mine", tmp_path) == gpt2core.ModelState("missing", 0, 0)
    assert model_state("unknown", tmp_path) == gpt2core.ModelState("missing", 0, 0)


@pytest.mark.parametrize("size", MODEL_SIZES)
def test_a_missing_size_knows_what_its_download_takes(size, tmp_path):
    state = model_state(size, tmp_path)
    assert state.status == "missing" and state.bytes_total == 4 * MODEL_SIZES[size].n_params


# --- preparing --------------------------------------------------------------------


def test_a_missing_model_is_downloaded_converted_and_loaded(release, tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text(tensorflow_stand_in())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen: list[Progress] = []
    with ReleaseServer(release.parent) as server:
        monkeypatch.setenv("GPT2_BASE_URL", server.url)
        encoder, hparams, params = load_encoder_hparams_and_params("124M", tmp_path, seen.append)
        assert len(server.requests) == len(OPENAI_FILES)
    assert [seen[0].phase, seen[-1].phase] == ["download", "convert"]
    assert type(hparams) is dict and hparams == SMALL.to_dict()
    for name, array in tensors_from_params(seeded_params(SMALL)).items():
        assert np.array_equal(tensors_from_params(params)[name], array)
    assert encoder.encode(PROMPT)[:3] == [36235, 39141, 18765]

    seen.clear()  # and again, now that the server is gone
    load_encoder_hparams_and_params("124M", tmp_path, seen.append)
    assert seen == []


def test_a_ready_model_needs_no_network_and_writes_nothing(ready, unreachable_server):
    os.rename(ready, ready.parent / "124M")
    before = sorted(path.name for path in ready.parent.rglob("*"))
    load_encoder_hparams_and_params("124M", ready.parent)
    assert sorted(path.name for path in ready.parent.rglob("*")) == before


def test_the_tokenizer_works_during_the_download(release, tmp_path):
    folder = tmp_path / "124M"
    assert get_encoder("124M", tmp_path) is default_encoder()
    folder.mkdir()
    shutil.copy(release / "encoder.json", folder)  # and vocab.bpe not yet
    assert get_encoder("124M", tmp_path).encode("Not all") == [3673, 477]


# --- errors -----------------------------------------------------------------------


@pytest.mark.parametrize("work", [prepare_model, load_model, get_encoder])
def test_an_unknown_model_is_an_error_with_the_known_ones(work, tmp_path, unreachable_server):
    with pytest.raises(ModelFileError) as caught:
        work("12M", tmp_path)
    assert str(caught.value) == (
        f"there is no model '12M': {tmp_path / '12M'} is not a folder. There are 'demo', "
        "124M, 355M, 774M, 1558M and folders of your own."
    )
    assert list(tmp_path.iterdir()) == []


def test_loading_does_not_download(tmp_path):
    with pytest.raises(ModelFileError, match="`python -m gpt2core download 355M` makes it so"):
        load_model("355M", tmp_path)


def test_loading_does_not_convert(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "mine")
    with pytest.raises(ModelFileError, match=f"`python -m gpt2core convert {folder}` does it"):
        load_model("mine", tmp_path)


@pytest.mark.parametrize("work", [prepare_model, load_model])
def test_a_folder_without_weights_is_an_error(work, tmp_path, unreachable_server):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ModelFileError, match="neither model.safetensors nor OpenAI's .* saved as"):
        work("mine", tmp_path)


def test_a_checkpoint_without_its_data_is_an_error(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "mine")
    (folder / DATA_FILE).unlink()
    with pytest.raises(ModelFileError, match=f"cannot be converted: {folder} lacks {DATA_FILE}"):
        prepare_model("mine", tmp_path)


def test_weights_without_hyper_parameters_are_an_error(ready):
    (ready / "hparams.json").unlink()
    with pytest.raises(ModelFileError, match="holds neither hparams.json nor config.json"):
        load_model(str(ready))


def test_a_vocabulary_larger_than_the_weights_is_an_error(tmp_path):
    hparams = HParams(n_vocab=300, n_ctx=8, n_embd=4, n_head=2, n_layer=1)
    (tmp_path / "hparams.json").write_text(json.dumps(hparams.to_dict()))
    save_params(tmp_path / WEIGHTS_FILE, seeded_params(hparams))
    with pytest.raises(ModelFileError, match="its 300 tokens are not those of GPT-2's own"):
        load_model(str(tmp_path))


def test_padding_rows_of_the_vocabulary_are_never_sampled(tmp_path):
    """nanoGPT and others fill the vocabulary up to a round number."""
    padded = HParams(n_vocab=50304, n_ctx=16, n_embd=8, n_head=2, n_layer=1)
    params = seeded_params(padded)
    params["wte"][50257:] *= 100  # the likeliest, if they could be
    (tmp_path / "hparams.json").write_text(json.dumps(padded.to_dict()))
    save_params(tmp_path / WEIGHTS_FILE, params)
    model = load_model(str(tmp_path))
    assert model.hparams.n_vocab == 50257
    ids = model.encoder.encode("Not all")
    logits = gpt2core.gpt2(ids, **model.params, n_head=2)  # [n_seq, n_vocab]
    assert logits.shape == (2, 50257)
    engine = model.engine()
    from_engine = engine.prefill(engine.open(), ids)
    assert from_engine.shape == (50257,) and np.abs(from_engine - logits[-1]).max() < 1e-4


def test_a_name_that_no_folder_can_have_is_one_sentence(monkeypatch):
    for ask in (model_state, prepare_model, load_model, get_encoder, get_hparams):
        with pytest.raises(ModelFileError, match="'nn+' cannot be looked for: .*too long"):
            ask("n" * 300)


def test_without_tensorflow_nothing_is_downloaded(tmp_path, monkeypatch, unreachable_server):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelFileError, match="can only be read by TensorFlow"):
        prepare_model("124M", tmp_path)
    assert not (tmp_path / "124M").exists()


# --- what other tools saved -------------------------------------------------------


def test_a_directory_saved_by_transformers_loads_as_it_is():
    expected = np.load(HF_DIRECTORY / "expected.npz")
    model = load_model(str(HF_DIRECTORY))
    ids = model.encoder.encode(str(expected["text"]))
    assert ids == expected["ids"].tolist()
    assert model.encoder.decode(ids) == str(expected["text"])
    assert model.encoder.endoftext == model.hparams.n_vocab - 1 == 356
    logits = gpt2core.gpt2(ids, **model.params, n_head=model.hparams.n_head)
    assert logits.dtype == np.float32
    assert np.abs(logits - expected["logits"]).max() < 1e-4
    greedy = gpt2core.generate(ids, model.params, model.hparams.n_head, len(expected["greedy"]))
    assert greedy == expected["greedy"].tolist()


def test_added_tokens_are_read_beside_the_two_files(tmp_path):
    values = json.loads((HF_DIRECTORY / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(values["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in values["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    n = len(values["vocab"])
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|pad|>": n}))
    encoder = encoder_from_directory(tmp_path)
    assert encoder.n_vocab == n + 1 and encoder.decode([n]) == "<|pad|>"


def test_the_two_files_of_older_transformers_are_read(tmp_path):
    """``vocab.json`` and ``merges.txt``, as every release before 5 wrote them."""
    values = json.loads((HF_DIRECTORY / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(values["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in values["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    text = str(np.load(HF_DIRECTORY / "expected.npz")["text"])
    expected = get_encoder(str(HF_DIRECTORY)).encode(text)
    assert get_encoder(str(tmp_path)).encode(text) == expected


def test_merges_spelled_as_in_older_tokenizer_json_are_read(tmp_path):
    values = json.loads((HF_DIRECTORY / "tokenizer.json").read_text())
    values["model"]["merges"] = [" ".join(pair) for pair in values["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert get_encoder(str(tmp_path)).encode("Not all heroes") == [45, 313, 257, 297, 339, 305, 274]


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"model": {"type": "WordPiece"}},
        {"model": {}},
    ],
)
def test_a_tokenizer_unlike_gpt2s_is_an_error(tmp_path, change):
    values = json.loads((HF_DIRECTORY / "tokenizer.json").read_text()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match="tokenizer.json: .* not support"):
        get_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model_type", "llama"),
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 100),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", "no"),
    ],
)
def test_a_config_of_another_network_is_an_error(tmp_path, setting, value):
    values = json.loads((HF_DIRECTORY / "config.json").read_text()) | {setting: value}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match=f"config.json sets {setting} to {value!r}; this GPT"):
        read_hparams(tmp_path)


def test_an_older_config_names_the_context_itself(tmp_path):
    values = {"n_ctx": 1024, "n_positions": 1024, "vocab_size": 50257, "n_embd": 768,
              "n_head": 12, "n_layer": 12, "model_type": "gpt2"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_hparams(tmp_path) == MODEL_SIZES["124M"]


@pytest.mark.parametrize("body", ["", "[]", "{", "null"])
def test_unreadable_hyper_parameters_are_an_error(tmp_path, body):
    (tmp_path / "hparams.json").write_text(body)
    with pytest.raises(ModelFileError, match="hparams.json cannot be read"):
        read_hparams(tmp_path)


# --- transformers itself, where it is installed -----------------------------------


@pytest.fixture
def transformers():
    pytest.importorskip("torch", reason="needs torch and transformers (requirements-bench.txt)")
    return pytest.importorskip("transformers", reason="needs transformers")


def hf_logits_and_greedy(model, ids, n):
    """What transformers says: logits after each id, and ``n`` greedy ids."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
        text = list(ids)
        for _ in range(n):
            text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    return logits, text[len(ids) :]


def hf_config(transformers, hparams: HParams):
    return transformers.GPT2Config(
        vocab_size=hparams.n_vocab,
        n_positions=hparams.n_ctx,
        n_embd=hparams.n_embd,
        n_head=hparams.n_head,
        n_layer=hparams.n_layer,
    )


def assert_agree(ours, theirs) -> None:
    ids = ours.encoder.encode(PROMPT)
    logits = gpt2core.gpt2(ids, **ours.params, n_head=ours.hparams.n_head)
    greedy = gpt2core.generate(ids, ours.params, ours.hparams.n_head, 20)
    their_logits, their_greedy = hf_logits_and_greedy(theirs.eval(), ids, 20)
    assert np.abs(logits - their_logits).max() < 1e-4
    assert greedy == their_greedy


def test_transformers_loads_ours_with_equal_logits(transformers, ready):
    hf_config(transformers, SMALL).save_pretrained(ready)
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(ready, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert_agree(load_model(str(ready)), theirs)


@pytest.mark.parametrize("class_name", ["GPT2LMHeadModel", "GPT2Model"])
def test_a_model_saved_by_transformers_has_equal_logits_here(
    transformers, ready, tmp_path, class_name
):
    config = hf_config(transformers, SMALL)
    config.save_pretrained(ready)
    getattr(transformers, class_name).from_pretrained(ready).save_pretrained(tmp_path / "theirs")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(ready)
    assert_agree(load_model(str(tmp_path / "theirs")), theirs)


def test_the_checkpoint_path_agrees_with_transformers(transformers, release, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow", reason="needs tensorflow (requirements.txt)")
    folder = shutil.copytree(release, tmp_path / "mine")
    prepare_model("mine", tmp_path)
    hf_config(transformers, SMALL).save_pretrained(folder)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    assert_agree(load_model("mine", tmp_path), theirs)
