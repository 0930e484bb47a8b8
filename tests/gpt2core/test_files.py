"""Atomic writes leave the old file or the new one; a folder has one writer at a time."""

import errno
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from gpt2core.errors import ModelFileError, WriteError
from gpt2core.files import (
    atomic_write,
    check_space,
    folder_lock,
    format_bytes,
    read_json,
    remove_unfinished_writes,
    unfinished_writes,
    write_error,
)
from tests.helpers.paths import ROOT

# --- atomic writes ----------------------------------------------------------------


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    return path


def test_a_file_has_its_name_only_when_it_is_complete(path):
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert unfinished_writes(path) == [temporary]
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(path, monkeypatch):
    flushed = []  # for each flush: the bytes of the file, and what the name holds meanwhile

    def record_fsync(descriptor, fsync=os.fsync):
        flushed.append((os.fstat(descriptor).st_size, path.read_bytes()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_fsync)
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"newer")
    assert flushed == [(5, b"old")]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, error):
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_written_as_a_file_is(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(OSError, match="broken"), atomic_write(path) as temporary:
        temporary.mkdir()
        (temporary / "inside").touch()
        raise OSError("broken")
    assert list(tmp_path.iterdir()) == []
    with atomic_write(path) as temporary:
        temporary.mkdir()
        (temporary / "inside").touch()
    assert [other.relative_to(tmp_path) for other in tmp_path.rglob("*")] == [
        Path("folder"),
        Path("folder/inside"),
    ]


def test_only_unfinished_writes_of_the_same_file_are_removed(path):
    kept = [path, path.with_name(".numbers"), path.with_name(".others.1"), path.with_name("n.2")]
    for other in kept[1:]:
        other.touch()
    path.with_name(".numbers.3").touch()
    path.with_name(".numbers.4").mkdir()
    remove_unfinished_writes(path)
    assert sorted(path.parent.iterdir()) == sorted(kept)


# --- the lock on a folder ---------------------------------------------------------


def add_one(folder: Path) -> None:
    """In a process of its own: read a number and write it back one larger, often."""
    for _ in range(30):
        with folder_lock(folder):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


def test_processes_hold_a_folder_one_at_a_time(tmp_path):
    (tmp_path / "number").write_text("0")
    with get_context("spawn").Pool(3) as pool:
        pool.map(add_one, [tmp_path] * 3, chunksize=1)
    assert (tmp_path / "number").read_text() == "90"


def test_the_lock_makes_the_folder_and_leaves_no_file(tmp_path):
    folder = tmp_path / "models" / "mine"
    with folder_lock(folder):
        pass
    assert list(folder.iterdir()) == []


def test_an_exception_ends_the_waiting_for_a_lock(tmp_path):
    class Cancelled(OSError):
        pass

    def cancel():
        raise Cancelled(errno.EACCES, "not about the folder")

    with folder_lock(tmp_path):
        with pytest.raises(Cancelled), folder_lock(tmp_path, cancel):
            pass
    with folder_lock(tmp_path, cancel):  # free again
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import pathlib, sys, time; from gpt2core.files import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(99)"
    )
    command = [sys.executable, "-c", code, tmp_path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        waited = []

        def kill_holder():
            waited.append(True)
            holder.kill()

        with folder_lock(tmp_path, kill_holder):
            assert waited
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_file_locks_is_used_after_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with folder_lock(tmp_path):
        (tmp_path / "file").touch()
    assert "disk without file locks" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- what is read and refused -----------------------------------------------------


def test_check_space_lets_pass_what_fits(tmp_path):
    check_space(tmp_path, 1)
    with pytest.raises(WriteError, match=r"too full: 1,000,000,000.0 GB are needed, .* are free"):
        check_space(tmp_path, 10**18)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full: x could not be written. Make room, then try again."),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "x cannot be written: Read-only file system. Choose another folder"),
        (errno.EIO, "x cannot be written: Input/output error."),
    ],
)
def test_a_refusal_to_write_is_a_sentence_with_its_cause(number, sentence):
    error = write_error(Path("x"), OSError(number, os.strerror(number)))
    assert str(error).startswith(sentence)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff", None])
def test_a_file_that_holds_no_json_object_is_an_error_with_its_path(tmp_path, body):
    path = tmp_path / "values.json"
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(ModelFileError, match="values.json cannot be read: "):
        read_json(path)


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (497_759_232, "498 MB"),
     (999_499_999, "999 MB"), (999_500_000, "1.0 GB"), (6_230_444_800, "6.2 GB")],
)  # fmt: skip
def test_bytes_are_shown_in_powers_of_a_thousand(n, text):
    assert format_bytes(n) == text
