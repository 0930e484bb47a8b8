"""One thread that owns the model: makes it ready, admits prompts, steps what is running.

Third stop of a prompt's journey. A route submits token ids and gets a
:class:`Generation`; the thread gives it a slot of the engine when one is free, reads
its prompt piece by piece, then makes one token for all running generations together,
step by step, and puts each on that generation's own queue, from which the route's
response reads.

Invariants: only this module touches an Engine, and only its thread runs it; a slow or
vanished reader never blocks the others (its queue is bounded by the tokens asked for);
a long prompt does not freeze those who write; a failure ends the generation it belongs
to (all that run, where that cannot be told) and not the thread; nothing is started
before :meth:`Scheduler.start`, so the app can be built before a fork.
"""

import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2core.engine.engine import PREFILL_CHUNK, Engine
from gpt2core.engine.sequence import GeneratedToken, Sequence
from gpt2core.errors import GPT2Error, ModelFileError
from gpt2core.hparams import MODEL_SIZES, HParams, check_prompt
from gpt2core.sampling import SamplingParams
from gpt2core.store.folder import WEIGHTS_FILE
from gpt2core.store.loader import (
    Model,
    get_encoder,
    get_hparams,
    load_model,
    model_directory,
    prepare_model,
)
from gpt2core.store.preparation import Preparation
from gpt2core.tokenizer.bpe import Encoder, default_encoder

log = logging.getLogger(__name__)

LOOK_AGAIN = 5.0  # seconds after a failure between two looks whether the model is there
SWITCH_INTERVAL = 0.0002  # seconds; with Python's 5 ms a visitor's long text stalls the engine
SMALLEST_PIECE = 16  # tokens of a prompt read between two steps, at the least


class Unavailable(GPT2Error):
    """Nothing can be generated right now; worth trying again after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: int):
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Queued:
    """The generation waits; ``position`` 1 is next."""

    position: int


@dataclass(frozen=True)
class Reading:
    """The prompt is long and being read: ``n_read`` of ``n_tokens``."""

    n_read: int
    n_tokens: int


@dataclass(frozen=True)
class Failed:
    """The generation ended without finishing; ``message`` is for the reader."""

    message: str


Event = Queued | Reading | GeneratedToken | Failed


class Generation:
    """One submitted prompt, seen from the response that reads it."""

    def __init__(self, ids: list[int], n_tokens: int, sampling: SamplingParams):
        self.ids, self.n_tokens, self.sampling = ids, n_tokens, sampling
        self.cancelled = False
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Called by the scheduler's thread; never blocks."""
        self._events.put(event)

    def events(self, patience: float) -> Iterator[Event | None]:
        """Everything that happens, ending after the last token or a failure.

        None is yielded whenever nothing happened for ``patience`` seconds, so that the
        response can send a sign of life and notice that nobody reads any more.
        """
        while True:
            try:
                event = self._events.get(timeout=patience)
            except queue.Empty:
                yield None
                continue
            yield event
            if isinstance(event, Failed) or getattr(event, "finish_reason", None):
                return

    def cancel(self) -> None:
        """The reader left: the scheduler drops this generation before its next token."""
        self.cancelled = True


@dataclass
class Running:
    """A generation that has a slot of the engine."""

    generation: Generation
    slot: int
    sequence: Sequence
    n_read: int = 0  # how much of the prompt the engine has read
    newest: int | None = None  # the token that the next step feeds back

    @property
    def unread(self) -> list[int]:
        return self.sequence.ids[self.n_read :]


