"""The real app with a model that keeps time and takes orders, for tests of streams.

``gunicorn "tests.helpers.paced:create_app()"`` serves everything as it is; only what draws
tokens is replaced. A token takes at least ``TEST_PACE`` seconds, so that a test can
act while a text is being written, on a machine of any speed. What the prompt begins with
is an order:

- ``Echo:`` the model repeats the rest of the prompt, again and again;
- ``Slow:`` the same, but ``SLOW_PACE`` seconds a token;
- ``End:`` as ``Echo:``, but once, and then ends the text with ``<|endoftext|>``;
- ``Fail`` the model breaks after three tokens;
- anything else: the real model's own tokens, paced.
"""

import os
import time
from dataclasses import replace
from itertools import chain, cycle, repeat

import gpt2core.engine.scheduler
import webapp
from gpt2core.engine.sequence import ENDOFTEXT_ID, Sequence
from gpt2core.tokenizer.bpe import default_encoder

PACE = float(os.environ.get("TEST_PACE", "0"))
SLOW_PACE = 0.25  # a text of 250 tokens takes a minute: whoever stops it is surely earlier
encode, decode = default_encoder().encode, default_encoder().decode


class PacedSequence(Sequence):
    """Like ``gpt2core.engine.sequence.Sequence``, but slow and obedient."""

    def __init__(self, ids, n_tokens, n_ctx, sampling, endoftext=ENDOFTEXT_ID):
        order, _, rest = decode(ids).partition(":")
        self.pace, self.orders = PACE, repeat(None)
        if order in ("Echo", "Slow"):
            self.orders, endoftext = cycle(encode(rest)), None
        elif order == "End":
            self.orders, endoftext = chain(encode(rest), [ENDOFTEXT_ID]), None
        elif order.startswith("Fail"):
            self.orders = failing(encode("one two three"))
        if order == "Slow":
            self.pace = SLOW_PACE
        super().__init__(ids, n_tokens, n_ctx, sampling, endoftext)

    def sample_next(self, logits):
        time.sleep(self.pace)
        token, ordered = super().sample_next(logits), next(self.orders)
        if ordered is not None:
            token = replace(token, id=ordered)
        if ordered == ENDOFTEXT_ID:
            token = replace(token, finish_reason="endoftext")
        return token


def failing(ids):
    """The ids, and then an error as a bug in the model would raise it."""
    yield from ids
    raise RuntimeError("the model has a fault")


def create_app():
    """The app; this process's scheduler makes paced tokens from now on."""
    gpt2core.engine.scheduler.Sequence = PacedSequence
    return webapp.create_app()
