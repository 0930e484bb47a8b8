"""One model by its name: prepared in the background, then served to many clients at once.

What the web page holds. Joins ``store/preparation.py``, which makes the model ready, and
``engine/scheduler.py``, which generates with it. The model's tokenizer and
hyper-parameters can be used before its weights are there.

Invariants: no thread runs before :meth:`ModelServer.start`, so a server may be created
before a fork. A model that cannot be prepared is reported in ``failure`` and is tried again
when a file of its folder changes or on :meth:`ModelServer.retry`; the thread goes on.
"""

import logging
import threading
import time
from functools import cached_property
from pathlib import Path

from gpt2core.engine.events import Unavailable
from gpt2core.engine.observer import IGNORE, Observer
from gpt2core.engine.packed import Precision
from gpt2core.engine.scheduler import RESTARTING, Scheduler
from gpt2core.errors import ModelFileError
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.store.inspection import Inspection, inspect_folder
from gpt2core.store.loader import DEMO_NAME, Model, get_encoder, get_hparams, model_directory
from gpt2core.store.preparation import Fingerprint, LoadProgress, folder_fingerprint, prepare_engine
from gpt2core.store.weights import weights_digest
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.vocabulary import default_encoder

log = logging.getLogger(__name__)

RETRY_POLL_SECONDS = 5.0  # after a failure, between two looks at the folder
LOADING_PATIENCE = 2.0  # seconds that a request waits for the model; the bundled one needs less


def label_of(model_name: str) -> str:
    """The name of a model as users see it: only the last part of a path."""
    path = Path(model_name)
    return path.name if path.name not in ("", "..") else path.resolve().name or "model"