class Scheduler:
    """See the module. ``start`` may be called by every request; the first one counts."""

    def __init__(self, model_name: str, models_dir: str, max_batch: int, max_queue: int):
        self.model_name, self.models_dir = model_name, models_dir
        self.max_batch, self.max_queue = max_batch, max_queue
        self.model: Model | None = None
        self.failure: str | None = None  # why the model could not be made ready
        self.preparation = Preparation()
        self._waiting: deque[Generation] = deque()
        self._running: list[Running] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._encoder: Encoder | None = None
        self._engine: Engine | None = None
        self._ends_at: float | None = None  # when the server stops, once it has been told to
        self._step_seconds = 0.0  # what the newest step took
        self._read_seconds = 0.0  # what reading a token of a prompt took, lately

    def start(self) -> None:
        """Start the thread unless it runs: it loads the model, then serves."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
                self._thread.start()

    def wait_until_loaded(self, timeout: float) -> None:
        """Give a model that loads in no time (the bundled one) the chance to be there."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self.model is None and self.failure is None:
                if not self._changed.wait(deadline - time.monotonic()):
                    return

    @property
    def label(self) -> str:
        """The model's name as people see it: of a directory the last part only."""
        return Path(self.model_name).name

    @property
    def encoder(self) -> Encoder:
        """The model's tokenizer, there before the weights are; GPT-2's own if it has none."""
        if self.model:
            return self.model.encoder
        if self._encoder is None:
            try:
                self._encoder = get_encoder(self.model_name, self.models_dir)
            except ModelFileError:  # which the page tells; it cuts text all the same
                return default_encoder()
        return self._encoder

    @property
    def hparams(self) -> HParams:
        """The model's shape, known before the weights are; 124M's if it cannot be told."""
        if self.model:
            return self.model.hparams
        try:
            return get_hparams(self.model_name, self.models_dir)
        except ModelFileError:  # which the page tells
            return MODEL_SIZES["124M"]

    @property
    def load(self) -> dict[str, int]:
        """How many generations run and wait."""
        with self._changed:
            return {"running": len(self._running), "waiting": len(self._waiting)}

    @property
    def is_busy(self) -> bool:
        """Whether the next prompt would have to wait."""
        with self._changed:
            return len(self._running) + len(self._waiting) >= self.max_batch

    def submit(self, ids: list[int], n_tokens: int, sampling: SamplingParams) -> Generation:
        """Queue a prompt. Raises InputError for one that cannot be, Unavailable for not now."""
        self.start()
        self.wait_until_loaded(timeout=2)
        if self._ends_at is not None:
            raise Unavailable("The server is being restarted; try again in a moment.", 5)
        if self.failure:
            raise Unavailable(f"The model is not ready: {self.failure}", retry_after=60)
        if self.model is None:
            wait = min(self.preparation.seconds_left or 5, 60)
            raise Unavailable(self.preparation.sentence, retry_after=wait)
        check_prompt(ids, self.model.hparams.n_vocab, self.model.hparams.n_ctx)
        generation = Generation(ids, n_tokens, sampling)
        with self._changed:
            ahead = len(self._running) + len(self._waiting)
            if ahead >= self.max_batch + self.max_queue:
                raise Unavailable(
                    f"{self.max_batch} texts are being written and {self.max_queue} more wait; "
                    "try again in a moment.",
                    retry_after=5,
                )
            self._waiting.append(generation)
            if ahead >= self.max_batch:
                generation.put(Queued(ahead + 1 - self.max_batch))
            self._changed.notify_all()
        return generation

    def retry(self) -> None:
        """Try again to make the model ready, after a failure."""
        with self._changed:
            self.failure = None
            self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """The server stops in ``seconds``: take nothing new, and end what is left by then.

        Safe to call from a signal handler: it only notes the time.
        """
        self._ends_at = time.monotonic() + seconds

    def _run(self) -> None:
        """The thread: make the model ready, then admit, read and step for ever."""
        # Threads that render answers must give the interpreter back to the engine soon.
        sys.setswitchinterval(SWITCH_INTERVAL)
        while self.model is None:
            self._prepare()
        while True:
            self._admit()
            try:
                self._leave()
                self._read()
                self._step()
            except Exception as error:  # whose fault it is cannot be told
                for running in list(self._running):
                    self._fail(running, error)

    def _prepare(self) -> None:
        """Download, convert and load what is needed; after a failure, wait for a retry.

        Of several workers one downloads and converts, by the lock in the model's folder;
        the others wait for it here and then load what it made.
        """
        tried = self._weights()
        try:
            self.preparation = Preparation()
            prepare_model(self.model_name, self.models_dir, self.preparation.report)
            self.preparation = Preparation()  # nothing is fetched or converted any more
            model = load_model(self.model_name, self.models_dir)
            # The layout of a large model is written once, which takes seconds: the model
            # is not there before it can be used.
            self._engine = model.engine(self.max_batch)
        except Exception as error:  # told on the page; there is nobody else to tell
            log.exception("the model %s could not be made ready", self.model_name)
            with self._changed:
                self.failure = str(error)
                self._changed.notify_all()
                while self.failure:
                    self._changed.wait(LOOK_AGAIN)
                    if self._weights() not in (None, tried):
                        self.failure = None  # another worker had more luck, or a person helped
            return
        with self._changed:
            self.model = model
            self._changed.notify_all()

    def _weights(self) -> tuple | None:
        """Which weights lie in the model's folder, by their size and time; None for none."""
        try:
            stat = (model_directory(self.model_name, self.models_dir) / WEIGHTS_FILE).stat()
        except (OSError, ModelFileError):
            return None
        return stat.st_size, stat.st_mtime_ns

    def _admit(self) -> None:
        """Move waiting generations to free slots; sleep while there is nothing to do."""
        n_ctx, endoftext = self.model.hparams.n_ctx, self.model.encoder.endoftext
        with self._changed:
            while not self._waiting and not self._running:
                self._changed.wait()
            n_waited = len(self._waiting)
            self._waiting = deque(g for g in self._waiting if not g.cancelled)
            while self._waiting and len(self._running) < self.max_batch:
                g = self._waiting.popleft()
                sequence = Sequence(g.ids, g.n_tokens, n_ctx, g.sampling, endoftext)
                self._running.append(Running(g, self._engine.open(), sequence))
            if len(self._waiting) < n_waited:  # somebody got a place or left: the line moved
                for position, waiting in enumerate(self._waiting, start=1):
                    waiting.put(Queued(position))

    def _leave(self) -> None:
        """Drop what nobody reads any more; when the server's time is over, everything."""
        for running in list(self._running):
            if running.generation.cancelled:
                self._end(running)
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            with self._changed:
                waiting, self._waiting = self._waiting, deque()
            for generation in [r.generation for r in self._running] + list(waiting):
                generation.put(Failed("The server is being restarted; try again in a moment."))
            for running in list(self._running):
                self._end(running)

    def _read(self) -> None:
        """Read a piece of the first prompt that is not read yet.

        While others write, the piece is so small that their next token is not late by
        more than about one step; alone, the engine takes what it likes best.
        """
        running = next((r for r in self._running if r.unread), None)
        if running is None:
            return
        n = PREFILL_CHUNK
        if any(r.newest is not None for r in self._running) and self._read_seconds:
            n = max(SMALLEST_PIECE, min(n, int(self._step_seconds / self._read_seconds)))
        piece = running.unread[:n]
        began = time.perf_counter()
        try:
            more_follow = len(piece) < len(running.unread)
            logits = self._engine.prefill(running.slot, piece, more_follow)
        except Exception as error:
            self._fail(running, error)
            return
        self._read_seconds = (time.perf_counter() - began) / len(piece)
        running.n_read += len(piece)
        if running.unread:
            running.generation.put(Reading(running.n_read, len(running.sequence.ids)))
        else:
            self._hand_over(running, self._draw(running, logits))

    def _step(self) -> None:
        """One token for each generation whose prompt is read."""
        writing = [r for r in self._running if r.newest is not None]
        if not writing:
            return
        began = time.perf_counter()
        logits = self._engine.step([r.slot for r in writing], [r.newest for r in writing])
        # First all are drawn, then all are told: a reader that is told starts to render, and
        # the next draw would wait for the interpreter.
        drawn = [self._draw(running, row) for running, row in zip(writing, logits, strict=True)]
        for running, token in zip(writing, drawn, strict=True):
            self._hand_over(running, token)
        self._step_seconds = time.perf_counter() - began

    def _draw(self, running: Running, logits) -> GeneratedToken | None:
        """The next token from ``logits [n_vocab]``; None if that failed, and with it the text."""
        try:
            return running.sequence.sample_next(logits)
        except Exception as error:
            self._fail(running, error)
            return None

    def _hand_over(self, running: Running, token: GeneratedToken | None) -> None:
        """Give the reader its next token."""
        if token is None:
            return
        running.newest = token.id
        running.generation.put(token)
        if token.finish_reason:
            self._end(running)

    def _fail(self, running: Running, error: Exception) -> None:
        """End one generation with an error; the others and the thread go on."""
        log.error("a generation failed", exc_info=error)
        running.generation.put(Failed(f"The model stopped with an error: {error}"))
        self._end(running)

    def _end(self, running: Running) -> None:
        """Give a generation's slot back."""
        self._engine.close(running.slot)
        with self._changed:
            self._running.remove(running)
