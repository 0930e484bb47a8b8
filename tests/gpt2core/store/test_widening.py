"""Half-precision checkpoints: one float32 copy for all processes, complete and current."""

import os
from multiprocessing import get_context

import numpy as np
import pytest

from gpt2core.store import widening
from gpt2core.store.weights import load_params, save_params
from gpt2core.store.widening import WIDENED_FILE, open_params
from tests.helpers.maps import mapped_inode
from tests.helpers.small_models import SMALL_MODELS

SMALL = SMALL_MODELS["released_spreads"]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A float16 file, which gets a copy although it is small."""
    monkeypatch.setattr(widening, "SHARED_FROM", 0)
    path = tmp_path / "model.safetensors"
    save_params(path, SMALL.params(), "F16")
    return path


def test_the_copy_holds_the_widened_numbers_and_is_written_once(source):
    expected = load_params(source, SMALL.hparams)
    copy = source.with_name(WIDENED_FILE)
    for _ in range(2):
        params = open_params(source, SMALL.hparams)
        np.testing.assert_array_equal(params["wte"], expected["wte"])
        np.testing.assert_array_equal(
            params["blocks"][1]["mlp"]["c_fc"]["w"], expected["blocks"][1]["mlp"]["c_fc"]["w"]
        )
        assert mapped_inode(params["wte"].ctypes.data) == copy.stat().st_ino
        first = copy.stat().st_ino
    assert copy.stat().st_ino == first


def test_other_weights_of_the_same_shape_are_widened_again(source):
    open_params(source, SMALL.hparams)
    params = SMALL.params()
    params["wte"] *= 2
    save_params(source, params, "F16")
    found = open_params(source, SMALL.hparams)["wte"]
    np.testing.assert_array_equal(found, load_params(source, SMALL.hparams)["wte"])


def test_a_copy_that_was_cut_off_is_written_again(source):
    source.with_name(WIDENED_FILE).write_bytes(b"half")  # of another time than its source
    found = open_params(source, SMALL.hparams)["wte"]
    np.testing.assert_array_equal(found, load_params(source, SMALL.hparams)["wte"])


def test_processes_that_start_together_map_one_copy(source):
    with get_context("spawn").Pool(2) as pool:
        inodes = pool.map(inode_of_params, [source] * 2, chunksize=1)
    assert set(inodes) == {source.with_name(WIDENED_FILE).stat().st_ino}


def inode_of_params(source) -> int:
    """In a process of its own: the file that its weights are."""
    widening.SHARED_FROM = 0
    params = open_params(source, SMALL.hparams)
    return mapped_inode(params["wte"].ctypes.data)


def test_where_the_copy_cannot_be_written_each_process_widens(source, monkeypatch, caplog):
    def full(path, n_bytes):
        raise OSError("no space left on the device")

    monkeypatch.setattr(widening, "check_space", full)
    found = open_params(source, SMALL.hparams)["wte"]
    np.testing.assert_array_equal(found, load_params(source, SMALL.hparams)["wte"])
    assert "cannot be kept" in caplog.text
    assert os.listdir(source.parent) == [source.name]


@pytest.mark.parametrize(("dtype", "shared_from"), [("F32", 0), ("F16", 2**26)])
def test_float32_and_small_models_get_no_copy(tmp_path, monkeypatch, dtype, shared_from):
    monkeypatch.setattr(widening, "SHARED_FROM", shared_from)
    path = tmp_path / "model.safetensors"
    save_params(path, SMALL.params(), dtype)
    open_params(path, SMALL.hparams)
    assert os.listdir(tmp_path) == [path.name]
