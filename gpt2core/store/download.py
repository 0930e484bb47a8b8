"""OpenAI's released files over HTTP: resumed, verified, renamed.

The loader calls :func:`download_model` when one of the four sizes is asked for and its
folder lacks files. Each file is written as ``<file>.part``, and beside it, in
``<file>.part.json``, what the server said about it. An interrupted download, or one whose
process was killed, continues where it stopped: ``Range`` requests the rest, and ``If-Range``
makes the server send the whole file if it has changed meanwhile.

Invariants: a file gets its own name only after its length, its checksum (if one is known)
and its contents have been checked. A progress callback that raises ends the download and
keeps the bytes received. Transient errors are retried, all others are raised at once.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import requests

from gpt2core.errors import ModelFileError
from gpt2core.files import check_space, file_size, folder_lock, format_bytes, write_error
from gpt2core.hparams import MODEL_SIZES
from gpt2core.settings import Settings
from gpt2core.store.folder import (
    OPENAI_FILES,
    PART,
    ProgressCallback,
    download_progress,
)
from gpt2core.store.verify import file_md5, find_content_problem

CHUNK_BYTES = 256 * 1024  # read at a time; also how often progress is reported
TIMEOUTS = (10, 60)  # seconds to connect, and without a byte
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before the 1st, 2nd … try after a failed one
MAX_RETRY_AFTER = 60.0  # seconds; the longest wait that a server can ask for


class Report(Protocol):
    """Calls the progress callback, if there is one, with a sentence or without."""

    def __call__(self, note: str = "") -> None: ...


class TransientError(Exception):
    """An error that a new try may not meet again. Its text completes "<url> …".

    ``retry_after`` is how many seconds the server asks to wait.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class FileInfo:
    """What the headers of a response say about the whole file."""

    validator: str  # strong ETag or Last-Modified, for If-Range; empty if there is neither
    length: int | None  # bytes; None if the server does not say
    md5: str | None  # in base64


@dataclass(frozen=True)
class ResumePoint:
    """Where a download can continue: ``offset`` of ``length`` bytes are here."""

    info: FileInfo  # with a validator
    length: int
    offset: int


class PartialFile:
    """A file while it is downloaded: ``<path>.part``, with its FileInfo in ``<path>.part.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        self.info_path = path.with_name(f"{path.name}{PART}.json")

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return file_size(self.part)

    def save_info(self, info: FileInfo) -> None:
        """Write what is known about a file whose download starts from its first byte."""
        self.info_path.write_text(json.dumps(asdict(info)), encoding="utf-8")

    def resume_point(self) -> ResumePoint | None:
        """Where to continue. None without any bytes, a validator or a length that fits them."""
        try:
            info = FileInfo(**json.loads(self.info_path.read_text(encoding="utf-8")))
            if info.validator and info.length and 0 < self.size <= info.length:
                return ResumePoint(info, info.length, self.size)
        except (OSError, ValueError, TypeError):  # no such file, or a damaged one
            pass
        return None

    def finish(self) -> None:
        """Give the file its own name."""
        os.replace(self.part, self.path)
        self.discard()

    def discard(self) -> None:
        """Remove the bytes and the info, where they are."""
        self.part.unlink(missing_ok=True)
        self.info_path.unlink(missing_ok=True)


def download_model(
    size: str,
    models_dir: str | Path = "models",
    base_url: str | None = None,
    progress: ProgressCallback | None = None,
    retry_delays: tuple[float, ...] = RETRY_DELAYS,
) -> None:
    """Fetch those of a released model's seven files that ``models_dir/<size>`` lacks.

    Files that are there are checked as far as that is quick, and kept. ``base_url``
    defaults to ``$GPT2_BASE_URL``, and that to OpenAI's storage. Waits for another process
    that downloads the same model. Raises ModelFileError with the cause; a later call
    continues with the bytes received.
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
            if not path.exists() or find_content_problem(path, path):
                download_file(session, f"{base_url}/{size}/{name}", path, report, retry_delays)
        report()


def download_file(
    session: requests.Session,
    url: str,
    path: Path,
    report: Report,
    retry_delays: tuple[float, ...],
) -> None:
    """Fetch ``url`` into ``path``, with retries.

    A try that received new bytes does not count as failed. After more failed tries than
    there are delays, the last error is raised as a ModelFileError.
    """
    partial = PartialFile(path)
    most_bytes, failed_tries = partial.size, 0
    while True:
        try:
            return try_download(session, url, partial, report)
        except TransientError as error:
            if partial.size > most_bytes:
                most_bytes, failed_tries = partial.size, 0
            else:
                failed_tries += 1
            if failed_tries > len(retry_delays):
                raise give_up(url, partial, error, failed_tries) from error
            delay = max(retry_delays[failed_tries - 1] if failed_tries else 0.0, error.retry_after)
            if delay:
                report(f"{url} {error}; trying again in {delay:.0f} s.")
                time.sleep(delay)
        except OSError as error:  # a disk error; request_rest converts those of requests
            raise write_error(path, error) from error


