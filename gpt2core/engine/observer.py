"""What the serving side reports of its work, for metrics.

A :class:`Scheduler` and a :class:`ModelServer` call an :class:`Observer`; this one ignores
everything. A subclass counts, outside gpt2core.

Invariants: a method returns at once and raises nothing, because the serving thread calls it
between two tokens, sometimes with the scheduler's lock. Only ``load`` is called by other threads
too.
"""

from typing import Any, Literal

from gpt2core.engine.events import Request

ModelState = Literal["loading", "ready", "failed"]


class Observer:
    """See the module."""

    def model(self, state: ModelState) -> None:
        """The model is being prepared, can be used, or could not be prepared."""

    def load(self, n_running: int, n_waiting: int) -> None:
        """So many requests run and wait from now on."""

    def admitted(self, request: Request[Any]) -> None:
        """A request got a slot."""

    def read(self, request: Request[Any], n_tokens: int) -> None:
        """The next tokens of the text of ``request`` are in the cache."""

    def generated(self, request: Request[Any], seconds: float) -> None:
        """A token was generated, so many seconds after the one before or after the submission."""

    def ended(self, request: Request[Any]) -> None:
        """A request has ended, for its ``end_reason``; a waiting one may never have had a slot."""


IGNORE = Observer()