class ModelServer:
    """See the module. :meth:`start` may be called by every request; the first call counts.

    ``model`` is None until it is ready; ``failure`` is why the last attempt failed, or None;
    ``inspection`` is what its folder held then.
    """

    def __init__(
        self,
        model_name: str,
        models_dir: str,
        max_batch: int,
        max_queue: int,
        precision: Precision = "float32",
        max_per_client: int | None = None,
        observer: Observer = IGNORE,
    ):
        self.model_name, self.models_dir, self.precision = model_name, models_dir, precision
        self.max_batch, self.max_queue = max_batch, max_queue
        self.max_per_client, self._observer = max_per_client, observer
        self.model: Model | None = None
        self.failure: str | None = None
        self.inspection: Inspection | None = None
        self.load_progress = LoadProgress()
        self._scheduler: Scheduler | None = None  # there as soon as the model is
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None  # created by start(), after any fork
        self._draining = self._stopped = False
        self.created = int(time.time())  # Unix time

    def start(self) -> None:
        """Prepare the model, then serve it, in the background. Further calls do nothing."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._prepare, name="model", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End all threads and wait for them. What still runs or waits fails."""
        with self._changed:
            self._stopped = True
            self.load_progress.cancel()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._scheduler is not None:
            self._scheduler.stop()

    def drain(self, seconds: float) -> None:
        """Refuse new prompts from now on, and end in ``seconds`` what still runs or waits.

        May be called from a signal handler: it takes no lock.
        """
        self._draining = True
        if self._scheduler is not None:
            self._scheduler.drain(seconds)

    def retry(self) -> None:
        """Try again to prepare the model, after a failure."""
        with self._changed:
            self.failure = None
            self._changed.notify_all()

    def wait_until_loaded(self, timeout: float) -> None:
        """Wait until the model is ready or has failed, but at most ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.model is not None or self.failure, timeout)

    @property
    def label(self) -> str:
        """The model's name as users see it: only the last part of a path."""
        return label_of(self.model_name)

    @property
    def is_known_elsewhere(self) -> bool:
        """Whether :attr:`label` names this model on any machine, as no folder's name does."""
        return self.model_name in (DEMO_NAME, *MODEL_SIZES)

    @property
    def encoder(self) -> Encoder:
        """The model's tokenizer, also while it is prepared; GPT-2's own if it has none."""
        if self.model is not None:
            return self.model.encoder
        try:
            return self._folder_encoder
        except ModelFileError:  # reported as the failure; text can be tokenized all the same
            return default_encoder()

    @property
    def has_own_encoder(self) -> bool:
        """Whether :attr:`encoder` is the model's own, and not GPT-2's in its place."""
        try:
            self.check_encoder()
        except Unavailable:
            return False
        return True

    def check_encoder(self) -> None:
        """Raise Unavailable if :attr:`encoder` is not the model's own: its ids would be wrong."""
        try:
            if self.model is None:
                _ = self._folder_encoder
        except ModelFileError as error:
            raise Unavailable(f"The model is not ready: {error}", 60, "not_ready") from error

    @cached_property
    def _folder_encoder(self) -> Encoder:
        return get_encoder(self.model_name, self.models_dir)

    @property
    def hparams(self) -> HParams:
        """The model's hyper-parameters, also while it is prepared; 124M's if unknown."""
        if self.model is not None:
            return self.model.hparams
        try:
            return get_hparams(self.model_name, self.models_dir)
        except ModelFileError:  # reported as the failure
            return MODEL_SIZES["124M"]

    @property
    def fingerprint(self) -> str:
        """The model's name, the weights that generate and a digest. Raises Unavailable."""
        return f"{self.label}-{self.precision}-{weights_digest(self.loaded_model().params)}"

    @property
    def load(self) -> dict[str, int]:
        """The numbers of requests that run and wait."""
        return self._scheduler.load if self._scheduler else {"running": 0, "waiting": 0}

    @property
    def is_busy(self) -> bool:
        """Whether the next prompt would have to wait."""
        return self._scheduler is not None and self._scheduler.is_busy

    def ready_scheduler(self) -> Scheduler:
        """What texts are submitted to, once the model is loaded.

        Raises Unavailable if loading takes long or has failed, or the server is being stopped.
        """
        self.start()
        self.wait_until_loaded(LOADING_PATIENCE)
        if self._draining:
            raise Unavailable(RESTARTING, 5, "restarting")
        if self._scheduler is None:
            raise self._not_ready()
        return self._scheduler

    def loaded_model(self) -> Model:
        """The model, for what needs its weights without generating. Raises Unavailable."""
        self.start()
        self.wait_until_loaded(LOADING_PATIENCE)
        if self.model is None:
            raise self._not_ready()
        return self.model

    def _not_ready(self) -> Unavailable:
        """Why there is no model yet, and when to ask again."""
        if self.failure:
            return Unavailable(f"The model is not ready: {self.failure}", 60, "not_ready")
        seconds = self.load_progress.seconds_left or 5
        return Unavailable(self.load_progress.message, min(seconds, 60), "not_ready")

    def _prepare(self) -> None:
        """The thread's function: prepare the model, again after each failure; then serve it."""
        while not self._stopped and self.model is None:
            fingerprint = folder_fingerprint(self.model_name, self.models_dir)
            self._observer.model("loading")
            try:
                self._prepare_once()
            except Exception as error:  # shown on the page, which goes on without a model
                if not self._stopped:
                    log.exception("the model %s could not be prepared", self.model_name)
                    self.inspection = self._inspect()
                    self._wait_to_retry(str(error) or type(error).__name__, fingerprint)

    def _inspect(self) -> Inspection | None:
        """What lies in the folder of a model that failed; None if there is no folder."""
        try:
            return inspect_folder(model_directory(self.model_name, self.models_dir))
        except (ModelFileError, OSError):
            return None

    def _prepare_once(self) -> None:
        with self._changed:
            self.load_progress = progress = LoadProgress()
            if self._stopped:
                progress.cancel()
        model, engine = prepare_engine(
            self.model_name, self.models_dir, self.max_batch, progress, self.precision
        )
        scheduler = Scheduler(
            engine,
            model.encoder.rules.end_ids,
            self.max_queue,
            self.max_per_client,
            self._observer,
        )
        scheduler.start()
        with self._changed:
            self._scheduler, self.model = scheduler, model
            self._observer.model("ready")
            self._changed.notify_all()

    def _wait_to_retry(self, failure: str, fingerprint: Fingerprint | None) -> None:
        """Publish a failure; return on :meth:`retry` or when the folder has changed."""
        with self._changed:
            self.failure = failure
            self._observer.model("failed")
            self._changed.notify_all()
            while self.failure and not self._stopped:
                self._changed.wait(RETRY_POLL_SECONDS)
                if folder_fingerprint(self.model_name, self.models_dir) not in (None, fingerprint):
                    self.failure = None
