"""The errors people meet, each a sentence they can act on.

Everything that can be wrong with what a person gave us (a prompt, a number, a file,
a model's name) is raised as a :class:`GPT2Error`, which is a ``ValueError``. The
command line prints the sentence; the web page shows it beside the field it is about.

Invariant: this module imports nothing, so every other one may import it.
"""


class GPT2Error(ValueError):
    """Base of all errors whose message is meant for the person at the keyboard."""


class InputError(GPT2Error):
    """A prompt or a parameter that cannot be used.

    ``field`` names the parameter as forms and JSON spell it
    (``"prompt"``, ``"top_p"`` …); ``numbers`` holds the figures of the message
    (``n_prompt_tokens=1200, n_ctx=1024``) for programs to read.
    """

    def __init__(self, message: str, field: str | None = None, **numbers: float):
        super().__init__(message)
        self.field = field
        self.numbers = numbers


class ModelFileError(GPT2Error):
    """A model's files are missing, damaged or not a GPT-2."""


class WriteError(ModelFileError):
    """A model's folder cannot be written: it is read-only, or the disk is full."""
