"""OpenAI's released files, fetched over HTTP: resumed, verified, renamed.

The loader comes here when one of the four sizes is asked for and its folder lacks
files. Each file is written as ``<file>.part`` with a note beside it of what the server
said about it (``<file>.part.json``), so that a download that broke off, or a process
that was killed, goes on where it stopped: ``Range`` asks for the rest and ``If-Range``
makes the server send everything anew if the file has changed meanwhile.

Invariants: a file bears its own name only after its length, its checksum where one is
known, and its contents have been checked; a callback that raises ends the download and
keeps what has come; faults that may pass are tried again, others are told at once.
"""

import hashlib
import json
import os
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from gpt2core.errors import ModelFileError
from gpt2core.files import check_space, file_size, folder_lock, format_bytes, write_error
from gpt2core.hparams import MODEL_SIZES
from gpt2core.settings import Settings
from gpt2core.store.folder import (
    DATA_FILE,
    HPARAMS_FILE,
    INDEX_FILE,
    OPENAI_FILES,
    PART,
    ProgressCallback,
    data_fault,
    download_progress,
    hparams_fault,
)

NOTE = f"{PART}.json"  # ending of what is noted of a part
CHUNK = 256 * 1024  # bytes read at a time; also how often progress is reported
TIMEOUTS = (10, 60)  # seconds to connect, and without a byte
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try that brought nothing new
MAX_RETRY_AFTER = 60.0  # seconds; a server that asks for more gets this

SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX_MAGIC = bytes.fromhex("57fb808b247547db")  # last 8 bytes of a TensorFlow index


Report = Callable[..., None]  # report(note=""): call the progress callback, if any


class PassingFault(Exception):
    """A fault that may be gone on the next try; its text completes "<url> …"."""

    def __init__(self, message: str, retry_after: float = 0.0):
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class PartNote:
    """What the server said about a file that has partly come; kept beside the part."""

    validator: str  # strong ETag or Last-Modified, for If-Range
    length: int | None  # None where the server did not say
    md5: str | None  # base64, of the whole file


def download_model(
    size: str,
    models_dir: str | Path = "models",
    base_url: str | None = None,
    progress: ProgressCallback | None = None,
    retry_delays: tuple[float, ...] = RETRY_DELAYS,
) -> None:
    """Fetch those of a released model's seven files that ``models_dir/<size>`` lacks.

    Files that are there already are checked as far as that is quick, and kept. From
    ``base_url``, else ``$GPT2_BASE_URL``, else OpenAI. Waits for another process that is
    downloading the same model, then finds everything there. Raises ModelFileError with
    the cause; a later call goes on from what has come.
    """
    if size not in MODEL_SIZES:
        raise ModelFileError(
            f"there is no released model {size!r} to download; there are {', '.join(MODEL_SIZES)}."
        )
    base_url = (base_url or Settings.from_environment("base_url").base_url).rstrip("/")
    directory = Path(models_dir) / size

    def report(note: str = "") -> None:
        if progress:
            progress(download_progress(directory, size, note))

    with (
        folder_lock(directory, lambda: report("Another process is downloading this model.")),
        requests.Session() as session,
    ):
        for name in OPENAI_FILES:
            path = directory / name
            if not path.exists() or content_fault(path, path):
                download_file(session, f"{base_url}/{size}/{name}", path, report, retry_delays)
        report()


def download_file(
    session: requests.Session,
    url: str,
    path: Path,
    report: Report,
    retry_delays: tuple[float, ...],
) -> None:
    """Fetch ``url`` into ``path``, trying again as long as something new comes."""
    part = path.with_name(path.name + PART)
    most, fruitless = file_size(part), 0
    while True:
        try:
            return try_download(session, url, path, report)
        except PassingFault as fault:
            done = file_size(part)
            most, fruitless = max(most, done), 0 if done > most else fruitless + 1
            if fruitless > len(retry_delays):
                if not done:
                    discard(path)
                kept = f" {format_bytes(done)} of it are kept for the next time." if done else ""
                raise ModelFileError(f"{url} {fault} (tried {fruitless} times).{kept}") from fault
            delay = max(retry_delays[fruitless - 1] if fruitless else 0.0, fault.retry_after)
            if delay:
                report(f"{url} {fault}; trying again in {delay:.0f} s.")
                time.sleep(delay)
        except OSError as error:  # requests' own errors are dealt with in try_download
            raise write_error(path, error) from error


