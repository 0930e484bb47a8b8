"""The paced app with a defect: a text that begins with ``Break`` raises an error that quotes it.

``gunicorn "tests.helpers.leaky:create_app()"`` serves it, for tests of what is logged.
"""

from gpt2core.continuation import Continuation
from tests.helpers import paced


def create_app():
    """The app; from now on, continuations of this process have the defect."""
    add = Continuation.add

    def leaky(continuation, token):
        text = continuation.prompt + "".join(step.text for step in continuation.steps)
        if text.startswith("Break"):
            raise RuntimeError(f"no token fits after {text!r}")
        return add(continuation, token)

    Continuation.add = leaky
    return paced.create_app()
