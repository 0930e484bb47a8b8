"""The one thread that owns the model: admits, steps, survives; cancels, refuses, tells."""

import shutil
import threading
import time
from itertools import accumulate

import pytest

from gpt2core.engine import scheduler
from gpt2core.engine.scheduler import Failed, Queued, Reading, Scheduler, Unavailable
from gpt2core.engine.sequence import GeneratedToken
from gpt2core.errors import InputError
from gpt2core.sampling import SamplingParams
from gpt2core.store.loader import DEMO_DIRECTORY
from gpt2core.tokenizer.bpe import default_encoder
from tests.helpers.web import HEROES, HEROES_IDS, PATIENCE, wait_until
from webapp import create_app
from webapp.config import Settings

GREEDY = SamplingParams()


def seeded(seed):
    return SamplingParams(temperature=1.0, seed=seed)


@pytest.fixture
def start():
    """``start(max_batch, max_queue)``: a scheduler of the bundled model, loaded."""

    def start(max_batch=4, max_queue=8):
        made = Scheduler("demo", "models", max_batch, max_queue)
        made.start()
        made.wait_until_loaded(PATIENCE)
        assert made.model, made.failure
        return made

    return start


@pytest.fixture
def gate(monkeypatch):
    """Tokens are made only while the gate is open; ``gate.set()`` opens it."""
    gate = threading.Event()

    class Gated(scheduler.Sequence):
        def sample_next(self, logits):
            assert gate.wait(PATIENCE)
            return super().sample_next(logits)

    monkeypatch.setattr(scheduler, "Sequence", Gated)
    yield gate
    gate.set()


def read(generation) -> list:
    """Every event, to the end."""
    events = []
    for event in generation.events(patience=PATIENCE):
        assert event is not None, "nothing happens any more"
        events.append(event)
    return events


def ids_of(events) -> list[int]:
    return [event.id for event in events if isinstance(event, GeneratedToken)]


def wait_for_load(one, running, waiting=0):
    def there():
        return (one.load["running"], one.load["waiting"]) == (running, waiting)

    wait_until(there, f"{running} running, {waiting} waiting")


def test_nothing_runs_before_somebody_asks():
    before = threading.active_count()
    made = create_app(Settings()).extensions["scheduler"]
    assert threading.active_count() == before  # safe to fork
    assert made.model is None


def test_many_starts_make_one_thread(start):
    made = start()
    before = threading.active_count()
    for _ in range(5):
        made.start()
    assert threading.active_count() == before


def test_the_tokenizer_is_there_before_the_weights():
    made = Scheduler("124M", "no-such-folder", 1, 1)
    assert made.encoder.encode(HEROES) == HEROES_IDS
    assert made.hparams.n_ctx == 1024
    assert made.model is None


def test_a_generation_ends_with_its_reason(start):
    events = read(start().submit(HEROES_IDS, 5, GREEDY))
    assert len(ids_of(events)) == 5
    assert events[-1].finish_reason == "length"
    assert [event.finish_reason for event in events[:-1]] == [None] * 4


def test_a_full_context_ends_a_generation(start):
    made = start()
    n_ctx = made.hparams.n_ctx
    events = read(made.submit([262] * (n_ctx - 2), n_ctx, seeded(1)))
    assert len(ids_of(events)) <= 2
    assert events[-1].finish_reason in ("context", "endoftext")


def test_generations_do_not_disturb_each_other(start):
    made = start(max_batch=3)
    prompts = [HEROES_IDS, [464], [7454, 2402, 257, 640], HEROES_IDS, [262] * 100]
    alone = [ids_of(read(made.submit(ids, 12, seeded(n)))) for n, ids in enumerate(prompts)]
    together = [made.submit(ids, 12, seeded(n)) for n, ids in enumerate(prompts)]
    assert [ids_of(read(generation)) for generation in together] == alone


def test_an_error_ends_only_the_generation_it_belongs_to(start, monkeypatch):
    class Faulty(scheduler.Sequence):
        def sample_next(self, logits):
            if self.ids == [666] and self._length > 1:
                raise RuntimeError("a fault")
            return super().sample_next(logits)

    monkeypatch.setattr(scheduler, "Sequence", Faulty)
    made = start()
    healthy, faulty = made.submit(HEROES_IDS, 20, GREEDY), made.submit([666], 20, GREEDY)
    events = read(faulty)
    assert isinstance(events[-1], Failed) and "a fault" in events[-1].message
    assert len(ids_of(read(healthy))) == 20
    assert len(ids_of(read(made.submit(HEROES_IDS, 3, GREEDY)))) == 3  # the thread lives on
    wait_for_load(made, 0)


