"""One thread that owns the model: loads it, admits prompts, steps what is running.

Third stop of a prompt's journey. A route submits token ids and gets a
:class:`Generation`; the thread takes it from the queue when a place is free, makes one
token for each running generation in turn, and puts it on that generation's own queue,
from which the route's response reads.

Invariants: only this module touches an Engine, and only its thread runs it; a slow or
vanished reader never blocks the others (its queue is bounded by the tokens asked for);
a failure ends the generation it belongs to and not the thread; nothing is started
before :meth:`Scheduler.start`, so the app can be built before a fork.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gpt2core.encoder import Encoder
from gpt2core.engine import Engine
from gpt2core.errors import GPT2Error
from gpt2core.files import Progress, format_bytes, read_hparams
from gpt2core.generate import GeneratedToken, stream
from gpt2core.hparams import MODEL_SIZES, HParams, check_prompt
from gpt2core.loader import Model, get_encoder, load_model, model_directory, prepare_model
from gpt2core.sampling import SamplingParams

log = logging.getLogger(__name__)


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
class Failed:
    """The generation ended without finishing; ``message`` is for the reader."""

    message: str


Event = Queued | GeneratedToken | Failed


CONVERSION_SECONDS = 15  # roughly what follows a download; only for telling people


class Preparation:
    """How far the model is from being ready: what is done, how fast, how long it takes.

    Written by the scheduler's thread, read by responses; each read sees one whole state.
    """

    def __init__(self):
        self.progress: Progress | None = None  # None: nothing to fetch, only to load
        self._phase_began = (0.0, 0)  # when, and with how many bytes
        self._now = 0.0

    def report(self, progress: Progress) -> None:
        """The callback of ``prepare_model``."""
        self._now = time.monotonic()
        if self.progress is None or self.progress.phase != progress.phase:
            self._phase_began = (self._now, progress.bytes_done)
        self.progress = progress

    @property
    def rate(self) -> float:
        """Bytes a second since this phase began; 0 while it cannot be told."""
        began, had = self._phase_began
        elapsed = self._now - began
        return (self.progress.bytes_done - had) / elapsed if elapsed > 0.5 else 0.0

    @property
    def seconds_left(self) -> int | None:
        """Until the model is ready at that rate; None while it cannot be told."""
        if not self.progress or not self.rate:
            return None
        left = (self.progress.bytes_total - self.progress.bytes_done) / self.rate
        return round(left) + (CONVERSION_SECONDS if self.progress.phase == "download" else 0)

    @property
    def sentence(self) -> str:
        """In words: what happens, how far it is, how long it will take."""
        if not self.progress:
            return "The model is being loaded."
        doing = "downloaded" if self.progress.phase == "download" else "converted"
        done, total = self.progress.bytes_done, self.progress.bytes_total
        parts = [f"The model is being {doing}: {format_bytes(done)} of {format_bytes(total)}"]
        if self.rate:
            parts.append(f"{format_bytes(self.rate)}/s")
        if self.seconds_left is not None:
            parts.append(f"ready in about {duration(self.seconds_left)}")
        return ", ".join(parts) + "."


def duration(seconds: int) -> str:
    """``75`` -> ``"2 min"``: roughly, as people say it."""
    return f"{max(seconds, 1)} s" if seconds < 60 else f"{-(-seconds // 60)} min"


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


class Scheduler:
    """See the module. ``start`` may be called by every request; the first one counts."""

    def __init__(self, model_name: str, models_dir: str, max_batch: int, max_queue: int):
        self.model_name, self.models_dir = model_name, models_dir
        self.max_batch, self.max_queue = max_batch, max_queue
        self.model: Model | None = None
        self.failure: str | None = None  # why the model could not be made ready
        self.preparation = Preparation()
        self._waiting: deque[Generation] = deque()
        self._running: list[tuple[Generation, Iterator[GeneratedToken]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._encoder: Encoder | None = None

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
    def encoder(self) -> Encoder:
        """The model's tokenizer, there before the weights are."""
        if self.model:
            return self.model.encoder
        if self._encoder is None:
            self._encoder = get_encoder(self.model_name, self.models_dir)
        return self._encoder

    @property
    def hparams(self) -> HParams:
        """The model's shape, known before the weights are for all but unknown folders."""
        if self.model:
            return self.model.hparams
        if self.model_name in MODEL_SIZES:
            return MODEL_SIZES[self.model_name]
        return read_hparams(model_directory(self.model_name, self.models_dir))

    @property
    def load(self) -> dict[str, int]:
        """How many generations run and wait."""
        with self._changed:
            return {"running": len(self._running), "waiting": len(self._waiting)}

    def submit(self, ids: list[int], n_tokens: int, sampling: SamplingParams) -> Generation:
        """Queue a prompt. Raises InputError for one that cannot be, Unavailable for not now."""
        self.start()
        self.wait_until_loaded(timeout=2)
        if self.failure:
            raise Unavailable(f"The model is not ready: {self.failure}", retry_after=60)
        if self.model is None:
            wait = min(self.preparation.seconds_left or 5, 60)
            raise Unavailable(self.preparation.sentence, retry_after=wait)
        check_prompt(ids, self.model.hparams.n_vocab, self.model.hparams.n_ctx)
        generation = Generation(ids, n_tokens, sampling)
        with self._changed:
            if len(self._waiting) >= self.max_queue:
                raise Unavailable(
                    f"{self.max_batch} texts are being written and {self.max_queue} more wait; "
                    "try again in a moment.",
                    retry_after=5,
                )
            self._waiting.append(generation)
            if len(self._running) + len(self._waiting) > self.max_batch:
                generation.put(Queued(len(self._waiting)))
            self._changed.notify_all()
        return generation

    def retry(self) -> None:
        """Try again to make the model ready, after a failure."""
        with self._changed:
            self.failure = None
            self._changed.notify_all()

    def _run(self) -> None:
        """The thread: make the model ready, then admit and step for ever."""
        while self.model is None:
            self._prepare()
        engine = Engine(self.model.params, self.model.hparams)
        while True:
            self._admit(engine, self.model)
            self._step()

    def _prepare(self) -> None:
        """Download, convert and load what is needed; after a failure, wait for a retry.

        Of several workers one downloads and converts, by the lock in the model's folder;
        the others wait for it here and then load what it made.
        """
        try:
            self.preparation = Preparation()
            prepare_model(self.model_name, self.models_dir, self.preparation.report)
            model = load_model(self.model_name, self.models_dir)
        except Exception as error:  # told on the page; there is nobody else to tell
            log.exception("the model %s could not be made ready", self.model_name)
            with self._changed:
                self.failure = str(error)
                self._changed.notify_all()
                while self.failure:
                    self._changed.wait()
            return
        with self._changed:
            self.model = model
            self._changed.notify_all()

    def _admit(self, engine: Engine, model: Model) -> None:
        """Move waiting generations to free places; sleep while there is nothing to do."""
        with self._changed:
            while not self._waiting and not self._running:
                self._changed.wait()
            self._waiting = deque(g for g in self._waiting if not g.cancelled)
            admitted = False
            while self._waiting and len(self._running) < self.max_batch:
                g = self._waiting.popleft()
                tokens = stream(engine, g.ids, g.n_tokens, g.sampling, model.encoder.endoftext)
                self._running.append((g, tokens))
                admitted = True
            if admitted:
                for position, waiting in enumerate(self._waiting, start=1):
                    waiting.put(Queued(position))

    def _step(self) -> None:
        """One token for each running generation; drop those that ended."""
        still_running = []
        for generation, tokens in self._running:
            if self._advance(generation, tokens):
                still_running.append((generation, tokens))
        with self._changed:
            self._running = still_running

    def _advance(self, generation: Generation, tokens: Iterator[GeneratedToken]) -> bool:
        """Make one token; False when the generation is over."""
        if generation.cancelled:
            return False
        try:
            token = next(tokens)
        except Exception as error:
            log.exception("a generation failed")
            generation.put(Failed(f"The model stopped with an error: {error}"))
            return False
        generation.put(token)
        return token.finish_reason is None
