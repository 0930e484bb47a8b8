"""The errors that users meet, each a sentence they can act on.

Every invalid prompt, number, file or model name is raised as a :class:`GPT2Error`, which is
a ``ValueError``. The command line prints its sentence; the web page shows it beside the
field it is about.

Invariant: this module imports nothing, so every other module may import it.
"""


class GPT2Error(ValueError):
    """Base of all errors whose message is written for the user."""


class InputError(GPT2Error):
    """An invalid prompt or parameter.

    ``field`` is the parameter's name as forms and JSON spell it (``"prompt"``, ``"top_p"``
    …); ``numbers`` holds the figures of the message for programs
    (``n_prompt_tokens=1200, n_ctx=1024``).
    """

    def __init__(self, message: str, field: str | None = None, **numbers: float) -> None:
        super().__init__(message)
        self.field = field
        self.numbers = numbers


class ModelFileError(GPT2Error):
    """A model's files are missing, damaged or not a GPT-2."""


class WriteError(ModelFileError):
    """A model's folder cannot be written: it is read-only, or the disk is full."""
