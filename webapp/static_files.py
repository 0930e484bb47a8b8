"""Scripts and styles under addresses that change with their contents.

``url_for("static", …)`` puts a digest of all static files into the path, so that browsers keep a
file for a year and modules that import each other by relative addresses stay of one version. A
digest of another version, as a page has that was opened before an update, gets today's files.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from flask import Flask, Response, send_from_directory

YEAR = 365 * 24 * 3600  # seconds
DIGEST = re.compile("[0-9a-f]{6}")


def serve_static_files(app: Flask, folder: Path) -> None:
    """Serve the files of ``folder`` as the endpoint ``static``."""
    current = digest(folder)

    def static_file(filename: str) -> Response:
        version, _, name = filename.partition("/")
        if not DIGEST.fullmatch(version):
            version, name = "", filename
        response = send_file(folder, name, YEAR if version == current else None)
        response.cache_control.immutable = version == current
        return response

    def add_digest(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values["filename"] = f"{current}/{values['filename']}"

    app.add_url_rule("/static/<path:filename>", "static", static_file)
    app.url_defaults(add_digest)


def send_file(folder: Path, name: str, max_age: int | None) -> Response:
    """A file, in memory unless only a part is wanted: streams are not compressed.

    Raises NotFound.
    """
    response = send_from_directory(folder, name, max_age=max_age)
    if response.status_code == 200:
        response.direct_passthrough = False
        response.make_sequence()
    return response


def digest(folder: Path) -> str:
    """Six hexadecimal digits that depend on all files' names and contents."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:6]
