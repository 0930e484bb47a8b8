"""Downloading from a server that works, and from one that fails.

Every error shows its message and what it leaves in the folder. The server is
``openai_layout.ReleaseServer``; the files are those of a small release written by
TensorFlow. Delays between tries are cut to nothing by an argument made for callers.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpt2core.errors import ModelFileError
from gpt2core.store.download import download_model
from gpt2core.store.folder import (
    DATA_FILE,
    INDEX_FILE,
    OPENAI_FILES,
)
from tests.helpers.openai_layout import Answer, ReleaseServer, small_release
from tests.helpers.paths import ROOT

AT_ONCE = (0.0,) * 4  # delays between tries
LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:00000000000000000000000000000000000000000000000000000000000000aa\nsize 497759232\n"
)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return small_release(tmp_path_factory)


@pytest.fixture
def server(release):
    with ReleaseServer(release.parent) as server:
        yield server


@pytest.fixture
def download(server, tmp_path):
    """Download 124M from the server into a fresh folder; keywords go to download_model."""

    def call(**options):
        options = {"base_url": server.url, "retry_delays": AT_ONCE, **options}
        download_model("124M", tmp_path, **options)

    return call


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "124M"


def names(folder: Path) -> set[str]:
    """The names of the files in the folder."""
    return {path.name for path in folder.iterdir()}


def assert_same_files(folder: Path, release: Path) -> None:
    assert names(folder) == set(OPENAI_FILES)
    for name in OPENAI_FILES:
        assert (folder / name).read_bytes() == (release / name).read_bytes(), name


# --- a server that works ----------------------------------------------------------


def test_all_seven_files_are_downloaded_byte_for_byte(download, folder, release, server):
    download()
    assert_same_files(folder, release)
    assert [request.name for request in server.requests] == list(OPENAI_FILES)


def test_a_file_that_exists_is_not_downloaded_again(download, folder, release, server):
    download()
    (folder / "vocab.bpe").unlink()
    server.requests.clear()
    download()
    assert_same_files(folder, release)
    assert [request.name for request in server.requests] == ["vocab.bpe"]


def test_progress_counts_the_bytes_of_all_files(download, release):
    seen = []
    download(progress=seen.append)
    total = sum((release / name).stat().st_size for name in OPENAI_FILES)
    done = [progress.bytes_done for progress in seen]
    assert done == sorted(done)
    assert done[0] == 0 and done[-1] == seen[-1].bytes_total == total
    assert {progress.phase for progress in seen} == {"download"}
    assert all(progress.bytes_done <= progress.bytes_total for progress in seen)
    assert len([p for p in seen if p.file == DATA_FILE]) > 4  # not only at its end


def test_base_url_comes_from_the_environment_at_the_time_of_the_call(
    download, folder, release, server, monkeypatch
):
    monkeypatch.setenv("GPT2_BASE_URL", server.url + "/")
    download(base_url=None)
    assert_same_files(folder, release)


# --- resuming ---------------------------------------------------------------------


def test_a_broken_connection_is_resumed_at_its_last_byte(download, folder, release, server):
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000), Answer(break_off=300_000)]
    download()
    assert_same_files(folder, release)
    ranges = [request.range for request in server.asked_for(DATA_FILE)]
    starts = [int(r.removeprefix("bytes=").removesuffix("-")) for r in ranges[1:]]
    assert ranges[0] is None and len(starts) == 2
    assert 500_000 < starts[0] <= 1_000_000 and starts[0] < starts[1] <= 1_300_000
    assert [r.status for r in server.asked_for(DATA_FILE)] == [200, 206, 206]


def test_a_later_call_resumes_the_bytes_of_an_earlier_one(download, folder, release, server):
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000)] + [Answer(status=503)] * 5
    with pytest.raises(ModelFileError, match=r"answered 503 .*tried 5 times.*kB of it are kept"):
        download()
    assert names(folder) == {*OPENAI_FILES, f"{DATA_FILE}.part", f"{DATA_FILE}.part.json"} - {
        DATA_FILE
    }
    server.requests.clear()
    download()
    assert_same_files(folder, release)
    assert [(r.name, r.status) for r in server.requests] == [(DATA_FILE, 206)]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(download, folder, release, server):
    size = (release / DATA_FILE).stat().st_size
    server.answers[DATA_FILE] = [Answer(body=b"\x01" * size, break_off=1_000_000)]
    download()
    assert_same_files(folder, release)
    second = server.asked_for(DATA_FILE)[1]
    assert second.range and second.status == 200


def test_a_server_without_ranges_is_asked_for_the_whole_file(download, folder, release, server):
    server.ranges = False
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000)]
    download()
    assert_same_files(folder, release)
    assert [r.status for r in server.asked_for(DATA_FILE)] == [200, 200]


def test_without_a_validator_nothing_is_resumed(download, folder, release, server):
    server.validators = False
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000)]
    download()
    assert_same_files(folder, release)
    assert [r.range for r in server.asked_for(DATA_FILE)] == [None, None]


def test_a_wrong_range_is_not_trusted(download, folder, release, server):
    server.answers[DATA_FILE] = [
        Answer(break_off=1_000_000),
        Answer(headers={"Content-Range": "bytes 7-8/9"}),
    ]
    download()
    assert_same_files(folder, release)
    last = server.asked_for(DATA_FILE)[2]
    assert last.range is None and last.status == 200  # from the start


def test_a_partial_file_longer_than_the_file_is_dropped(download, folder, release, server):
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000)] + [Answer(status=503)] * 5
    with pytest.raises(ModelFileError):
        download()
    with open(folder / f"{DATA_FILE}.part", "ab") as file:
        file.write(bytes(2_000_000))
    download()
    assert_same_files(folder, release)


def test_a_damaged_partial_file_is_found_by_the_checksum(download, folder, release, server):
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000)] + [Answer(status=503)] * 5
    with pytest.raises(ModelFileError):
        download()
    with open(folder / f"{DATA_FILE}.part", "r+b") as file:
        file.write(b"\xff" * 100)
    download()
    assert_same_files(folder, release)


def test_a_callback_that_raises_ends_the_download_and_keeps_the_bytes_received(
    download, folder, release, server
):
    class Cancelled(Exception):
        pass

    def cancel(progress):
        if (folder / f"{DATA_FILE}.part").exists() and progress.bytes_done > 2_500_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        download(progress=cancel)
    assert (folder / f"{DATA_FILE}.part").stat().st_size > 500_000
    download()
    assert_same_files(folder, release)
    assert server.asked_for(DATA_FILE)[-1].status == 206


def test_the_download_of_a_killed_process_is_resumed(folder, release, server):
    size = (release / DATA_FILE).stat().st_size
    server.answers[DATA_FILE] = [Answer(hold=int(0.7 * size))]
    script = (
        "import sys; from gpt2core.store.download import *; download_model('124M', sys.argv[1])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, folder.parent],
        env={**os.environ, "GPT2_BASE_URL": server.url},
        cwd=ROOT,
    )
    part = folder / f"{DATA_FILE}.part"
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 0.6 * size:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    server.requests.clear()
    download_model("124M", folder.parent, server.url)  # the dead process's lock is free
    assert_same_files(folder, release)
    [request] = server.requests
    assert int(request.range.removeprefix("bytes=").removesuffix("-")) >= 0.6 * size


# --- servers that fail ------------------------------------------------------------


def test_503_is_retried_after_the_time_that_the_server_names(download, folder, release, server):
    server.answers["checkpoint"] = [Answer(status=503, headers={"Retry-After": "1"})]
    notes = []
    started = time.monotonic()
    download(progress=lambda progress: notes.append(progress.note))
    assert time.monotonic() - started >= 1
    assert_same_files(folder, release)
    assert [note for note in notes if note] == [
        f"{server.url}/124M/checkpoint answered 503 Service Unavailable; trying again in 1 s."
    ]


def test_a_server_that_stays_down_is_an_error_after_all_retries(download, folder, server):
    server.always["hparams.json"] = Answer(status=500)
    with pytest.raises(ModelFileError) as caught:
        download()
    assert str(caught.value) == (
        f"{server.url}/124M/hparams.json answered 500 Internal Server Error (tried 5 times)."
    )
    assert len(server.requests) == 5
    assert names(folder) == set()


def test_tries_that_receive_new_bytes_are_not_counted(download, folder, release, server):
    server.answers[DATA_FILE] = [Answer(break_off=300_000)] * 5
    download(retry_delays=AT_ONCE[:1])
    assert_same_files(folder, release)


def test_a_server_that_cannot_be_reached_is_an_error_after_all_retries(download, folder):
    with pytest.raises(ModelFileError, match=r"hparams.json cannot be reached \(tried 5 times\)"):
        download(base_url="http://127.0.0.1:9")
    assert names(folder) == set()


@pytest.mark.parametrize("base_url", ["openai.example", "ftp://openai.example", "http://"])
def test_an_invalid_address_is_an_error_with_advice(download, folder, base_url):
    with pytest.raises(ModelFileError, match="cannot be fetched: .* Is GPT2_BASE_URL right?"):
        download(base_url=base_url)
    assert names(folder) == set()


def test_a_missing_file_on_the_server_is_an_error_with_advice(download, folder, server):
    with pytest.raises(ModelFileError) as caught:
        download(base_url=f"{server.url}/wrong")
    assert str(caught.value) == (
        f"{server.url}/wrong/124M/hparams.json answered 404 Not Found. Is GPT2_BASE_URL right?"
    )
    assert len(server.requests) == 1
    assert names(folder) == set()


@pytest.mark.parametrize("name", ["hparams.json", "encoder.json", INDEX_FILE, DATA_FILE])
def test_an_error_page_with_status_200_is_not_taken_for_the_file(download, folder, server, name):
    server.always[name] = Answer(body=b"\n<!DOCTYPE html><title>Log in</title>" + b" " * 3_000_000)
    with pytest.raises(ModelFileError, match=f"{name} is a web page or an error message"):
        download()
    assert_only_earlier(folder, name)


def test_an_error_page_replaces_no_bytes_received(download, folder, release, server):
    page = Answer(body=b"<html></html>", headers={"Content-Type": "text/html; charset=utf-8"})
    server.answers[DATA_FILE] = [Answer(break_off=1_000_000), page]
    with pytest.raises(ModelFileError, match="answered with a web page"):
        download()
    download()
    assert_same_files(folder, release)
    assert [r.status for r in server.asked_for(DATA_FILE)] == [200, 200, 206]


@pytest.mark.parametrize("name", ["hparams.json", "model.ckpt.meta", DATA_FILE])
def test_a_git_lfs_pointer_is_not_taken_for_the_file(download, folder, server, name):
    server.always[name] = Answer(body=LFS_POINTER)
    with pytest.raises(ModelFileError, match=f"{name} is a Git LFS pointer"):
        download()
    assert_only_earlier(folder, name)


@pytest.mark.parametrize("name", ["vocab.bpe", "encoder.json"])
def test_a_vocabulary_other_than_openais_is_an_error(download, folder, release, server, name):
    server.always[name] = Answer(body=(release / name).read_bytes() + b"\n")
    with pytest.raises(ModelFileError, match=f"the checksum of {name} is not that of OpenAI"):
        download()
    assert_only_earlier(folder, name)


@pytest.mark.parametrize("name", [INDEX_FILE, DATA_FILE])
def test_a_file_cut_off_is_an_error_even_without_a_length(download, folder, release, server, name):
    body = (release / name).read_bytes()
    server.always[name] = Answer(body=body[:-100], length=0)
    with pytest.raises(ModelFileError, match=f"{name} is .*cut off"):
        download()
    assert_only_earlier(folder, name)


def test_a_content_length_too_short_is_an_error(download, folder, server):
    server.always[DATA_FILE] = Answer(length=1_000_000)
    with pytest.raises(ModelFileError, match="it has 1,000,000 bytes, and the weights alone take"):
        download()
    assert_only_earlier(folder, DATA_FILE)


def test_a_content_length_too_long_is_an_error_and_can_be_retried(
    download, folder, release, server
):
    size = (release / DATA_FILE).stat().st_size
    server.always[DATA_FILE] = Answer(length=size + 10)
    server.ranges = False
    with pytest.raises(ModelFileError, match="broke off .*tried 5 times"):
        download()
    assert DATA_FILE not in names(folder)
    server.always.clear()
    download()
    assert_same_files(folder, release)


def test_a_wrong_checksum_is_an_error_at_once(download, folder, server):
    server.always[DATA_FILE] = Answer(md5="AAAAAAAAAAAAAAAAAAAAAA==")
    with pytest.raises(ModelFileError, match="not the one it was sent with"):
        download()
    assert_only_earlier(folder, DATA_FILE)
    assert len(server.asked_for(DATA_FILE)) == 1  # half a gigabyte is not asked for again


def test_a_file_without_hyper_parameters_is_an_error(download, folder, server):
    server.always["hparams.json"] = Answer(body=b'{"n_vocab": 50257}')
    with pytest.raises(ModelFileError, match="hyper-parameters lack n_ctx"):
        download()
    assert names(folder) == set()


def assert_only_earlier(folder: Path, name: str) -> None:
    """The files before ``name`` are kept, and nothing half-made of ``name`` is."""
    assert names(folder) == set(OPENAI_FILES[: OPENAI_FILES.index(name)])


# --- files that exist already -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (DATA_FILE, lambda body: body[: len(body) // 2]),  # picoGPT leaves such, under this name
        (DATA_FILE, lambda body: LFS_POINTER),
        ("hparams.json", lambda body: LFS_POINTER),
        ("vocab.bpe", lambda body: body[:1000]),
        (INDEX_FILE, lambda body: body[:-1]),
        ("checkpoint", lambda body: b""),
    ],
)
def test_a_damaged_file_under_its_own_name_is_downloaded_again(
    download, folder, release, server, name, damage
):
    download()
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    server.requests.clear()
    download()
    assert_same_files(folder, release)
    assert [request.name for request in server.requests] == [name]


# --- the disk ---------------------------------------------------------------------


def test_a_full_disk_is_an_error_with_advice(download, folder, server):
    folder.mkdir()
    (folder / "vocab.bpe.part").symlink_to("/dev/full")  # the kernel's own ENOSPC
    with pytest.raises(ModelFileError, match="the disk is full: .*vocab.bpe could not be written"):
        download()
    assert not (folder / "vocab.bpe").exists()


def test_a_file_too_large_for_the_disk_is_not_begun(download, folder, server):
    server.always[DATA_FILE] = Answer(length=10**18)
    with pytest.raises(ModelFileError, match=r"too full: 1,000,000,000.0 GB are needed, .* free"):
        download()
    assert f"{DATA_FILE}.part" not in names(folder)


def test_a_read_only_folder_is_an_error(download, tmp_path, server):
    tmp_path.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # whom permissions do not hold back
        os.seteuid(65534)
    try:
        with pytest.raises(ModelFileError, match=r"124M cannot be written: Permission denied\."):
            download()
    finally:
        if root:
            os.seteuid(0)
        tmp_path.chmod(0o755)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_the_name_of_the_folder_is_an_error(download, tmp_path):
    (tmp_path / "124M").write_text("not a folder")
    with pytest.raises(ModelFileError, match="124M cannot be written: File exists"):
        download()


# --- names and numbers ------------------------------------------------------------


@pytest.mark.parametrize("size", ["117M", "demo", "", "../124M"])
def test_an_unknown_size_is_an_error_with_the_sizes(tmp_path, size):
    with pytest.raises(ModelFileError, match="no released model .*there are 124M, 355M, 774M, 155"):
        download_model(size, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- several at once --------------------------------------------------------------


def test_two_downloads_at_once_request_every_file_once(folder, release, server):
    server.always[DATA_FILE] = Answer(slow=0.06)
    notes, failures = [], []

    def work():
        try:
            progress = lambda progress: notes.append(progress.note)  # noqa: E731
            download_model("124M", folder.parent, server.url, progress)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_same_files(folder, release)
    assert sorted(request.name for request in server.requests) == sorted(OPENAI_FILES)
    assert "Another process is downloading this model." in notes
