"""Whether a file is the one that OpenAI released, as far as that is quick to find out.

The download calls :func:`find_content_problem` before a file gets its own name, and for
files that are in the folder already. Servers and proxies may answer with an error page or a
Git LFS pointer instead of the file; other programs may have left half a file.
"""

import hashlib
from base64 import b64encode
from pathlib import Path

from gpt2core.files import file_size
from gpt2core.store.folder import (
    DATA_FILE,
    HPARAMS_FILE,
    INDEX_FILE,
    find_data_problem,
    find_hparams_problem,
)

SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX_MAGIC = bytes.fromhex("57fb808b247547db")  # last 8 bytes of a TensorFlow index


def find_content_problem(path: Path, target: Path) -> str | None:
    """Why the file ``path`` cannot be the released file named ``target``, or None."""
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
        return find_hparams_problem(path)
    if name == DATA_FILE:
        return find_data_problem(size, target.parent)
    return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_md5(path: Path) -> str:
    """MD5 of a file in base64, as in the ``Content-MD5`` header."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
    return b64encode(digest).decode("ascii")
