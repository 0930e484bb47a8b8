"""Packed weights on disk: the same model, complete, shared, never stale."""

import os
import shutil
from multiprocessing import get_context

import numpy as np
import pytest
from safetensors import safe_open

from gpt2core.engine.engine import Engine
from gpt2core.engine.packed import PackedWeights, pack, packed_tensors
from gpt2core.store import packed_files
from gpt2core.store.packed_files import open_packed
from gpt2core.store.tensor_files import open_safetensors
from gpt2core.store.weights import load_params, save_params
from tests.helpers.maps import mapped_inode
from tests.helpers.small_models import SMALL_MODELS

SMALL = SMALL_MODELS["released_spreads"]
OTHER = SMALL_MODELS["large_weights"]
FILE = "model.float32.safetensors"
INT8_TENSORS = packed_tensors(SMALL.hparams, "int8")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A model's file, whose packed weights are kept in a file although it is small."""
    monkeypatch.setattr(packed_files, "SHARED_FROM", 0)
    path = tmp_path / "model.safetensors"
    save_params(path, SMALL.params())
    return path


def assert_same(a: PackedWeights, b: PackedWeights):
    for name in PackedWeights._fields:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def expected():
    return pack(SMALL.params(), SMALL.hparams)


def test_the_file_holds_what_memory_would(source):
    assert_same(open_packed(source, SMALL.hparams, load_params), expected())
    assert_same(open_packed(source, SMALL.hparams, load_params), expected())
    assert sorted(os.listdir(source.parent)) == sorted([FILE, source.name])


def test_the_file_is_mapped_and_written_once(source):
    open_packed(source, SMALL.hparams, load_params)
    path = source.with_name(FILE)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    weights = open_packed(source, SMALL.hparams, load_params)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert not weights.vocab_w.flags.writeable and not weights.vocab_w.flags.owndata
    assert weights.qkv_w.ctypes.data % 64 == 0  # whole registers in whole cache lines


def test_other_weights_of_the_same_shape_are_packed_again(source):
    open_packed(source, SMALL.hparams, load_params)
    params = SMALL.params()
    params["wte"] *= 2
    save_params(source, params)
    weights = open_packed(source, SMALL.hparams, load_params)
    assert_same(weights, pack(params, SMALL.hparams))


def test_weights_that_change_while_they_are_packed_are_packed_again(source):
    later = SMALL.params()
    later["wte"] *= 2

    def load(path, hparams):
        params = load_params(path, hparams)
        save_params(source, later)  # which the map of the file before does not see
        return params

    assert_same(open_packed(source, SMALL.hparams, load), expected())
    assert_same(open_packed(source, SMALL.hparams, load_params), pack(later, SMALL.hparams))


def test_a10_another_shard_behind_the_same_index_is_packed_again(source):
    index = source.with_name("model.safetensors.index.json")
    index.write_text('{"weight_map": {"wte.weight": "model.safetensors"}}')
    open_packed(index, SMALL.hparams, lambda path, hparams: load_params(source, hparams))
    params = SMALL.params()
    params["wte"] += 1
    save_params(source, params)
    again = open_packed(index, SMALL.hparams, lambda path, hparams: load_params(source, hparams))
    assert_same(again, pack(params, SMALL.hparams))


def test_another_model_in_the_same_place_is_packed_again(source):
    open_packed(source, SMALL.hparams, load_params)
    save_params(source, OTHER.params())
    assert_same(
        open_packed(source, OTHER.hparams, load_params),
        pack(OTHER.params(), OTHER.hparams),
    )


@pytest.mark.parametrize(
    "damage", ["cut off", "empty", "longer", "another version", "another name", "other places"]
)
def test_a_damaged_file_is_written_again(source, damage):
    open_packed(source, SMALL.hparams, load_params)
    path = source.with_name(FILE)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut off": data[:-4],
            "empty": b"",
            "longer": data + b"    ",
            "another version": data.replace(b'version\\": 1', b'version\\": 0', 1),
            "another name": data.replace(b'"qkv_w"', b'"qkv_x"', 1),
            "other places": data.replace(b'"data_offsets": [0, ', b'"data_offsets": [4, ', 1),
        }[damage]
    )
    assert_same(open_packed(source, SMALL.hparams, load_params), expected())