def try_download(session: requests.Session, url: str, path: Path, report: Report) -> None:
    """One request for what is missing of ``url``; on success ``path`` is there, checked.

    Raises PassingFault, or ModelFileError for what no further try would change.
    """
    part = path.with_name(path.name + PART)
    earlier, done = read_note(path), file_size(part)
    if earlier is None or not 0 < done <= earlier.length:
        earlier, done = None, 0
    note = earlier
    if note is None or done < note.length:  # else all has come, only the renaming is left
        try:
            note = receive(session, url, path, earlier, done, report)
        except requests.exceptions.SSLError as error:
            raise ModelFileError(f"{url} cannot be trusted: {error}") from error
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise PassingFault(connection_fault(error)) from error
        except requests.RequestException as error:
            raise ModelFileError(
                f"{url} cannot be fetched: {error}. Is GPT2_BASE_URL right?"
            ) from error
    fault = content_fault(part, path)
    if fault is None and note.md5 and file_md5(part) != note.md5:
        fault = f"the checksum of {path.name} is not the one it was sent with"
    if fault:
        discard(path)
        if earlier:  # the part of an earlier try may be to blame: once more, from the start
            raise PassingFault(f"did not fit what had come before: {fault}")
        raise ModelFileError(f"{url} did not send the file: {fault}.")
    os.replace(part, path)
    discard(path)


def discard(path: Path) -> None:
    """Remove the part of ``path`` and its note, where they are."""
    for ending in (PART, NOTE):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def receive(
    session: requests.Session,
    url: str,
    path: Path,
    note: PartNote | None,
    done: int,
    report: Report,
) -> PartNote:
    """Append to the part of ``path`` what ``url`` sends beyond ``done`` bytes; the new note."""
    part = path.with_name(path.name + PART)
    headers = {"Accept-Encoding": "identity"}  # lengths and checksums are of the bytes sent
    if note:
        headers |= {"Range": f"bytes={done}-", "If-Range": note.validator}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        check_answer(response, url, path)
        if note and response.status_code == 206:
            rest = f"bytes {done}-{note.length - 1}/{note.length}"
            if response.headers.get("Content-Range") != rest:
                discard(path)
                raise PassingFault("sent another part of the file than was asked for")
        else:  # the whole file: first try, a server without ranges, or a file that changed
            done, note = 0, note_from(response)
            path.with_name(path.name + NOTE).write_text(json.dumps(asdict(note)), encoding="utf-8")
        if note.length is not None:
            check_space(part.parent, note.length - done)
        with open(part, "ab" if done else "wb") as file:
            report()
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report()
            file.flush()
            os.fsync(file.fileno())
    if note.length is not None and done != note.length:
        raise PassingFault(f"broke off after {format_bytes(done)} of {format_bytes(note.length)}")
    return note


def check_answer(response: requests.Response, url: str, path: Path) -> None:
    """Raise for an answer that carries no file: PassingFault where a new try may help.

    Before anything is written, so that what has come is not lost to an error page.
    """
    status = response.status_code
    told = f"answered {status} {response.reason or ''}".rstrip()
    if status == 416:  # what we have is no beginning of what the server has: start clean
        discard(path)
        raise PassingFault(told)
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise PassingFault(told, min(float(wait), MAX_RETRY_AFTER) if wait.isdigit() else 0.0)
    if status not in (200, 206):
        raise ModelFileError(f"{url} {told}. Is GPT2_BASE_URL right?")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise ModelFileError(f"{url} answered with a web page. Is GPT2_BASE_URL right?")


def note_from(response: requests.Response) -> PartNote:
    """The server's word on a whole file. Without validator and length it cannot be resumed."""
    etag = response.headers.get("ETag", "")
    if not etag or etag.startswith("W/"):
        etag = response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    return PartNote(
        etag, int(length) if length.isdigit() else None, response.headers.get("Content-MD5")
    )


def read_note(path: Path) -> PartNote | None:
    """The note of the part of ``path``, if it can be resumed, or None."""
    try:
        text = path.with_name(path.name + NOTE).read_text(encoding="utf-8")
        note = PartNote(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    return note if note.validator and note.length else None


def connection_fault(error: requests.RequestException) -> str:
    """A broken connection in a few words, without the library's own wrapping."""
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    return "cannot be reached"


def content_fault(path: Path, target: Path) -> str | None:
    """Why the bytes of ``path`` cannot be those of the released file ``target``, or None."""
    name, size = target.name, file_size(path)
    with open(path, "rb") as file:
        start = file.read(200)
        file.seek(max(size - len(INDEX_MAGIC), 0))
        end = file.read()
    if size == 0:
        return f"{name} is empty"
    if start.startswith(LFS_POINTER):
        return f"{name} is a Git LFS pointer, which stands for a file that was not fetched"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{name} is a web page or an error message"
    if name in SHA256 and file_sha256(path) != SHA256[name]:
        return f"the checksum of {name} is not that of OpenAI's release"
    if name == INDEX_FILE and end != INDEX_MAGIC:
        return f"{name} is not a TensorFlow index, or cut off"
    if name == HPARAMS_FILE:
        return hparams_fault(path)
    if name == DATA_FILE:
        return data_fault(size, target.parent)
    return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_md5(path: Path) -> str:
    """MD5 of a file as the ``Content-MD5`` header spells it."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
    return b64encode(digest).decode("ascii")
