"""The scheduling policy: who gets a slot, and how much of a prompt is read next.

It has no thread, lock, clock or engine. The serving thread (``scheduler.py``) asks it what to
do next, does it, and records how long it took.

Invariants: at most ``n_slots`` sequences run and ``max_waiting`` requests wait. Clients
get slots in turn, each in the order in which its requests arrived; a request that is cancelled
while it waits gets none. Prompts are read one at a time, in order of arrival, before texts that are
scored. While other sequences decode, a chunk takes about as long as a decode step, so a long prompt
never delays their next token by much more than one step; and scoring, which can go on for minutes,
gets at most ``1 - DECODE_SHARE`` of the time.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from gpt2core.engine.events import ClientLimit, Request, Unavailable
from gpt2core.engine.scores import Scores
from gpt2core.engine.sequence import Sequence

MIN_PREFILL_CHUNK = 16  # tokens; with fewer, a prompt would be read too inefficiently
# Of the time, for decode steps while a text is scored. More than half, because a stream is to keep
# half of its rate, and a step is slower after a chunk, which empties the processor's caches.
DECODE_SHARE = 0.7


@dataclass(eq=False)
class Running:
    """A request that has a slot of the engine.

    A :class:`Generation` has a ``sequence``. A :class:`Scoring` has ``scores`` instead: those of
    the tokens read so far. Its first ``n_context`` tokens are read only.
    """

    request: Request[Any]
    slot: int
    sequence: Sequence | None = None
    n_context: int = 0
    n_prefilled: int = 0  # tokens of the text that are in the cache
    scores: list[Scores] = field(default_factory=list)  # of the chunks read so far
    last_token_id: int = field(init=False)  # the newest token: of the prompt, then generated

    def __post_init__(self) -> None:
        self.last_token_id = self.request.ids[-1]

    @property
    def generating(self) -> Sequence:
        """The sequence of a generation. Raises TypeError for a text that is scored."""
        if self.sequence is None:
            raise TypeError("nothing is generated after a text that is scored")
        return self.sequence

    @property
    def n_to_read(self) -> int:
        """Tokens that go into the cache; the last one of a text that is scored predicts none."""
        return len(self.request.ids) - (self.sequence is None)

    @property
    def unread(self) -> list[int]:
        """The tokens that are to be read and are not in the cache yet."""
        return self.request.ids[self.n_prefilled : self.n_to_read]

    @property
    def scores_next(self) -> bool:
        """Whether the next chunk is scored, and not only read."""
        return self.sequence is None and self.n_prefilled >= self.n_context

    @property
    def is_decoding(self) -> bool:
        """Whether the whole text is read."""
        return self.n_prefilled == self.n_to_read


class Policy:
    """The waiting and running requests, and the durations that set the chunks and their turns."""

    def __init__(
        self, n_slots: int, max_waiting: int, max_chunk: int, max_per_client: int | None = None
    ):
        """``max_chunk`` is the number of prompt tokens that the engine reads best at once.

        One client may have ``max_per_client`` requests that run or wait; None: any number.
        """
        self.max_per_client = max_per_client
        self.n_slots, self.max_waiting, self.max_chunk = n_slots, max_waiting, max_chunk
        self.waiting: deque[Request[Any]] = deque()
        self.running: list[Running] = []
        self._step_seconds = 0.0  # of the newest decode step
        # For each token of the newest chunk: of one that was read only, of one that was scored.
        self._token_seconds = {False: 0.0, True: 0.0}
        self._owed_seconds = 0.0  # of decode steps, before the next chunk of a text is scored

    @property
    def is_busy(self) -> bool:
        """Whether the next request would have to wait."""
        return len(self.running) + len(self.waiting) >= self.n_slots

    @property
    def is_full(self) -> bool:
        """Whether the queue has no room for the next request."""
        return len(self.running) + len(self.waiting) >= self.n_slots + self.max_waiting

    def is_at_limit(self, client: str) -> bool:
        """Whether ``client`` has as many requests as it may; cancelled ones do not count."""
        present = [*self.waiting, *(running.request for running in self.running)]
        n = sum(one.sender.client == client and not one.cancelled for one in present)
        return self.max_per_client is not None and n >= self.max_per_client

    def check_room(self, client: str) -> None:
        """Raise Unavailable if no further request of ``client`` can wait."""
        if self.is_at_limit(client):
            raise ClientLimit(
                "You have as many texts here as one client may have at once "
                f"({self.max_per_client}); try again when one of them has ended.",
                5,
                "client_limit",
            )
        if self.is_full:
            raise Unavailable(
                f"{self.n_slots} texts are being written and "
                f"{self.max_waiting} more wait; try again in a moment.",
                5,
                "queue_full",
            )

    def add(self, request: Request[Any]) -> None:
        """Append to the queue."""
        self.waiting.append(request)

    def in_turn(self) -> list[Request[Any]]:
        """The waiting requests in the order in which they get slots.

        Of each client, the request that would be its first to run comes before what would be the
        second of any other, and so on; among equals the earlier arrival comes first.
        """
        n_before = Counter(running.request.sender.client for running in self.running)
        turns = []
        for request in self.waiting:
            turns.append(n_before[request.sender.client])
            n_before[request.sender.client] += 1
        order = sorted(zip(turns, self.waiting, strict=True), key=lambda turn: turn[0])
        return [request for _, request in order]

    def positions(self) -> list[tuple[Request[Any], int]]:
        """Each waiting request with its position: 0 if a slot is free for it, 1 for the next."""
        n_free = self.n_slots - len(self.running)
        return [
            (request, max(0, place - n_free))
            for place, request in enumerate(self.in_turn(), start=1)
        ]

    def drop_cancelled(self) -> list[Request[Any]]:
        """Remove and return the waiting requests that are cancelled."""
        dropped = [one for one in self.waiting if one.cancelled]
        self.waiting = deque(one for one in self.waiting if one not in dropped)
        return dropped

    def admit(self) -> list[Request[Any]]:
        """Remove and return the requests that get a slot now."""
        admitted = self.in_turn()[: self.n_slots - len(self.running)]
        self.waiting = deque(one for one in self.waiting if one not in admitted)
        return admitted

    def next_prefill(self) -> tuple[Running, list[int]] | None:
        """The request whose text is read next, and the chunk; None if there is none now."""
        if not self.decode_batch():
            self._owed_seconds = 0.0
        unread = [running for running in self.running if not running.is_decoding]
        prompts = [running for running in unread if running.sequence is not None]
        if prompts:
            return prompts[0], prompts[0].unread[: self._chunk_size(False)]
        if not unread or self._owed_seconds > 0:
            return None
        running, scores = unread[0], unread[0].scores_next
        end = None if scores else running.n_context - running.n_prefilled
        return running, running.unread[:end][: self._chunk_size(scores)]

    def _chunk_size(self, scores: bool) -> int:
        if not self.decode_batch():  # no sequence would be delayed
            return self.max_chunk
        token_seconds = self._token_seconds[scores]
        if not token_seconds:  # nothing is measured yet
            return MIN_PREFILL_CHUNK if scores else self.max_chunk
        # As many tokens as are read, or scored, during one decode step.
        n = int(self._step_seconds / token_seconds)
        return min(max(n, MIN_PREFILL_CHUNK), self.max_chunk)

    def decode_batch(self) -> list[Running]:
        """The sequences that get one more token in the next decode step."""
        return [running for running in self.running if running.is_decoding]

    def record_chunk(self, running: Running, n_tokens: int, seconds: float) -> None:
        """The next ``n_tokens`` of ``running`` took so many seconds."""
        self._token_seconds[running.scores_next] = seconds / n_tokens
        if running.sequence is None and self.decode_batch():
            self._owed_seconds += seconds * DECODE_SHARE / (1 - DECODE_SHARE)

    def record_step(self, seconds: float) -> None:
        """A decode step took so many seconds."""
        self._step_seconds = seconds
        # What a step makes up for too much counts for the next chunk.
        self._owed_seconds = max(-seconds, self._owed_seconds - seconds)