def test_open_weights_outlive_its_file(source):
    weights = open_packed(source, SMALL.hparams, load_params)
    params = SMALL.params()
    params["wte"] *= 2
    save_params(source, params)
    open_packed(source, SMALL.hparams, load_params)
    assert_same(weights, expected())


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_a_folder_that_cannot_be_written_gives_a_pack(source, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error("read-only file system, or no space left")

    monkeypatch.setattr("gpt2core.store.tensor_files.atomic_write", refuse)
    assert_same(open_packed(source, SMALL.hparams, load_params), expected())
    assert os.listdir(source.parent) == [source.name]


def test_a_full_disk_is_told_before_anything_is_written(source, monkeypatch, caplog):
    usage = shutil.disk_usage(source.parent)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert_same(open_packed(source, SMALL.hparams, load_params), expected())
    assert os.listdir(source.parent) == [source.name]
    assert f"{FILE} cannot be kept" in caplog.text and "is too full" in caplog.text


def test_a_disk_that_locks_no_folders_keeps_the_file_all_the_same(source, monkeypatch):
    def refuse(*args):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert_same(open_packed(source, SMALL.hparams, load_params), expected())
    assert source.with_name(FILE).exists()


def test_a_finished_file_is_opened_without_a_lock(source, monkeypatch):
    open_packed(source, SMALL.hparams, load_params)
    monkeypatch.setattr(packed_files, "folder_lock", None)
    weights = open_packed(source, SMALL.hparams, load_params)
    assert_same(weights, expected())
    assert not weights.vocab_w.flags.owndata  # mapped, not in memory


def test_a_failure_while_writing_leaves_nothing_behind(source, monkeypatch):
    def failing(*args):
        yield np.zeros(3, np.float32)
        raise OSError("no space left on device")

    in_memory = expected()
    monkeypatch.setattr(packed_files, "packed_parts", failing)
    assert_same(open_packed(source, SMALL.hparams, load_params), in_memory)
    assert os.listdir(source.parent) == [source.name]


def test_what_a_killed_writer_left_is_cleared_away(source):
    left = source.with_name(f".{FILE}.abc123")
    left.write_bytes(b"half a file")
    open_packed(source, SMALL.hparams, load_params)
    assert not left.exists()
    assert source.with_name(FILE).exists()


def test_a_small_model_gets_no_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_params(path, SMALL.params())
    assert_same(open_packed(path, SMALL.hparams, load_params), expected())
    assert os.listdir(tmp_path) == [path.name]


def test_processes_that_start_together_map_one_file(source):
    with get_context("spawn").Pool(3) as pool:
        inodes = pool.map(inode_of_weights, [source] * 3, chunksize=1)
    assert set(inodes) == {source.with_name(FILE).stat().st_ino}


def inode_of_weights(source) -> int:
    """In a process of its own: the file that its weights are."""
    packed_files.SHARED_FROM = 0
    weights = open_packed(source, SMALL.hparams, load_params)
    return mapped_inode(weights.vocab_w.ctypes.data)


def test_an_engine_on_the_file_gives_the_logits_of_one_in_memory(source):
    ids = SMALL.ids()[:20]
    engines = [
        Engine(open_packed(source, SMALL.hparams, load_params), SMALL.hparams),
        Engine(SMALL.params(), SMALL.hparams),
    ]
    logits = [engine.prefill(engine.open(), ids) for engine in engines]
    np.testing.assert_array_equal(*logits)


def test_int8_weights_have_a_file_of_their_own_that_other_tools_read(source):
    weights = open_packed(source, SMALL.hparams, load_params, "int8")
    assert_same(weights, pack(SMALL.params(), SMALL.hparams, "int8"))
    path = source.with_name("model.int8.safetensors")
    shapes = {name: entry.shape for name, entry in open_safetensors(path).entries.items()}
    assert shapes == {name: shape for name, (_, shape) in INT8_TENSORS.items()}
    with safe_open(path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("vocab_w"), weights.vocab_w)
        assert file.get_tensor("fc_w").dtype == np.int8
    assert not source.with_name(FILE).exists()


def test_the_file_of_an_earlier_version_is_removed_once_with_a_line_in_the_log(source, caplog):
    old = source.with_name("model.layout")
    old.write_bytes(b'{"gpt2core layout": 1, "width": 64}'.ljust(4096))
    with caplog.at_level("INFO"):
        open_packed(source, SMALL.hparams, load_params)
    assert not old.exists()
    assert "an earlier version wrote" in caplog.text


def test_a_file_of_that_name_that_is_not_ours_stays(source):
    other = source.with_name("model.layout")
    other.write_bytes(b"somebody's floor plan")
    open_packed(source, SMALL.hparams, load_params)
    assert other.exists()
