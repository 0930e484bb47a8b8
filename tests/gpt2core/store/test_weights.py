"""Weights in safetensors files: mapped and not copied, and errors that name the tensor.

``safetensors``, the format's own library, is the judge of what is written and the maker
of what is read.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpt2core.errors import ModelFileError
from gpt2core.hparams import HParams
from gpt2core.store.weights import (
    check_finite,
    load_params,
    params_from_tensors,
    save_params,
    shape_tree,
    tensors_from_params,
)
from tests.helpers.maps import mapped_inode
from tests.helpers.openai_layout import seeded_params, seeded_tensors

TINY = HParams(n_vocab=40, n_ctx=16, n_embd=6, n_head=2, n_layer=2)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    return seeded_tensors(TINY)


def assert_same_params(params, expected) -> None:
    found, wanted = tensors_from_params(params), tensors_from_params(expected)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].dtype == np.float32, name
        assert np.array_equal(found[name], wanted[name]), name


# --- saved and loaded -------------------------------------------------------------


def test_what_is_saved_is_loaded(path):
    save_params(path, seeded_params(TINY))
    assert_same_params(load_params(path, TINY), seeded_params(TINY))


def test_the_formats_own_library_reads_what_is_saved(path, tensors):
    save_params(path, seeded_params(TINY))
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)


def test_float16_is_half_the_file_and_widened_on_load(path):
    save_params(path, seeded_params(TINY), "F16")
    assert path.stat().st_size < 2 * TINY.n_params + 5000
    rounded = params_from_tensors(
        {k: v.astype(np.float16).astype(np.float32) for k, v in seeded_tensors(TINY).items()},
        TINY.n_layer,
    )
    assert_same_params(load_params(path, TINY), rounded)


def write_raw(path: Path, header: dict, data: bytes, padding: int = 0) -> None:
    """A safetensors file of any header and data, right or wrong."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + padding)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_bfloat16_is_widened_on_load(path, tensors):
    # By hand, because NumPy has no bfloat16: the upper halves of the float32 numbers.
    header, data = {}, b""
    for name, array in tensors.items():
        upper = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": array.shape,
            "data_offsets": [len(data), len(data) + len(upper)],
        }
        data += upper
    write_raw(path, header, data)
    expected = {k: (v.view(np.uint32) & 0xFFFF0000).view(np.float32) for k, v in tensors.items()}
    assert_same_params(load_params(path, TINY), params_from_tensors(expected, TINY.n_layer))


def test_float32_is_mapped_read_only_and_not_copied(path):
    save_params(path, seeded_params(TINY))
    for name, array in tensors_from_params(load_params(path, TINY)).items():
        assert mapped_inode(array.ctypes.data) == path.stat().st_ino, name
        assert not array.flags.writeable and array.flags.aligned and type(array) is np.ndarray
    with open(path, "r+b") as file:  # a change of the file is a change of the weights
        params = load_params(path, TINY)
        file.seek(-4, 2)
        file.write(np.float32(42).tobytes())
        file.flush()
        assert params["ln_f"]["b"][-1] == 42


def test_an_unaligned_file_is_read_into_aligned_arrays(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    write_raw(path, header, data, padding=1)  # which shifts all that follows
    params = load_params(path, TINY)
    assert_same_params(params, seeded_params(TINY))
    assert params["wte"].flags.aligned


def test_shape_tree_shows_the_nested_shapes():
    tree = shape_tree(seeded_params(TINY))
    assert tree["wte"] == [40, 6] and tree["wpe"] == [16, 6]
    assert tree["ln_f"] == {"g": [6], "b": [6]}
    assert len(tree["blocks"]) == 2
    assert tree["blocks"][1] == {
        "ln_1": {"g": [6], "b": [6]},
        "attn": {"c_attn": {"w": [6, 18], "b": [18]}, "c_proj": {"w": [6, 6], "b": [6]}},
        "ln_2": {"g": [6], "b": [6]},
        "mlp": {"c_fc": {"w": [6, 24], "b": [24]}, "c_proj": {"w": [24, 6], "b": [6]}},
    }


# --- what other tools write -------------------------------------------------------


def test_names_may_have_the_prefix_of_transformers(path, tensors):
    save_file({f"transformer.{name}": array for name, array in tensors.items()}, path)
    assert_same_params(load_params(path, TINY), seeded_params(TINY))


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.uint8])
def test_mask_buffers_are_ignored(path, tensors, dtype):
    tensors["h.0.attn.bias"] = np.ones((1, 1, 16, 16), dtype)
    tensors["h.1.attn.masked_bias"] = np.array(1, dtype)
    save_file(tensors, path)
    assert_same_params(load_params(path, TINY), seeded_params(TINY))


def test_a_tied_head_is_ignored_and_any_other_is_an_error(path, tensors):
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    save_file(tensors, path)
    assert_same_params(load_params(path, TINY), seeded_params(TINY))
    tensors["lm_head.weight"][-1, -1] += 1
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match="'lm_head.weight' is not equal to 'wte.weight'"):
        load_params(path, TINY)


def test_a13_a_head_that_is_said_to_be_untied_must_be_there_and_equal(path, tensors):
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match="lacks the tensor 'lm_head.weight'"):
        load_params(path, TINY, tied=False)
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    save_file(tensors, path)
    assert_same_params(load_params(path, TINY, tied=False), seeded_params(TINY))


