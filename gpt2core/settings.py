"""Settings from the environment: each ``GPT2_*`` variable, its default, why it exists.

Everything that can be set is read here: the command line, the download, the engine and
the web page take their settings from :class:`Settings`. The README has the same table.

Invariant: a :class:`Settings` that exists is usable. An invalid variable raises an error
that names it; it is never ignored.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin

from gpt2core.errors import GPT2Error


class SettingError(GPT2Error):
    """An environment variable with an invalid value."""


@dataclass(frozen=True)
class Settings:
    """Field ``max_batch`` is the variable ``GPT2_MAX_BATCH``, and so on."""

    model: str = "demo"  # which model the page runs: demo, 124M … 1558M, or a folder
    models_dir: str = "models"  # where models are; a volume, when deployed
    # Where OpenAI's files are downloaded from, <url>/<size>/<file>: a mirror, or a test's server.
    base_url: str = "https://openaipublic.blob.core.windows.net/gpt-2/models"
    threads: int | None = None  # threads of one engine; None: one for each processor
    weights: Literal["float32", "int8"] = (
        "float32"  # precision of the weights that generate: float32, or int8 to be fast
    )
    kernels: bool = True  # whether the engine is compiled by Numba; off: plain NumPy, slower
    kernel_cache: str = ""  # folder of compiled kernels; empty: gpt2core in the user's cache
    max_batch: int = 8  # sequences decoded together: more share the CPU, each gets slower
    max_queue: int = 32  # prompts that may wait for a slot; beyond it the answer is a 503
    # texts that one client may have running or waiting; None: three quarters of all places
    max_per_client: int | None = None
    rate_limit: str = ""  # how often a client may start work, as "60 per minute"; empty: no limit
    rate_storage: str = "memory://"  # where that is counted: each process, or a Redis for all
    max_chars: int = 100_000  # longest text accepted; bounds the work of one request
    trusted_proxies: int = 0  # proxies in front whose X-Forwarded-* headers are believed
    api_key: str = ""  # what clients of /v1 must send; empty: nothing
    metrics: bool = False  # whether GET /metrics answers, for Prometheus
    request_log: bool = True  # whether the log has a line for each request
    inside: bool = True  # whether /inside answers; recording a text takes CPU time

    @property
    def places_of_a_client(self) -> int:
        """Texts that one client may have running or waiting."""
        return self.max_per_client or math.ceil(0.75 * (self.max_batch + self.max_queue))

    @property
    def server_threads(self) -> int:
        """One for each stream and each waiting prompt, and some for pages and health checks."""
        return self.max_batch + self.max_queue + 24

    @classmethod
    def from_environment(
        cls, *names: str, environment: Mapping[str, str] = os.environ
    ) -> "Settings":
        """Settings from ``GPT2_*`` variables; an empty variable counts as unset.

        With ``names``, only these fields are read, so that a program does not fail because
        of a variable it does not use. Raises SettingError for an invalid value.
        """
        types = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for name in names or types:
            text = environment.get(variable_name(name), "")
            if text:
                smallest = 0 if getattr(cls, name) == 0 else 1
                values[name] = parse(types[name], variable_name(name), text, smallest)
        return cls(**values)


def variable_name(field: str) -> str:
    """The environment variable of a field: ``"max_batch"`` -> ``"GPT2_MAX_BATCH"``."""
    return f"GPT2_{field.upper()}"


def parse(kind: Any, variable: str, text: str, smallest: int = 1) -> str | bool | int:
    """``text`` as a value of a field of type ``kind``. Raises SettingError.

    A number is at least ``smallest``.
    """
    if kind is str:
        return text
    if get_origin(kind) is Literal:
        return parse_choice(variable, text, get_args(kind))
    if kind is bool:
        return parse_switch(variable, text)
    return parse_int(variable, text, smallest)


def parse_choice(variable: str, text: str, choices: tuple[str, ...]) -> str:
    """One of ``choices``. Raises SettingError naming the variable."""
    if text not in choices:
        raise SettingError(f"{variable} is {text!r}; it must be {' or '.join(choices)}.")
    return text


def parse_switch(variable: str, text: str) -> bool:
    """``on`` or ``off``. Raises SettingError naming the variable."""
    if text not in ("on", "off"):
        raise SettingError(f"{variable} is {text!r}; it must be on or off.")
    return text == "on"


def parse_int(variable: str, text: str, smallest: int = 1) -> int:
    """``text`` as a whole number, ``smallest`` or more. Raises SettingError naming the variable."""
    if not text.isdecimal() or int(text) < smallest:
        raise SettingError(
            f"{variable} is {text!r}; it must be a whole number of at least {smallest}."
        )
    return int(text)
