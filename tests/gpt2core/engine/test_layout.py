"""Packed weights: the same model, complete on disk, shared, never stale."""

import os
import shutil
from multiprocessing import get_context

import numpy as np
import pytest

import gpt2core.engine.layout
from gpt2core.engine.engine import Engine
from gpt2core.engine.layout import (
    FILE_NAME,
    Layout,
    count_shards,
    layout_in_memory,
    layout_shapes,
    open_layout,
)
from gpt2core.hparams import HParams
from gpt2core.store.weights import load_params, save_params
from tests.helpers.small_models import SMALL_MODELS

SMALL = SMALL_MODELS["released_spreads"]
OTHER = SMALL_MODELS["large_weights"]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A model's file, whose layout is kept in a file although it is small."""
    monkeypatch.setattr(gpt2core.engine.layout, "SHARED_FROM", 0)
    path = tmp_path / "model.safetensors"
    save_params(path, SMALL.params())
    return path


def assert_same(a: Layout, b: Layout):
    for name in layout_shapes(a.hparams):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def expected():
    return layout_in_memory(SMALL.params(), SMALL.hparams)


def test_a_layout_has_its_shapes_and_float32(small):
    layout = layout_in_memory(small.params(), small.hparams)
    for name, shape in layout_shapes(small.hparams).items():
        assert getattr(layout, name).shape == shape
        assert getattr(layout, name).dtype == np.float32


def test_the_vocabulary_is_wte_in_columns(small):
    layout, wte = layout_in_memory(small.params(), small.hparams), small.params()["wte"]
    columns = layout.vocab.transpose(0, 2, 1).reshape(-1, small.hparams.n_embd)
    np.testing.assert_array_equal(columns[: len(wte)], wte)
    assert not columns[len(wte) :].any()


def test_the_file_holds_what_memory_would(source):
    assert_same(open_layout(source, SMALL.hparams, load_params), expected())
    assert_same(open_layout(source, SMALL.hparams, load_params), expected())
    assert sorted(os.listdir(source.parent)) == sorted([FILE_NAME, source.name])


def test_the_file_is_mapped_and_written_once(source):
    open_layout(source, SMALL.hparams, load_params)
    path = source.with_name(FILE_NAME)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    layout = open_layout(source, SMALL.hparams, load_params)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert not layout.vocab.flags.writeable and not layout.vocab.flags.owndata
    assert layout.qkv_w.ctypes.data % 64 == 0  # whole registers in whole cache lines


def test_other_weights_of_the_same_shape_are_packed_again(source):
    open_layout(source, SMALL.hparams, load_params)
    params = SMALL.params()
    params["wte"] *= 2
    save_params(source, params)
    layout = open_layout(source, SMALL.hparams, load_params)
    assert_same(layout, layout_in_memory(params, SMALL.hparams))


def test_a10_another_shard_behind_the_same_index_is_packed_again(source):
    index = source.with_name("model.safetensors.index.json")
    index.write_text('{"weight_map": {"wte.weight": "model.safetensors"}}')
    open_layout(index, SMALL.hparams, lambda path, hparams: load_params(source, hparams))
    params = SMALL.params()
    params["wte"] += 1
    save_params(source, params)
    again = open_layout(index, SMALL.hparams, lambda path, hparams: load_params(source, hparams))
    assert_same(again, layout_in_memory(params, SMALL.hparams))


def test_another_model_in_the_same_place_is_packed_again(source):
    open_layout(source, SMALL.hparams, load_params)
    save_params(source, OTHER.params())
    assert_same(
        open_layout(source, OTHER.hparams, load_params),
        layout_in_memory(OTHER.params(), OTHER.hparams),
    )


@pytest.mark.parametrize("damage", ["cut off", "empty", "longer", "another version"])
def test_a_damaged_file_is_written_again(source, damage):
    open_layout(source, SMALL.hparams, load_params)
    path = source.with_name(FILE_NAME)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut off": data[:-4],
            "empty": b"",
            "longer": data + b"    ",
            "another version": data.replace(b'layout": 1', b'layout": 0', 1),
        }[damage]
    )
    assert_same(open_layout(source, SMALL.hparams, load_params), expected())


