"""What a client of the scheduler holds: the handle of a prompt, and the events on it.

The serving thread puts events on a :class:`Generation`; the client, usually a response that
is being streamed, takes them off.

Invariants: ``put`` never blocks, so a slow client delays nobody. The last event is a token
with a finish reason or :class:`Failed`, unless the client cancels.
"""

import queue
from collections.abc import Iterator
from dataclasses import dataclass

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


Event = Queued | Prefilling | GeneratedToken | Failed


class Generation:
    """The handle of one submitted prompt: what was requested, and the events so far."""

    def __init__(self, ids: list[int], n_tokens: int, sampling: SamplingParams):
        self.ids, self.n_tokens, self.sampling = ids, n_tokens, sampling
        self.cancelled = False
        # Unbounded, so put() never blocks. It stays small: one event a token, chunk or position.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Add an event. Called by the serving thread; never blocks."""
        self._events.put(event)

    def events(self, heartbeat_seconds: float) -> Iterator[Event | None]:
        """Yield each event, up to the last token or the failure.

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
            if isinstance(event, Failed):
                return
            if isinstance(event, GeneratedToken) and event.finish_reason:
                return

    def cancel(self) -> None:
        """The client has left: the scheduler drops the sequence before its next token."""
        self.cancelled = True