def test_an_error_while_reading_ends_only_its_generation(start, monkeypatch):
    made = start()
    real = made._engine.prefill

    def faulty(slot, ids, more_follow=False):
        if ids == [666]:
            raise MemoryError("no room")
        return real(slot, ids, more_follow)

    monkeypatch.setattr(made._engine, "prefill", faulty)
    healthy, faulty = made.submit(HEROES_IDS, 9, GREEDY), made.submit([666], 20, GREEDY)
    assert isinstance(read(faulty)[-1], Failed)
    assert len(ids_of(read(healthy))) == 9
    assert len(ids_of(read(made.submit(HEROES_IDS, 3, GREEDY)))) == 3


def test_an_error_in_a_step_ends_what_runs_and_not_the_thread(start, monkeypatch):
    made = start(max_batch=2)
    real = made._engine.step
    monkeypatch.setattr(made._engine, "step", lambda *_: 1 / 0)
    both = [made.submit(HEROES_IDS, 20, GREEDY), made.submit([464], 20, GREEDY)]
    assert all(isinstance(read(generation)[-1], Failed) for generation in both)
    monkeypatch.setattr(made._engine, "step", real)
    again = [made.submit(HEROES_IDS, 3, GREEDY), made.submit([464], 3, GREEDY)]
    assert all(len(ids_of(read(generation))) == 3 for generation in again)  # slots came back


def test_a_long_prompt_is_read_in_pieces_while_others_write(start):
    made = start()
    n_ctx = made.hparams.n_ctx
    writer = made.submit(HEROES_IDS, 150, seeded(1))
    wait_until(lambda: made._step_seconds and made._read_seconds, "a step was taken")
    pieces, real = [], made._engine.prefill
    made._engine.prefill = lambda *a: pieces.append(len(a[1])) or real(*a)
    events = read(made.submit([262] * (n_ctx - 5), 2, GREEDY))
    told = [event for event in events if isinstance(event, Reading)]
    assert sum(pieces) == n_ctx - 5 and len(pieces) > 1
    assert [event.n_read for event in told] == list(accumulate(pieces))[:-1]
    assert ids_of(read(writer))


def test_a_server_that_stops_tells_those_who_are_not_done(start, gate):
    made = start(max_batch=1)
    running, waiting = made.submit(HEROES_IDS, 100, GREEDY), made.submit([464], 100, GREEDY)
    wait_for_load(made, 1, 1)
    made.drain(0)
    gate.set()
    for generation in (running, waiting):
        last = read(generation)[-1]
        assert isinstance(last, Failed) and "restarted" in last.message
    with pytest.raises(Unavailable, match="restarted"):
        made.submit(HEROES_IDS, 3, GREEDY)
    wait_for_load(made, 0)


def test_cancelling_what_runs_ends_its_work(start, gate):
    made = start()
    generation = made.submit(HEROES_IDS, 200, GREEDY)
    wait_for_load(made, 1)
    generation.cancel()
    gate.set()
    wait_for_load(made, 0)
    made_tokens = ids_of(events_so_far(generation))
    assert len(made_tokens) < 5


def events_so_far(generation) -> list:
    """The events that are there, without waiting for more."""
    found = []
    for event in generation.events(patience=0.01):
        if event is None:
            return found
        found.append(event)
    return found


def test_cancelling_what_waits_gives_up_its_place(start, gate):
    made = start(max_batch=1)
    running = made.submit(HEROES_IDS, 3, GREEDY)
    wait_for_load(made, 1)
    waiting, last = made.submit([464], 3, GREEDY), made.submit([464, 262], 3, GREEDY)
    wait_for_load(made, 1, 2)
    waiting.cancel()
    gate.set()
    assert len(ids_of(read(running))) == 3
    assert len(ids_of(read(last))) == 3
    assert ids_of(events_so_far(waiting)) == []


def test_who_waits_is_told_the_place_and_moves_up(start, gate):
    made = start(max_batch=1)
    first = made.submit(HEROES_IDS, 2, GREEDY)
    wait_for_load(made, 1)
    second, third = made.submit([464], 2, GREEDY), made.submit([464], 2, GREEDY)
    gate.set()
    events = read(third)
    places = [event.position for event in events if isinstance(event, Queued)]
    assert places[0] == 2 and places[-1] == 1
    assert places == sorted(places, reverse=True)
    assert len(ids_of(events)) == 2
    for generation in (first, second):
        assert len(ids_of(read(generation))) == 2