def give_up(
    url: str, partial: PartialFile, error: TransientError, failed_tries: int
) -> ModelFileError:
    """The error after the last try. Bytes received are kept for a later call."""
    kept = ""
    if partial.size:
        kept = f" {format_bytes(partial.size)} of it are kept for the next time."
    else:
        partial.discard()
    return ModelFileError(f"{url} {error} (tried {failed_tries} times).{kept}")


def try_download(session: requests.Session, url: str, partial: PartialFile, report: Report) -> None:
    """Fetch what is missing of ``url`` with one request, check the file and give it its name.

    Raises TransientError, or ModelFileError if another try would not change anything.
    """
    resume = partial.resume_point()
    if resume is not None and resume.offset == resume.length:
        md5 = resume.info.md5  # all bytes are here; an earlier process stopped before the check
    else:
        md5 = request_rest(session, url, partial, resume, report)
    problem = find_content_problem(partial.part, partial.path)
    if problem is None and md5 and file_md5(partial.part) != md5:
        problem = f"the checksum of {partial.path.name} is not the one it was sent with"
    if problem is None:
        partial.finish()
        return
    partial.discard()
    if resume is not None:
        # The bytes of an earlier try may be wrong: download once more, from the start.
        raise TransientError(f"did not fit what had come before: {problem}")
    raise ModelFileError(f"{url} did not send the file: {problem}.")


def request_rest(
    session: requests.Session,
    url: str,
    partial: PartialFile,
    resume: ResumePoint | None,
    report: Report,
) -> str | None:
    """:func:`receive`, with the errors of requests as TransientError or ModelFileError."""
    try:
        return receive(session, url, partial, resume, report)
    except requests.exceptions.SSLError as error:
        raise ModelFileError(f"{url} cannot be trusted: {error}") from error
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise TransientError(describe_connection_error(error)) from error
    except requests.RequestException as error:
        raise ModelFileError(
            f"{url} cannot be fetched: {error}. Is GPT2_BASE_URL right?"
        ) from error


def describe_connection_error(error: requests.RequestException) -> str:
    """A broken connection in a few words, without the nested messages of the library."""
    # A timeout while the body is read is a ConnectionError with this text.
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    return "cannot be reached"


def receive(
    session: requests.Session,
    url: str,
    partial: PartialFile,
    resume: ResumePoint | None,
    report: Report,
) -> str | None:
    """Append to ``partial`` what the server sends; returns the MD5 that it gives for the file.

    Requests the bytes from ``resume`` on, or the whole file if that is None.
    """
    headers = {"Accept-Encoding": "identity"}  # lengths and checksums are of the bytes sent
    if resume is not None:
        headers |= {"Range": f"bytes={resume.offset}-", "If-Range": resume.info.validator}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        check_response(response, url, partial)
        if resume is not None and response.status_code == 206:
            check_range(response, partial, resume)
            info, offset = resume.info, resume.offset
        else:  # the whole file: a first try, a server without ranges, or a file that changed
            info, offset = file_info(response), 0
            partial.save_info(info)
        if info.length is not None:
            check_space(partial.part.parent, info.length - offset)
        size = save_body(response, partial.part, offset, report)
    if info.length is not None and size != info.length:
        raise TransientError(f"broke off after {format_bytes(size)} of {format_bytes(info.length)}")
    return info.md5


def save_body(response: requests.Response, part: Path, offset: int, report: Report) -> int:
    """Write the body of a response to ``part`` from ``offset`` on; returns its new size."""
    with open(part, "ab" if offset else "wb") as file:
        report()
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            offset += len(chunk)
            report()
        file.flush()
        os.fsync(file.fileno())
    return offset


def check_response(response: requests.Response, url: str, partial: PartialFile) -> None:
    """Raise for a response without the file: TransientError if a new try may help.

    Called before anything is written, so that an error page replaces no bytes received.
    """
    status = response.status_code
    status_line = f"answered {status} {response.reason or ''}".rstrip()
    if status == 416:  # our bytes are not the beginning of the server's file: start over
        partial.discard()
        raise TransientError(status_line)
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        seconds = min(float(wait), MAX_RETRY_AFTER) if wait.isdigit() else 0.0
        raise TransientError(status_line, seconds)
    if status not in (200, 206):
        raise ModelFileError(f"{url} {status_line}. Is GPT2_BASE_URL right?")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise ModelFileError(f"{url} answered with a web page. Is GPT2_BASE_URL right?")


def check_range(response: requests.Response, partial: PartialFile, resume: ResumePoint) -> None:
    """Raise TransientError unless a 206 sends exactly the bytes that were requested."""
    expected = f"bytes {resume.offset}-{resume.length - 1}/{resume.length}"
    if response.headers.get("Content-Range") != expected:
        partial.discard()
        raise TransientError("sent another part of the file than was asked for")


def file_info(response: requests.Response) -> FileInfo:
    """What the headers of a whole file's response say. A weak ETag is no validator."""
    etag = response.headers.get("ETag", "")
    if not etag or etag.startswith("W/"):
        etag = response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    md5 = response.headers.get("Content-MD5")
    return FileInfo(etag, int(length) if length.isdigit() else None, md5)
