"""Several requests to the model server at once, and their events in the order they come.

Between the scheduler's handles and ``completions``. Invariants: at most ``limit`` requests of a
batch run or wait at a time, so that one client does not fill the queue; whatever ends the
iteration cancels all of them.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence

from gpt2core.engine.events import (
    EndReason,
    Failed,
    Prefilling,
    Queued,
    Request,
    Scored,
    Unavailable,
    is_last,
)
from gpt2core.engine.sequence import GeneratedToken

AnyRequest = Request[GeneratedToken] | Request[Scored]
AnyEvent = Queued | Prefilling | GeneratedToken | Scored | Failed


class Batch:
    """Requests that are started one after the other, each by a function of ``starts``."""

    def __init__(self, starts: Sequence[Callable[[], AnyRequest]], limit: int):
        self._waiting = deque(enumerate(starts))
        self._limit = limit
        self._running: dict[int, AnyRequest] = {}
        self._arrived = threading.Event()

    def start(self) -> None:
        """Start as many as may run. Raises Unavailable if none of this batch runs."""
        while self._waiting and len(self._running) < self._limit:
            index, start = self._waiting[0]
            try:
                request = start()
            except Unavailable:
                if not self._running:
                    raise
                return  # it is tried again when one of this batch has ended
            self._waiting.popleft()
            self._running[index] = request
            request.on_event = self._arrived.set
            self._arrived.set()  # for events that came before

    def events(self, heartbeat_seconds: float) -> Generator[tuple[int, AnyEvent] | None]:
        """Each event with the index of its request; None after so many seconds without one.

        Raises Unavailable as :meth:`start` does.
        """
        try:
            while self._waiting or self._running:
                self.start()
                if not self._arrived.wait(heartbeat_seconds):
                    yield None
                    continue
                self._arrived.clear()
                for index, request in list(self._running.items()):
                    for event in request.events_so_far():
                        if is_last(event):
                            self._running.pop(index, None)
                        yield index, event
        finally:
            self.cancel()

    def end(self, index: int, reason: EndReason) -> None:
        """No more tokens of this request are needed."""
        request = self._running.pop(index, None)
        if request is not None:
            request.cancel(reason)

    def cancel(self, reason: EndReason = "client_left") -> None:
        """End all of them."""
        self._waiting.clear()
        for index in list(self._running):
            self.end(index, reason)