def test_who_waits_moves_up_when_another_leaves(start, gate):
    made = start(max_batch=1)
    first = made.submit(HEROES_IDS, 50, GREEDY)
    wait_for_load(made, 1)
    second, third = made.submit([464], 2, GREEDY), made.submit([464], 2, GREEDY)
    second.cancel()
    gate.set()
    for event in third.events(PATIENCE):
        assert event is not None, "the line does not move"
        if isinstance(event, Queued) and event.position == 1:
            break
    first.cancel()
    assert ids_of(read(third))


def test_the_queue_is_bounded(start, gate):
    made = start(max_batch=1, max_queue=2)
    running = made.submit([464], 2, GREEDY)
    wait_for_load(made, 1)
    waiting = [made.submit([464], 2, GREEDY) for _ in range(2)]
    with pytest.raises(Unavailable) as refused:
        made.submit([464], 2, GREEDY)
    assert refused.value.retry_after > 0
    assert "1" in str(refused.value) and "2" in str(refused.value)
    gate.set()
    for generation in [running, *waiting]:
        assert len(ids_of(read(generation))) == 2
    assert ids_of(read(made.submit([464], 2, GREEDY)))  # there is room again


@pytest.mark.parametrize("ids", [[], [262] * 256, [50257], [-1]])
def test_a_prompt_that_cannot_be_is_refused_at_once(start, ids):
    made = start()
    with pytest.raises(InputError):
        made.submit(ids, 2, GREEDY)
    assert made.load["waiting"] == 0


def test_a_model_that_cannot_be_loaded_is_told_and_not_waited_for(tmp_path):
    made = Scheduler("absent", str(tmp_path), 1, 1)
    with pytest.raises(Unavailable, match="absent"):
        made.submit([464], 2, GREEDY)


def test_silence_is_told_so_that_a_response_can_look_around(start, gate):
    generation = start().submit([464], 1, GREEDY)
    events = generation.events(patience=0.01)
    while isinstance(event := next(events), Queued):
        pass
    assert event is None
    gate.set()
    assert len(ids_of([event for event in events if event])) == 1


def test_a_reader_that_does_not_read_holds_nobody_up(start):
    made = start()
    made.submit(HEROES_IDS, 60, GREEDY)  # nobody ever reads this one
    begun = time.monotonic()
    assert len(ids_of(read(made.submit([464], 5, GREEDY)))) == 5
    assert time.monotonic() - begun < PATIENCE


def test_the_vocabulary_is_the_same_before_and_after_loading(start):
    made = start()
    assert made.encoder.encode(HEROES) == default_encoder().encode(HEROES)


def test_what_another_worker_made_ready_ends_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "LOOK_AGAIN", 0.05)
    made = Scheduler("mine", str(tmp_path), 1, 1)
    made.start()
    made.wait_until_loaded(PATIENCE)
    assert "mine" in made.failure
    shutil.copytree(DEMO_DIRECTORY, tmp_path / "mine")
    wait_until(lambda: made.model, "the model")
    assert made.failure is None


def test_what_cannot_be_loaded_is_not_tried_again_until_it_changes(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(scheduler, "LOOK_AGAIN", 0.02)
    folder = shutil.copytree(DEMO_DIRECTORY, tmp_path / "mine")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    made = Scheduler("mine", str(tmp_path), 1, 1)
    made.start()
    made.wait_until_loaded(PATIENCE)
    time.sleep(0.2)  # ten looks
    assert made.failure and caplog.text.count("could not be made ready") == 1
    (folder / "model.safetensors").write_bytes(weights)
    wait_until(lambda: made.model, "the model")
    assert made.failure is None


def test_a_folder_that_may_not_be_looked_into_is_told_and_the_thread_lives_on(monkeypatch):
    monkeypatch.setattr(scheduler, "LOOK_AGAIN", 0.02)
    made = Scheduler("n" * 300, "models", 1, 1)
    made.start()
    made.wait_until_loaded(PATIENCE)
    assert "cannot be looked for" in made.failure
    assert made.encoder.encode(HEROES) == HEROES_IDS and made.hparams.n_ctx == 1024
    made.retry()
    wait_until(lambda: made.failure, "the next failure")
    assert made._thread.is_alive()


def test_the_line_is_as_long_as_it_says(start, gate):
    made = start(max_batch=3, max_queue=1)
    for _ in range(4):  # at once: three places and one who waits
        made.submit(HEROES_IDS, 2, GREEDY)
    with pytest.raises(Unavailable):
        made.submit(HEROES_IDS, 2, GREEDY)
