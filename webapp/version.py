"""Which version of the package runs: installed, or a checkout."""

import tomllib
from importlib import metadata

from webapp.assets import asset


def version() -> str:
    """The version as in ``pyproject.toml``."""
    try:
        return metadata.version("glyph-gpt2")
    except metadata.PackageNotFoundError:  # a checkout, or an unpacked wheel
        pass
    try:
        return str(tomllib.loads(asset("pyproject.toml").read_text("utf-8"))["project"]["version"])
    except OSError:
        return "unknown"
