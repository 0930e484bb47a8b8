"""The real app with a model of a set pace and a set text, for tests of streams.

``gunicorn "tests.helpers.paced:create_app()"`` serves the app as it is, with sampling
replaced. A token takes at least ``TEST_PACE`` seconds, so that a test can act while a text is
being generated, on a machine of any speed. The beginning of the prompt chooses the text:

- ``Echo:`` the rest of the prompt, again and again;
- ``Slow:`` the same, at ``SLOW_PACE`` seconds a token;
- ``End:`` the rest of the prompt once, and then ``<|endoftext|>``;
- ``Fail`` three tokens, and then an error;
- anything else: the real model's own tokens.
"""

import os
import time
from itertools import chain, cycle, repeat

import gpt2core.engine.scheduler
import webapp
from gpt2core.engine.sequence import ENDOFTEXT_ID, GPT2_END_IDS, Sequence
from gpt2core.tokenizer.vocabulary import default_encoder

PACE = float(os.environ.get("TEST_PACE", "0"))
SLOW_PACE = 0.25  # seconds; 250 tokens take a minute, so a test surely stops them earlier
encode, decode = default_encoder().encode, default_encoder().decode


class PacedSequence(Sequence):
    """A ``Sequence`` with a pace and, for some prompts, a set text."""

    def __init__(self, ids, n_tokens, n_ctx, sampling, end_ids=GPT2_END_IDS, *options):
        command, _, rest = decode(ids).partition(":")
        # The ids to generate; None for the model's own.
        self.pace, self.script = PACE, repeat(None)
        if command in ("Echo", "Slow"):
            self.script, end_ids = cycle(encode(rest)), ()
        elif command == "End":
            self.script, end_ids = chain(encode(rest), [ENDOFTEXT_ID]), ()
        elif command.startswith("Fail"):
            self.script = failing(encode("one two three"))
        if command == "Slow":
            self.pace = SLOW_PACE
        super().__init__(ids, n_tokens, n_ctx, sampling, end_ids, *options)

    def draw_next(self, logits):
        time.sleep(self.pace)
        token, id = super().draw_next(logits), next(self.script)
        if id is not None:
            token = token._replace(id=id)
        if id == ENDOFTEXT_ID:
            token = token._replace(finish_reason="endoftext")
        return token


def failing(ids):
    """The ids, and then an error."""
    yield from ids
    raise RuntimeError("the model has a fault")


def create_app():
    """The app; from now on, schedulers of this process use PacedSequence."""
    gpt2core.engine.scheduler.Sequence = PacedSequence
    return webapp.create_app()
