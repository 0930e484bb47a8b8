"""What the serving side reports of its work: every request, token and ending, once."""

import pytest

from gpt2core.engine import scheduler
from gpt2core.engine.events import Request, Sender, Unavailable
from gpt2core.engine.observer import Observer
from gpt2core.engine.scheduler import Scheduler
from gpt2core.hparams import HParams
from gpt2core.sampling import SamplingParams
from gpt2core.serving import ModelServer
from tests.helpers.small_models import SMALL_MODELS
from tests.helpers.web import PATIENCE, wait_until, write_small_model

GREEDY = SamplingParams()


class Recorder(Observer):
    """Keeps every report."""

    def __init__(self):
        self.reports, self.loads, self.states = [], [(0, 0)], []

    def model(self, state):
        self.states.append(state)

    def load(self, n_running, n_waiting):
        self.loads.append((n_running, n_waiting))

    def admitted(self, request):
        self.reports.append(("admitted", request))

    def read(self, request, n_tokens):
        self.reports.append(("read", request, n_tokens))

    def generated(self, request, seconds):
        assert 0 <= seconds < PATIENCE
        self.reports.append(("generated", request))

    def ended(self, request):
        self.reports.append(("ended", request, request.end_reason))

    def of(self, request) -> list:
        """The reports of one request: their names, with what else they say."""
        return [(name, *rest) for name, one, *rest in self.reports if one is request]

    def endings(self, request) -> list[str]:
        return [rest[0] for name, *rest in self.of(request) if name == "ended"]


@pytest.fixture
def faulty(gate, monkeypatch):
    """Sampling fails for the text ``[66]``, once the gate is open."""

    class Faulty(scheduler.Sequence):
        def draw_next(self, logits):
            token = super().draw_next(logits)
            if self.ids == [66]:
                raise RuntimeError("a fault")
            return token

    monkeypatch.setattr(scheduler, "Sequence", Faulty)


@pytest.fixture
def serve(gate, faulty):
    """``serve(n_slots)``: a started scheduler and its recorder."""
    started = []

    def serve(n_slots=1):
        small, recorder = next(iter(SMALL_MODELS.values())), Recorder()
        engine = scheduler.Engine(small.params(), small.hparams, n_slots)
        started.append(Scheduler(engine, (), 4, observer=recorder))
        started[-1].start()
        return started[-1], recorder

    yield serve
    gate.set()
    for one in started:
        one.stop()


def wait_to_the_end(request) -> None:
    for event in request.events(heartbeat_seconds=PATIENCE):
        assert event is not None, "no more events come"


def test_a_text_is_admitted_read_generated_and_ended(serve, gate):
    one, recorder = serve()
    gate.set()
    text = one.submit([1, 2, 3], 4, GREEDY)
    wait_to_the_end(text)
    assert recorder.of(text) == [
        ("admitted",),
        ("read", 3),
        *[("generated",)] * 4,
        ("ended", "length"),
    ]
    assert text.n_generated == 4
    text.cancel()  # as its response does at its end
    assert text.end_reason == "length"
    assert recorder.loads[-1] == (0, 0) and (1, 0) in recorder.loads


def test_a_text_that_is_scored_is_read_but_for_its_last_token(serve):
    one, recorder = serve()
    scored, single = one.score([1, 2, 3]), one.score([1])
    wait_to_the_end(scored)
    assert recorder.of(scored) == [("admitted",), ("read", 2), ("ended", "scored")]
    assert recorder.of(single) == [("ended", "scored")]


@pytest.mark.parametrize("reason", ["client_left", "stop"])
def test_a_text_of_which_no_more_is_needed_ends_for_the_first_reason(serve, gate, reason):
    one, recorder = serve()
    running, waiting = one.submit([1], 50, GREEDY), one.submit([2], 50, GREEDY)
    wait_until(lambda: recorder.loads[-1] == (1, 1), "one that waits")
    for text in (running, waiting):
        text.cancel(reason)
        text.cancel("failed")
    gate.set()
    wait_until(lambda: recorder.endings(running) and recorder.endings(waiting), "both ends")
    assert recorder.endings(running) == recorder.endings(waiting) == [reason]
    assert recorder.of(waiting) == [("ended", reason)]  # it never had a slot
    wait_until(lambda: recorder.loads[-1] == (0, 0), "an empty server")


def test_a_failure_and_a_stopped_server_are_different_endings(serve, gate, caplog):
    one, recorder = serve(2)
    faulty = one.submit([66], 5, GREEDY, sender=Sender(request_id="its-id"))
    gate.set()
    wait_to_the_end(faulty)
    assert recorder.endings(faulty) == ["failed"]
    assert "request its-id failed" in caplog.text
    gate.clear()
    running, waiting = [one.submit([1], 5, GREEDY) for _ in range(2)], one.submit([2], 5, GREEDY)
    assert sum(recorder.loads[-1]) == 3  # two have slots, or the first was admitted alone
    one.drain(0)
    gate.set()
    one.stop()
    assert recorder.endings(waiting) == ["restarting"]
    assert all(recorder.endings(text) == ["restarting"] for text in running)
    assert recorder.loads[-1] == (0, 0)


def test_a_refusal_has_its_reason(serve):
    small = next(iter(SMALL_MODELS.values()))
    one = Scheduler(scheduler.Engine(small.params(), small.hparams, 1), (), 1, max_per_client=1)
    one.submit([1], 5, GREEDY, sender=Sender("a"))
    reasons = []
    for client, drains in (("a", False), ("b", False), ("c", False), ("d", True)):
        if drains:
            one.drain(0)
        try:
            one.submit([1], 5, GREEDY, sender=Sender(client))
        except Unavailable as refused:
            reasons.append(refused.reason)
    assert reasons == ["client_limit", "queue_full", "restarting"]


@pytest.mark.parametrize("last", ["ready", "failed"])
def test_the_state_of_the_model_is_reported(last, tmp_path, caplog):
    recorder, folder = Recorder(), tmp_path / "model"
    if last == "ready":
        write_small_model(folder, HParams(n_vocab=50257, n_ctx=16, n_embd=8, n_head=1, n_layer=1))
    one = ModelServer(str(folder), "models", 1, 1, observer=recorder)
    try:
        one.start()
        one.wait_until_loaded(PATIENCE)
        assert recorder.states == ["loading", last]
    finally:
        one.stop()


@pytest.mark.parametrize(
    ("reasons", "counts"),
    [
        (["length", "client_left"], "length"),
        (["client_left", "length"], "client_left"),
        (["length", "stop", "client_left"], "stop"),
    ],
)
def test_the_first_reason_counts_unless_a_stop_string_ended_the_text(reasons, counts):
    request = Request([1])
    for reason in reasons:
        request.end(reason)
    assert request.end_reason == counts
