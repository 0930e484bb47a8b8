"""What a client of the scheduler holds: the handle of a prompt, and the events on it.

The serving thread puts events on a :class:`Generation` or a :class:`Scoring`; the client,
usually a response that is being streamed, takes them off.

Invariants: ``put`` never blocks, so a slow client delays nobody. The last event is a token
with a finish reason, :class:`Scored` or :class:`Failed`, unless the client cancels.
"""

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpt2core.engine.scores import Scores
from gpt2core.engine.sequence import GeneratedToken
from gpt2core.errors import GPT2Error
from gpt2core.sampling import SamplingParams


class Unavailable(GPT2Error):
    """Nothing can be generated now; a client may try again after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: int):
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Queued:
    """The generation waits for a slot; ``position`` 1 is next."""

    position: int


@dataclass(frozen=True)
class Prefilling:
    """A long prompt is being read: ``n_read`` of its ``n_tokens`` are in the cache."""

    n_read: int
    n_tokens: int


@dataclass(frozen=True)
class Failed:
    """The generation ended without a finish reason; ``message`` is for the user."""

    message: str


@dataclass(frozen=True)
class Scored:
    """The whole text is scored: ``scores[i]`` are those of its token ``i + 1``."""

    scores: Scores


Event = Queued | Prefilling | GeneratedToken | Failed  # of a generation
Result = TypeVar("Result", GeneratedToken, Scored)


class Request(Generic[Result]):
    """The handle of one submitted text: its ids, and the events so far."""

    def __init__(self, ids: list[int]):
        self.ids = ids
        self.cancelled = False
        # Unbounded, so put() never blocks. It stays small: one event a token, chunk or position.
        self._events: queue.SimpleQueue[Queued | Prefilling | Failed | Result] = queue.SimpleQueue()

    def put(self, event: Queued | Prefilling | Failed | Result) -> None:
        """Add an event. Called by the serving thread; never blocks."""
        self._events.put(event)

    def events(
        self, heartbeat_seconds: float
    ) -> Iterator[Queued | Prefilling | Failed | Result | None]:
        """Yield each event, up to the last token, the scores or the failure.

        Yields None whenever ``heartbeat_seconds`` pass without an event, so that the caller
        can send a heartbeat and notice that its client has disconnected.
        """
        while True:
            try:
                event = self._events.get(timeout=heartbeat_seconds)
            except queue.Empty:
                yield None
                continue
            yield event
            if isinstance(event, (Failed, Scored)):
                return
            if isinstance(event, GeneratedToken) and event.finish_reason:
                return

    def cancel(self) -> None:
        """The client has left: the scheduler drops the sequence before its next token."""
        self.cancelled = True


class Generation(Request[GeneratedToken]):
    """A prompt that is continued by up to ``n_tokens`` tokens."""

    def __init__(self, ids: list[int], n_tokens: int, sampling: SamplingParams):
        super().__init__(ids)
        self.n_tokens, self.sampling = n_tokens, sampling


class Scoring(Request[Scored]):
    """A text whose own tokens are scored; nothing is generated."""
