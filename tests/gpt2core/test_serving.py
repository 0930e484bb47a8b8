"""A model by its name: usable before it is loaded, retried after a failure, then served."""

import shutil
import threading
import time

import pytest

from gpt2core import serving
from gpt2core.engine.events import Failed, Unavailable
from gpt2core.engine.observer import IGNORE, Observer
from gpt2core.engine.sequence import GeneratedToken
from gpt2core.sampling import SamplingParams
from gpt2core.serving import ModelServer
from gpt2core.settings import Settings
from gpt2core.store.folder import Progress
from gpt2core.store.loader import DEMO_DIRECTORY
from gpt2core.store.preparation import LoadCancelled
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.web import HEROES, HEROES_IDS, PATIENCE, wait_until
from webapp import create_app

GREEDY = SamplingParams()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Requests wait as long as it takes to load a model on a busy machine."""
    monkeypatch.setattr(serving, "LOADING_PATIENCE", PATIENCE)


@pytest.fixture
def server():
    """``server(name, models_dir)``: a model server, stopped after the test."""
    made = []

    def server(name="demo", models_dir="models", max_batch=2, max_queue=2, observer=IGNORE):
        numbers = {"max_batch": max_batch, "max_queue": max_queue}
        made.append(ModelServer(name, str(models_dir), **numbers, observer=observer))
        return made[-1]

    yield server
    for one in made:
        one.stop()


def started(one: ModelServer) -> ModelServer:
    """Started, and ready or failed."""
    one.start()
    one.wait_until_loaded(PATIENCE)
    assert one.model or one.failure
    return one


def generated(generation) -> list[int]:
    events = generation.events(heartbeat_seconds=PATIENCE)
    return [event.id for event in events if isinstance(event, GeneratedToken)]


# Before the model is loaded


def test_no_thread_starts_before_it_is_needed():
    """So that a worker process can be forked after the app is made."""
    before = threading.active_count()
    one = create_app(Settings()).extensions["model_server"]
    assert threading.active_count() == before
    assert one.model is None


def test_many_starts_make_one_thread_and_stopping_ends_all(server):
    before = set(threading.enumerate())
    one = server()
    one.start()
    one.start()
    one.wait_until_loaded(PATIENCE)
    one.start()
    names = [thread.name for thread in set(threading.enumerate()) - before]
    assert names.count("scheduler") == 1 and names.count("model") <= 1
    one.stop()
    assert {t.name for t in set(threading.enumerate()) - before} & {"scheduler", "model"} == set()


def test_tokenizer_and_shape_are_known_before_the_weights(server):
    one = server("124M", "no-such-folder")
    assert one.encoder.encode(HEROES) == HEROES_IDS
    assert one.hparams.n_ctx == 1024
    assert one.model is None
    assert one.load == {"running": 0, "waiting": 0} and not one.is_busy


def test_the_tokenizer_is_the_same_before_and_after_loading(server):
    one = server()
    before = one.encoder.encode(HEROES)
    assert started(one).encoder.encode(HEROES) == before == default_encoder().encode(HEROES)


def test_a_model_named_by_a_path_is_labelled_by_its_last_part(server):
    assert server("/some/where/mine").label == "mine"
    assert server("demo").label == "demo"


# A model that is ready


def test_the_first_prompt_starts_and_waits_for_the_model(server):
    assert len(generated(server().ready_scheduler().submit(HEROES_IDS, 4, GREEDY))) == 4


def test_batch_and_queue_are_as_large_as_configured(server, gate):
    loads = []

    class Loads(Observer):
        def load(self, n_running, n_waiting):
            loads.append((n_running, n_waiting))

    one = started(server(max_batch=2, max_queue=1, observer=Loads()))
    first = one.ready_scheduler().submit(HEROES_IDS, 3, GREEDY)
    assert not one.is_busy
    others = [one.ready_scheduler().submit(HEROES_IDS, 3, GREEDY)]
    assert one.is_busy
    others.append(one.ready_scheduler().submit(HEROES_IDS, 3, GREEDY))
    assert sum(one.load.values()) == 3  # two have slots, or the first was admitted alone
    with pytest.raises(Unavailable):
        one.ready_scheduler().submit(HEROES_IDS, 3, GREEDY)
    gate.set()
    assert [len(generated(generation)) for generation in (first, *others)] == [3, 3, 3]
    assert (2, 1) in loads and max(n_running for n_running, _ in loads) == 2


def test_a_draining_server_refuses_prompts_and_ends_what_runs(server, gate):
    one = started(server())
    running = one.ready_scheduler().submit(HEROES_IDS, 200, GREEDY)
    one.drain(0)
    gate.set()
    assert isinstance(list(running.events(PATIENCE))[-1], Failed)
    with pytest.raises(Unavailable, match="restarted"):
        one.ready_scheduler().submit(HEROES_IDS, 3, GREEDY)


def test_a_server_that_drains_before_its_model_is_loaded_refuses_prompts(server):
    one = server()
    one.drain(PATIENCE)
    with pytest.raises(Unavailable, match="restarted"):
        one.ready_scheduler().submit(HEROES_IDS, 3, GREEDY)


# A model that is not ready


def test_a_model_that_cannot_be_loaded_is_reported_at_once(server, tmp_path):
    with pytest.raises(Unavailable, match="absent") as refused:
        server("absent", tmp_path).ready_scheduler().submit([464], 2, GREEDY)
    assert refused.value.retry_after == 60


def test_while_a_model_is_prepared_prompts_are_refused_with_its_progress(server, monkeypatch):
    """And stopping ends a download at its next report."""
    reported, cancelled = threading.Event(), threading.Event()

    def prepare_engine(name, models_dir, n_slots, progress, precision):
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                progress.update(Progress("download", "a file", 100_000_000, 500_000_000))
                reported.set()
        except LoadCancelled:
            cancelled.set()
        raise LoadCancelled

    monkeypatch.setattr(serving, "prepare_engine", prepare_engine)
    monkeypatch.setattr(ModelServer, "wait_until_loaded", lambda self, timeout: None)
    one = server()
    one.start()
    assert reported.wait(PATIENCE)
    with pytest.raises(Unavailable, match="being downloaded: 100 MB of 500 MB") as refused:
        one.ready_scheduler().submit([464], 2, GREEDY)
    assert 0 < refused.value.retry_after <= 60
    one.stop()
    assert cancelled.is_set()
    assert one.failure is None


def test_a_model_that_another_process_prepares_ends_the_failure(server, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "RETRY_POLL_SECONDS", 0.05)
    one = started(server("mine", tmp_path))
    assert "mine" in one.failure
    shutil.copytree(DEMO_DIRECTORY, tmp_path / "mine")
    wait_until(lambda: one.model, "the model")
    assert one.failure is None


@pytest.fixture
def looks(monkeypatch):
    """How often a failed server has looked at the weights file; it looks every 20 ms."""
    looks = []
    real = serving.folder_fingerprint
    monkeypatch.setattr(serving, "RETRY_POLL_SECONDS", 0.02)
    monkeypatch.setattr(serving, "folder_fingerprint", lambda *a: looks.append(a) or real(*a))
    return looks


def test_a_damaged_file_is_not_tried_again_until_it_changes(server, tmp_path, looks, caplog):
    folder = shutil.copytree(DEMO_DIRECTORY, tmp_path / "mine")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    one = started(server("mine", tmp_path))
    wait_until(lambda: len(looks) > 5, "five looks")
    assert one.failure and caplog.text.count("could not be prepared") == 1
    (folder / "model.safetensors").write_bytes(weights)
    wait_until(lambda: one.model, "the model")
    assert one.failure is None


def test_retry_tries_again_at_once(server, tmp_path, caplog):
    one = started(server("mine", tmp_path))
    for n_failures in (2, 3):
        one.retry()
        wait_until(lambda: one.failure, "the next failure")
        assert caplog.text.count("could not be prepared") == n_failures
    shutil.copytree(DEMO_DIRECTORY, tmp_path / "mine")
    one.retry()
    wait_until(lambda: one.model, "the model")


def test_a_name_that_no_folder_can_have_is_a_failure_and_the_thread_goes_on(server, looks):
    one = started(server("n" * 300))
    assert "cannot be looked for" in one.failure
    assert one.encoder.encode(HEROES) == HEROES_IDS and one.hparams.n_ctx == 1024
    one.retry()
    wait_until(lambda: one.failure, "the next failure")


def test_an_error_without_a_message_is_a_failure_too(server, monkeypatch, looks, caplog):
    def prepare_engine(*_):
        raise MemoryError

    monkeypatch.setattr(serving, "prepare_engine", prepare_engine)
    one = started(server())
    assert one.failure == "MemoryError"
    wait_until(lambda: len(looks) > 5, "five looks")
    assert caplog.text.count("could not be prepared") == 1
