"""Reading numbers that people set in the environment: one check, one sentence.

Used by ``blas`` for the engine's threads and by the web page for its own settings.
Invariant: a variable that cannot be used is told by its name, never passed over.
"""

from gpt2core.errors import GPT2Error


class SettingError(GPT2Error):
    """An environment variable that cannot be used."""


def positive(name: str, text: str) -> int:
    """``text`` as a whole number of at least 1. Raises SettingError naming the variable."""
    if not text.isdecimal() or int(text) < 1:
        raise SettingError(f"{name} is {text!r}; it must be a whole number of at least 1.")
    return int(text)