# --- shards -----------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path, tensors) -> Path:
    """The index of two shards, as transformers writes them."""
    table, names = {}, sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, tmp_path / file)
        table |= dict.fromkeys(part, file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    return index


def test_a10_shards_load_as_one_file_does_and_are_mapped(shards):
    params = load_params(shards, TINY)
    assert_same_params(params, seeded_params(TINY))
    assert not params["wte"].flags.owndata and not params["wte"].flags.writeable


def test_a10_a_missing_shard_is_named(shards):
    (shards.parent / "model-00002-of-00002.safetensors").unlink()
    message = refused_shards(shards)
    assert "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json" in message


def test_a10_a_shard_that_is_cut_off_is_named(shards):
    shard = shards.parent / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4])
    assert "model-00002-of-00002.safetensors is not a readable" in refused_shards(shards)


def test_a10_a_shard_without_its_tensors_is_an_error(shards):
    values = json.loads(shards.read_text())
    first = "model-00001-of-00002.safetensors"
    values["weight_map"] = dict.fromkeys(values["weight_map"], first)
    shards.write_text(json.dumps(values))
    assert "lacks the tensor" in refused_shards(shards)


@pytest.mark.parametrize(
    "table", [None, [], {}, {"wte.weight": 1}, {"wte.weight": "../a"}, {"wte.weight": ""}]
)
def test_a10_an_index_that_names_no_files_is_an_error(shards, table):
    shards.write_text(json.dumps({"weight_map": table}))
    assert "model.safetensors.index.json" in refused_shards(shards)


def test_a_tensor_in_two_shards_is_an_error(shards, tensors):
    shard = shards.parent / "model-00002-of-00002.safetensors"
    save_file(tensors, shard)
    assert "is there twice" in refused_shards(shards)


def refused_shards(index: Path) -> str:
    """The message of an index that must not load."""
    with pytest.raises(ModelFileError) as caught:
        load_params(index, TINY)
    assert str(index.parent) in str(caught.value)
    return str(caught.value)


# --- errors -----------------------------------------------------------------------


def refused(path: Path, hparams: HParams = TINY) -> str:
    """The message of a file that must not load."""
    with pytest.raises(ModelFileError) as caught:
        load_params(path, hparams)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_tensor_is_named(path, tensors):
    del tensors["h.1.mlp.c_fc.bias"]
    save_file(tensors, path)
    assert refused(path).endswith("lacks the tensor 'h.1.mlp.c_fc.bias'.")
    del tensors["h.0.ln_1.weight"], tensors["wpe.weight"]
    save_file(tensors, path)
    assert refused(path).endswith("lacks the tensor 'wpe.weight' and 2 others.")


def test_an_unknown_tensor_is_named(path, tensors):
    tensors["h.2.ln_1.weight"] = np.ones(6, np.float32)
    save_file(tensors, path)
    assert "holds a tensor 'h.2.ln_1.weight', which a GPT-2 of 2 layers" in refused(path)


@pytest.mark.parametrize("name", ["wte.weight", "h.0.attn.c_attn.weight", "lm_head.weight"])
def test_a_tensor_of_the_wrong_shape_is_named(path, tensors, name):
    tensors[name] = np.ones((3, 5), np.float32)
    save_file(tensors, path)
    assert f"tensor '{name}' has shape [3, 5], but the hyper-parameters ask for [" in refused(path)


def test_a_transposed_matrix_is_an_error(path, tensors):
    tensors["h.0.mlp.c_fc.weight"] = np.ascontiguousarray(tensors["h.0.mlp.c_fc.weight"].T)
    save_file(tensors, path)
    assert "has shape [24, 6], but the hyper-parameters ask for [6, 24]." in refused(path)


def test_a_tensor_of_integers_is_an_error(path, tensors):
    tensors["ln_f.bias"] = np.ones(6, np.int32)
    save_file(tensors, path)
    assert "tensor 'ln_f.bias' is I32; only F32, F16 and BF16 can be read." in refused(path)


@pytest.mark.parametrize("damage", [b"F16", b"F64"])
def test_a_type_that_does_not_match_the_bytes_is_an_error(path, damage):
    save_params(path, seeded_params(TINY))
    path.write_bytes(path.read_bytes().replace(b"F32", damage, 1))
    assert "tensor 'wte.weight' " in refused(path)


def test_a_file_that_is_no_safetensors_file_is_an_error(path):
    assert "No such file" in refused(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n")
    assert "is not a readable safetensors file: " in refused(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("h.1.mlp.c_fc.weight", np.nan), ("ln_f.bias", np.inf), ("wte.weight", -np.inf)],
)
def test_a9_a_number_that_is_not_finite_is_found_and_its_tensor_named(path, tensors, name, value):
    tensors[name].reshape(-1)[-1] = value
    save_file(tensors, path)
    params = load_params(path, TINY)
    with pytest.raises(ModelFileError, match=f"{path}: tensor '{name}' holds {value}"):
        check_finite(params, path)


def test_a9_every_number_is_looked_at(path, tensors, monkeypatch):
    monkeypatch.setattr("gpt2core.store.weights.CHECKED_AT_ONCE", 7)
    params = seeded_params(TINY)
    check_finite(params, path)
    for index in (0, 6, 7, 95):
        params["wpe"].reshape(-1)[index], kept = np.nan, params["wpe"].reshape(-1)[index]
        with pytest.raises(ModelFileError, match="'wpe.weight' holds nan"):
            check_finite(params, path)
        params["wpe"].reshape(-1)[index] = kept