def test_an_open_layout_outlives_its_file(source):
    layout = open_layout(source, SMALL.hparams, load_params)
    params = SMALL.params()
    params["wte"] *= 2
    save_params(source, params)
    open_layout(source, SMALL.hparams, load_params)
    assert_same(layout, expected())


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_a_folder_that_cannot_be_written_gives_a_layout_in_memory(source, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error("read-only file system, or no space left")

    monkeypatch.setattr(gpt2core.engine.layout, "atomic_write", refuse)
    assert_same(open_layout(source, SMALL.hparams, load_params), expected())
    assert os.listdir(source.parent) == [source.name]


def test_a_full_disk_is_told_before_anything_is_written(source, monkeypatch, caplog):
    usage = shutil.disk_usage(source.parent)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert_same(open_layout(source, SMALL.hparams, load_params), expected())
    assert os.listdir(source.parent) == [source.name]
    assert "model.layout cannot be kept" in caplog.text and "is too full" in caplog.text


def test_a_disk_that_locks_no_folders_keeps_the_layout_all_the_same(source, monkeypatch):
    def refuse(*args):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert_same(open_layout(source, SMALL.hparams, load_params), expected())
    assert source.with_name(FILE_NAME).exists()


def test_a_finished_layout_is_opened_without_a_lock(source, monkeypatch):
    open_layout(source, SMALL.hparams, load_params)
    monkeypatch.setattr(gpt2core.engine.layout, "folder_lock", None)
    layout = open_layout(source, SMALL.hparams, load_params)
    assert_same(layout, expected())
    assert not layout.vocab.flags.owndata  # mapped, not in memory


def test_a_failure_while_writing_leaves_nothing_behind(source, monkeypatch):
    def failing(params, hparams):
        yield np.zeros(3, np.float32)
        raise OSError("no space left on device")

    calls = iter([failing, gpt2core.engine.layout.packed_tensors])
    in_memory = expected()
    monkeypatch.setattr(gpt2core.engine.layout, "packed_tensors", lambda *args: next(calls)(*args))
    assert_same(open_layout(source, SMALL.hparams, load_params), in_memory)
    assert os.listdir(source.parent) == [source.name]


def test_what_a_killed_writer_left_is_cleared_away(source):
    left = source.with_name(f".{FILE_NAME}.abc123")
    left.write_bytes(b"half a layout")
    open_layout(source, SMALL.hparams, load_params)
    assert not left.exists()
    assert source.with_name(FILE_NAME).exists()


def test_a_small_model_gets_no_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_params(path, SMALL.params())
    assert_same(open_layout(path, SMALL.hparams, load_params), expected())
    assert os.listdir(tmp_path) == [path.name]


def test_processes_that_start_together_map_one_file(source):
    with get_context("spawn").Pool(3) as pool:
        inodes = pool.map(inode_of_layout, [source] * 3, chunksize=1)
    assert set(inodes) == {source.with_name(FILE_NAME).stat().st_ino}


def inode_of_layout(source) -> int:
    """In a process of its own: the file that its layout is."""
    gpt2core.engine.layout.SHARED_FROM = 0
    layout = open_layout(source, SMALL.hparams, load_params)
    return mapped_inode(layout.vocab.ctypes.data)


def mapped_inode(address: int) -> int:
    """Inode of the file that is mapped at an address of this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return int(line.split()[4])
    raise AssertionError("nothing is mapped there")


def test_an_engine_on_the_file_gives_the_logits_of_one_in_memory(source):
    ids = SMALL.ids()[:20]
    engines = [
        Engine(open_layout(source, SMALL.hparams, load_params), SMALL.hparams),
        Engine(SMALL.params(), SMALL.hparams),
    ]
    logits = [engine.prefill(engine.open(), ids) for engine in engines]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize(
    ("n_head", "n"), [(12, 4), (16, 4), (20, 4), (25, 5), (3, 3), (1, 1), (7, 1), (6, 2), (8, 4)]
)
def test_the_number_of_shards_divides_the_heads_and_is_even_if_possible(n_head, n):
    assert count_shards(HParams(n_embd=n_head * 2, n_head=n_head)) == n
