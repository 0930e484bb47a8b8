"""The thread that serves: many requests at once on one engine.

:meth:`Scheduler.submit` queues a prompt and returns its :class:`Generation`;
:meth:`Scheduler.score` queues a text and returns its :class:`Scoring`. The thread repeats four
steps: admit waiting requests to free slots, drop those whose client has left, read one chunk
of one text, and make one token for every sequence whose prompt is read. Each token goes to the
queue of its request, where the client takes it. ``policy.py`` decides
what to admit and how much to read.

Invariants: only this thread runs the engine. A slow or disconnected client delays nobody
else. A failure ends the request it belongs to, or all running ones if that is unknown;
it never ends the thread. The policy's lists change only while the lock is held, because
clients read their lengths.
"""

import logging
import sys
import threading
from collections.abc import Collection
from time import monotonic, perf_counter
from typing import Any

from gpt2core.engine.engine import PREFILL_CHUNK, Engine
from gpt2core.engine.events import (
    NOBODY,
    Failed,
    Generation,
    LastEvent,
    Prefilling,
    Queued,
    Request,
    Scored,
    Scoring,
    Sender,
    Unavailable,
    failure,
    reason_of,
)
from gpt2core.engine.observer import IGNORE, Observer
from gpt2core.engine.policy import Policy, Running
from gpt2core.engine.scores import join_scores, no_scores
from gpt2core.engine.sequence import DEFAULT_OPTIONS, Drawn, GenerationOptions, Sequence
from gpt2core.hparams import check_prompt, check_text
from gpt2core.sampling import FloatArray, SamplingParams

log = logging.getLogger(__name__)

# Seconds that another thread may run Python code while this one waits. With Python's default
# of 5 ms, a long text that is tokenized beside a stream delays each of its steps several times.
SWITCH_INTERVAL = 0.0002
RESTARTING = "The server is being restarted; try again in a moment."


