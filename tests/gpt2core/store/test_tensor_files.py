"""The safetensors format: what is written, what is mapped, and files that are none.

``safetensors``, the format's own library, is the judge of what is written and the maker
of what is read.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from gpt2core.errors import ModelFileError
from gpt2core.store.tensor_files import ALIGNMENT, open_safetensors, write_safetensors

FLOATS = np.arange(240, dtype=np.float32).reshape(40, 6)
INTS = np.arange(-60, 60, dtype=np.int8).reshape(2, 60)
TENSORS = {"floats": FLOATS, "ints": INTS, "halves": FLOATS[:3].astype(np.float16)}
TYPES = {"floats": ("F32", (40, 6)), "ints": ("I8", (2, 60)), "halves": ("F16", (3, 6))}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "tensors.safetensors"


def write(path: Path, **options) -> None:
    write_safetensors(path, TYPES, lambda name: [TENSORS[name]], **options)


def assert_holds_tensors(path: Path) -> None:
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


# Written


def test_the_formats_own_library_reads_what_is_written(path):
    write(path, metadata={"made of": "numbers"})
    assert_holds_tensors(path)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"made of": "numbers"}


def test_the_data_begins_on_a_cache_line(path):
    write(path)
    assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % ALIGNMENT == 0
    assert open_safetensors(path).bytes_of("floats").ctypes.data % ALIGNMENT == 0


def test_tensors_are_read_one_at_a_time_in_any_number_of_parts(path):
    asked = []

    def read(name):
        asked.append(name)
        yield from np.array_split(TENSORS[name].reshape(-1), 7)

    write_safetensors(path, TYPES, read)
    assert asked == list(TYPES)
    assert_holds_tensors(path)


def test_a_write_that_fails_leaves_the_old_file(path):
    path.write_bytes(b"old")

    def read(name):
        yield TENSORS["floats"]
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        write_safetensors(path, TYPES, read)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_tensor_that_is_shorter_than_its_shape_is_never_kept(path):
    with pytest.raises(Exception, match="(?i)incomplete|metadata"):  # of the format's own reader
        write_safetensors(path, TYPES, lambda name: [TENSORS[name][:1]])
    assert list(path.parent.iterdir()) == []


# Opened


def test_what_the_formats_own_library_writes_is_mapped(path):
    save_file(TENSORS, path, {"by": "the library"})
    file = open_safetensors(path)
    assert file.metadata == {"by": "the library"} and file.entries.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert file.entries[name].shape == array.shape
        data = file.bytes_of(name)
        np.testing.assert_array_equal(data, array.reshape(-1).view(np.uint8))
        assert not data.flags.writeable and not data.flags.owndata


# Errors


def refused(path: Path) -> str:
    """The message of a file that must not open."""
    with pytest.raises(ModelFileError) as caught:
        open_safetensors(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a readable safetensors file: ")
    return message


def test_a_missing_file_is_an_error(path):
    assert "No such file" in refused(path)


@pytest.mark.parametrize("kept", [0, 7, 100, 1000])
def test_a_file_that_is_cut_off_is_an_error(path, kept):
    write(path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path)


@pytest.mark.parametrize(
    "body",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
        b"<!DOCTYPE html><html></html>",
        (2).to_bytes(8, "little") + b"[]" + bytes(64),
        (4).to_bytes(8, "little") + b"oops" + bytes(64),
    ],
)
def test_a_file_of_another_format_is_an_error(path, body):
    path.write_bytes(body)
    refused(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data_offsets": [0, 10**12]}, "'floats' lies beyond the end: the file is cut off"),
        ({"data_offsets": [-4, 4]}, "'floats' lies beyond the end"),
        ({"data_offsets": [8, 4]}, "'floats' lies beyond the end"),
        ({"data_offsets": [0, 956]}, "its tensors are not end to end"),
        ({"data_offsets": [0.0, 960]}, "'floats' lies beyond the end"),
        ({"shape": [40.0, 6]}, "'floats' has the shape [40.0, 6]"),
        ({"data_offsets": None}, ""),
        ({"shape": None}, ""),
    ],
)
def test_a_header_that_does_not_match_its_data_is_an_error(path, change, sentence):
    write(path)
    body = path.read_bytes()
    size = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + size])
    header["floats"] |= change
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body[8 + size :])
    assert sentence in refused(path)


@pytest.mark.parametrize("change", [-8, -1, 8])
def test_a_header_of_another_length_does_not_shift_the_tensors(path, change):
    """The padding behind a header could be cut off unnoticed: JSON ignores spaces."""
    write(path)
    body = path.read_bytes()
    size = int.from_bytes(body[:8], "little") + change
    path.write_bytes(size.to_bytes(8, "little") + body[8:])
    refused(path)
