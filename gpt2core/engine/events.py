"""What a client of the scheduler holds: the handle of a prompt, and the events on it.

The serving thread puts events on a :class:`Generation` or a :class:`Scoring`; the client,
usually a response that is being streamed, takes them off.

Invariants: ``put`` never blocks, so a slow client delays nobody. The last event is a token
with a finish reason, :class:`Scored` or :class:`Failed`, unless the client cancels.
"""

import logging
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from gpt2core.engine.scores import Scores
from gpt2core.engine.sequence import (
    DEFAULT_OPTIONS,
    Drawn,
    FinishReason,
    GeneratedToken,
    GenerationOptions,
)
from gpt2core.errors import GPT2Error
from gpt2core.sampling import SamplingParams

log = logging.getLogger(__name__)

# Why a request is not taken. "busy": one that only one client can have at a time.
RefusalReason = Literal[
    "queue_full", "client_limit", "rate_limit", "not_ready", "restarting", "busy"
]
# Why a request that failed has failed. "restarting": the server is being stopped.
FailureReason = Literal["failed", "restarting"]
# Why a request that was taken has ended. "client_left": the connection was closed, which is also
# how a user stops a text.
EndReason = FinishReason | FailureReason | Literal["scored", "client_left"]


class Unavailable(GPT2Error):
    """Nothing can be generated now; a client may try again after ``retry_after`` seconds.

    ``reason`` is why the request was refused; None: it was taken, and failed.
    """

    def __init__(self, message: str, retry_after: int, reason: RefusalReason | None = None):
        super().__init__(message)
        self.retry_after, self.reason = retry_after, reason


class ClientLimit(Unavailable):
    """One client asks for more than its share; others are served."""


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
    reason: FailureReason = "failed"


@dataclass(frozen=True)
class Prepared(GeneratedToken):
    """A token with what ``GenerationOptions.prepare`` made of it, or the exception it raised.

    The serving thread makes it while the engine's other threads compute the next step. A thread
    of each client would interrupt these, and the pass waits for every one of them.
    """

    made: object = None

    def take(self) -> Any:
        """What was made. Raises what making it has raised."""
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@dataclass(frozen=True)
class Scored:
    """The whole text is scored: ``scores[i]`` are those of token ``i`` after the context."""

    scores: Scores


Event = Queued | Prefilling | GeneratedToken | Failed  # of a generation
LastEvent = GeneratedToken | Scored | Failed  # of a request
Result = TypeVar("Result", GeneratedToken, Scored)


@dataclass(frozen=True)
class Sender:
    """Who submits a text: ``client``, whose requests share its turns, and the id in the log."""

    client: str = ""
    request_id: str = ""


NOBODY = Sender()


class Request(Generic[Result]):
    """The handle of one submitted text: its ids, and the events so far.

    ``position`` is the last one that was reported. ``on_event`` is called after each event, by the
    serving thread.
    """

    def __init__(self, ids: list[int], sender: Sender = NOBODY):
        self.ids, self.sender = ids, sender
        self.position = 0
        self.cancelled = False
        self.n_generated = 0
        self.end_reason: EndReason | None = None  # None: it waits or runs
        self.submitted_at = self._changed_at = monotonic()
        self.on_event: Callable[[], None] = _nothing
        # Unbounded, so put() never blocks. It stays small: one event a token, chunk or position.
        self._events: queue.SimpleQueue[Queued | Prefilling | Failed | Result] = queue.SimpleQueue()

    def put(self, event: Queued | Prefilling | Failed | Result) -> None:
        """Add an event; after a failure no more is needed. Never blocks.

        Called by the serving thread.
        """
        if isinstance(event, Failed):
            self.cancel(event.reason)
        self._events.put(event)
        self.on_event()

    def described(self, token: Drawn) -> GeneratedToken | Failed:
        """The event of a token that was drawn; a failure if it cannot be described.

        Never raises.
        """
        try:
            return token.describe()
        except Exception as error:
            log.exception("request %s failed", self.sender.request_id or "-")
            return failure(error)

    def events_so_far(self) -> list[Queued | Prefilling | Failed | Result]:
        """Take the events that are there, without waiting."""
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

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
            if is_last(event):
                return

    @property
    def age(self) -> float:
        """Seconds since the submission."""
        return monotonic() - self.submitted_at

    def count_token(self) -> float:
        """Count a generated token. Returns the seconds since the one before, or the submission."""
        before, self._changed_at = self._changed_at, monotonic()
        self.n_generated += 1
        return self._changed_at - before

    def end(self, reason: EndReason) -> None:
        """Keep why the request has ended: the first reason counts.

        A stop string counts even after it, because the client's text ends there, however far
        the engine has gone on in the meantime.
        """
        if self.end_reason is None or reason == "stop":
            self.end_reason = reason

    def cancel(self, reason: EndReason = "client_left") -> None:
        """No more is needed: the scheduler drops the sequence before its next token.

        After the last event only a stop string changes anything: the reason.
        """
        self.end(reason)
        self.cancelled = True


class Generation(Request[GeneratedToken]):
    """A prompt that is continued by up to ``n_tokens`` tokens."""

    def __init__(
        self,
        ids: list[int],
        n_tokens: int,
        sampling: SamplingParams,
        options: GenerationOptions = DEFAULT_OPTIONS,
        sender: Sender = NOBODY,
    ):
        super().__init__(ids, sender)
        self.n_tokens, self.sampling, self.options = n_tokens, sampling, options

    def described(self, token: Drawn) -> GeneratedToken | Failed:
        event, prepare = super().described(token), self.options.prepare
        if prepare is None or isinstance(event, Failed):
            return event
        try:
            return Prepared(**vars(event), made=prepare(event))
        except Exception as error:
            return Prepared(**vars(event), made=error)


class Scoring(Request[Scored]):
    """A text whose tokens after the first ``n_context`` are scored.

    ``n_top`` likeliest tokens are reported for each place.
    """

    def __init__(self, ids: list[int], n_top: int = 0, n_context: int = 1, sender: Sender = NOBODY):
        super().__init__(ids, sender)
        self.n_top, self.n_context = n_top, n_context


def failure(error: Exception) -> Failed:
    """The last event of a request that ``error`` has ended."""
    return Failed(f"The model stopped with an error: {error}")


def is_last(event: object) -> bool:
    """Whether no event of the same request follows."""
    if isinstance(event, GeneratedToken):
        return event.finish_reason is not None
    return isinstance(event, (Failed, Scored))


def reason_of(last: LastEvent) -> EndReason:
    """Why a request ends with this event."""
    if isinstance(last, GeneratedToken):
        return last.finish_reason or "length"
    return last.reason if isinstance(last, Failed) else "scored"


def _nothing() -> None:
    """What ``Request.on_event`` does unless it is set."""