class Scheduler:
    """Serves one engine, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        engine: Engine,
        end_ids: Collection[int],
        max_queue: int,
        max_per_client: int | None = None,
        observer: Observer = IGNORE,
    ):
        """As many sequences run as the engine has slots; ``max_queue`` more may wait.

        Each of ``end_ids`` ends a sequence early. ``max_per_client`` is as in :class:`Policy`.
        """
        self._engine, self._end_ids, self._observer = engine, end_ids, observer
        self._policy = Policy(engine.n_slots, max_queue, PREFILL_CHUNK, max_per_client)
        self._unreported: list[tuple[Request[Any], Drawn]] = []  # of the last step
        self._changed = threading.Condition()  # its lock guards the policy
        self._thread: threading.Thread | None = None  # created by start(), after any fork
        self._stopped = False
        self._deadline: float | None = None  # monotonic time at which drain() ends everything

    def start(self) -> None:
        """Start the thread. Further calls do nothing."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="scheduler", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it. What still runs or waits fails."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._end_running(Failed(RESTARTING, "restarting"))
        self._end_waiting()

    def drain(self, seconds: float) -> None:
        """Refuse new prompts from now on, and end in ``seconds`` what still runs or waits.

        May be called from a signal handler: it takes no lock.
        """
        self._deadline = monotonic() + seconds

    @property
    def load(self) -> dict[str, int]:
        """The numbers of requests that run and wait."""
        with self._changed:
            return {"running": len(self._policy.running), "waiting": len(self._policy.waiting)}

    @property
    def is_busy(self) -> bool:
        """Whether the next prompt would have to wait."""
        with self._changed:
            return self._policy.is_busy

    def submit(
        self,
        ids: list[int],
        n_tokens: int,
        sampling: SamplingParams,
        options: GenerationOptions = DEFAULT_OPTIONS,
        sender: Sender = NOBODY,
    ) -> Generation:
        """Queue a prompt of ``sender`` to be continued by up to ``n_tokens`` tokens.

        Raises InputError for an invalid prompt or gates, Unavailable if it cannot be taken now.
        """
        engine = self._engine
        check_prompt(ids, engine.hparams.n_vocab, engine.hparams.n_ctx, engine.unused_ids)
        if options.gates is not None:
            options.gates.check(engine.hparams)
        generation = Generation(ids, n_tokens, sampling, options, sender)
        self._queue(generation)
        return generation

    def score(
        self, ids: list[int], n_top: int = 0, n_context: int = 1, sender: Sender = NOBODY
    ) -> Scoring:
        """Queue a text of ``sender`` to be scored: its own tokens, given what stands before each.

        The text is read in chunks between the steps of those that generate, as a prompt is.
        The last event is :class:`Scored`, with the ``n_top`` likeliest tokens at each place. The
        first ``n_context`` tokens, at least one, are read only.
        Raises InputError for an invalid or too long text, Unavailable if it cannot be taken now.
        """
        engine = self._engine
        check_text(ids, engine.hparams.n_vocab, engine.hparams.n_ctx, engine.unused_ids)
        scoring = Scoring(ids, n_top, n_context, sender)
        if len(ids) == 1:  # nothing stands before it
            self._end(scoring, Scored(no_scores(0, n_top)))
        else:
            self._queue(scoring)
        return scoring

    def _queue(self, request: Request[Any]) -> None:
        """Let a request wait for its slot. Raises Unavailable."""
        with self._changed:
            if self._stopped or self._deadline is not None:
                raise Unavailable(RESTARTING, 5, "restarting")
            self._policy.check_room(request.sender.client)
            self._policy.add(request)
            self._report_positions()
            self._report_load()
            self._changed.notify_all()

    def _serve(self) -> None:
        """The thread's function."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        while self._wait_for_work():
            try:
                self._drop_cancelled()
                self._admit()
                if self._deadline is not None and monotonic() >= self._deadline:
                    self._end_running(Failed(RESTARTING, "restarting"))
                    self._end_waiting()
                self._prefill_next()
                self._decode_step()
            except Exception as error:  # it is unknown which sequence caused it
                log.exception("a step failed, and with it all that run")
                self._end_running(failure(error))

    def _wait_for_work(self) -> bool:
        """Sleep while nothing runs or waits. Returns False when the thread is to end."""
        with self._changed:
            policy = self._policy
            self._changed.wait_for(lambda: self._stopped or policy.running or policy.waiting)
            return not self._stopped

    def _admit(self) -> None:
        """Give free slots to waiting requests; report new positions to the others."""
        with self._changed:
            for request in self._policy.admit():
                self._policy.running.append(self._run(request))
                self._observer.admitted(request)
            self._report_positions()
            self._report_load()

    def _report_positions(self) -> None:
        """Report its position to each waiting request whose position has changed."""
        for request, position in self._policy.positions():
            if position and position != request.position:
                request.position = position
                request.put(Queued(position))

    def _report_load(self) -> None:
        """Report how many requests run and wait; called with the lock."""
        self._observer.load(len(self._policy.running), len(self._policy.waiting))

    def _run(self, request: Request[Any]) -> Running:
        """Give a request a slot; its gates hold until the slot is closed."""
        if isinstance(request, Generation):
            slot = self._engine.open(request.options.gates)
            return Running(request, slot, self._sequence(request))
        n_context = request.n_context - 1 if isinstance(request, Scoring) else 0
        return Running(request, self._engine.open(), n_context=n_context)

    def _sequence(self, generation: Generation) -> Sequence:
        return Sequence(
            generation.ids,
            generation.n_tokens,
            self._engine.hparams.n_ctx,
            generation.sampling,
            self._end_ids,
            generation.options,
        )

    def _drop_cancelled(self) -> None:
        """Forget the requests of which no more is needed, and free their slots."""
        with self._changed:
            dropped = self._policy.drop_cancelled()
        for running in list(self._policy.running):
            if running.request.cancelled:
                self._release(running)
                dropped.append(running.request)
        for request in dropped:
            self._observer.ended(request)

    def _prefill_next(self) -> None:
        """Read the next chunk of a text that is not read yet, if it is its turn."""
        chosen = self._policy.next_prefill()
        if chosen is None:
            return
        self._report_tokens()
        running, chunk = chosen
        more_follow = len(chunk) < len(running.unread)
        logits = None  # [n_vocab] of the first new token
        began = perf_counter()
        try:
            if isinstance(running.request, Scoring):
                self._score_chunk(running, running.request, chunk)
            else:
                logits = self._engine.prefill(running.slot, chunk, more_follow)
        except Exception as error:
            self._fail(running, error)
            return
        self._policy.record_chunk(running, len(chunk), perf_counter() - began)
        running.n_prefilled += len(chunk)
        self._observer.read(running.request, len(chunk))
        if more_follow:
            # A client that waits for scores gets no news of chunks: there are too many to wake for.
            if running.sequence is not None:
                running.request.put(Prefilling(running.n_prefilled, running.n_to_read))
        elif logits is not None:
            self._emit(running, self._draw(running, logits))
        else:
            self._finish(running, Scored(join_scores(running.scores)))

    def _score_chunk(self, running: Running, scoring: Scoring, chunk: list[int]) -> None:
        """Read a chunk of a text and, after the context, score the tokens that follow."""
        if not running.scores_next:
            self._engine.prefill(running.slot, chunk, more_follow=True)
            return
        first = running.n_prefilled + 1
        targets = scoring.ids[first : first + len(chunk)]
        running.scores.append(self._engine.score(running.slot, chunk, targets, scoring.n_top))

    def _decode_step(self) -> None:
        """Generate one token for each sequence whose prompt is read."""
        batch = self._policy.decode_batch()
        if not batch:
            self._report_tokens()
            return
        began = perf_counter()
        # A step needs no more than the ids of the one before. Their tokens are described, and
        # prepared for their clients, when the engine's other threads compute already.
        slots, ids = [one.slot for one in batch], [one.last_token_id for one in batch]
        logits = self._engine.step(slots, ids, self._report_tokens)  # [n_seq, n_vocab]
        tokens = [self._draw(running, row) for running, row in zip(batch, logits, strict=True)]
        for running, token in zip(batch, tokens, strict=True):
            self._emit(running, token)
        self._policy.record_step(perf_counter() - began)

    def _draw(self, running: Running, logits: FloatArray) -> Drawn | None:
        """The next token from ``logits [n_vocab]``; None if drawing failed and was reported."""
        try:
            return running.generating.draw_next(logits)
        except Exception as error:
            self._fail(running, error)
            return None

    def _emit(self, running: Running, token: Drawn | None) -> None:
        """Note a token for its request; after the last one, free the slot."""
        if token is None:  # drawing it failed
            return
        self._observer.generated(running.request, running.request.count_token())
        if token.finish_reason:
            self._finish(running, running.request.described(token))
            return
        running.last_token_id = token.id
        self._unreported.append((running.request, token))

    def _report_tokens(self) -> None:
        """Report the tokens of the last step, together: a client that wakes interrupts this."""
        events = [(request, request.described(token)) for request, token in self._unreported]
        self._unreported.clear()
        for request, event in events:
            request.put(event)

    def _fail(self, running: Running, error: Exception) -> None:
        """End one request with an error; the others go on."""
        log.error("request %s failed", running.request.sender.request_id or "-", exc_info=error)
        self._finish(running, failure(error))

    def _end_running(self, last: Failed) -> None:
        """End all running requests."""
        for running in list(self._policy.running):
            self._finish(running, last)

    def _end_waiting(self) -> None:
        """End all waiting requests, because the server is being stopped."""
        with self._changed:
            while self._policy.waiting:
                self._end(self._policy.waiting.popleft(), Failed(RESTARTING, "restarting"))
            self._report_load()

    def _finish(self, running: Running, last: LastEvent) -> None:
        """Free a request's slot, then report its last event: its client may submit at once."""
        self._report_tokens()
        self._release(running)
        self._end(running.request, last)

    def _end(self, request: Request[Any], last: LastEvent) -> None:
        """Report the last event of a request."""
        request.end(reason_of(last))
        self._observer.ended(request)
        request.put(last)

    def _release(self, running: Running) -> None:
        """Free a request's slot."""
        self._engine.close(running.slot)
        with self._changed:
            self._policy.running.remove(running)
            self._report_load()
