"""The web page's own settings: environment variable, default, and why each exists.

Read once, by ``create_app``. A test holds that each setting stands in the README.
Invariant: a :class:`Settings` that exists is usable; a bad variable stops the start with
a sentence that names it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from gpt2core.settings import positive


@dataclass(frozen=True)
class Settings:
    """Field ``max_batch`` is read from ``GPT2_MAX_BATCH``, and so on."""

    model: str = "demo"  # which model talks: demo, 124M … 1558M, or a folder
    models_dir: str = "models"  # where models lie; a volume, when deployed
    max_batch: int = 8  # sequences decoded together: more share the CPU, each gets slower
    max_queue: int = 32  # prompts that may wait for a place; beyond it people get a 503
    max_chars: int = 100_000  # longest text taken at all; bounds the work of one request

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Settings from ``GPT2_*`` variables; empty ones count as unset."""
        values = {}
        for field in fields(cls):
            name = f"GPT2_{field.name.upper()}"
            text = environment.get(name, "")
            if text:
                values[field.name] = text if field.type is str else positive(name, text)
        return cls(**values)
