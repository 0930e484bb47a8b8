"""The thread that serves: admits, reads, decodes, survives failures, stops."""

import sys
import threading
from itertools import accumulate, groupby

import numpy as np
import pytest

from gpt2core.engine import scheduler
from gpt2core.engine.engine import Engine
from gpt2core.engine.events import Failed, Prefilling, Queued, Sender, Unavailable, is_last
from gpt2core.engine.gates import Gates
from gpt2core.engine.policy import DECODE_SHARE
from gpt2core.engine.scheduler import Scheduler
from gpt2core.engine.sequence import Drawn, GeneratedToken, GenerationOptions
from gpt2core.errors import InputError
from gpt2core.hparams import HParams
from gpt2core.inside.interventions import Component, without
from gpt2core.model import gpt2
from gpt2core.sampling import SamplingParams
from tests.helpers.small_models import SMALL_MODELS, SmallModel
from tests.helpers.web import HEROES_IDS, PATIENCE, wait_until

GREEDY, NOTHING = SamplingParams(), GenerationOptions()

# A context of eight of the engine's own prefill chunks.
LONG_CONTEXT = SmallModel(
    HParams(n_vocab=97, n_ctx=1024, n_embd=16, n_head=2, n_layer=1),
    seed=3, embedding=0.14, weight=0.14, bias=0.1, gain=0.3,
)  # fmt: skip


def seeded(seed):
    return SamplingParams(temperature=1.0, seed=seed)


@pytest.fixture
def serve():
    """``serve(engine)``: a scheduler of that engine, started; stopped after the test."""
    started = []

    def serve(engine, max_queue=8, end_ids=()):
        started.append(Scheduler(engine, end_ids, max_queue))
        started[-1].start()
        return started[-1]

    yield serve
    for one in started:
        one.stop()


@pytest.fixture
def start(serve, demo):
    """``start(max_batch, max_queue)``: a scheduler of the bundled model."""
    return lambda max_batch=4, max_queue=8: serve(demo.engine(max_batch), max_queue)


def all_events(generation) -> list:
    """Every event, to the last."""
    events = []
    for event in generation.events(heartbeat_seconds=PATIENCE):
        assert event is not None, "no more events come"
        events.append(event)
    return events


def events_so_far(generation) -> list:
    """The events that are there, without waiting for more."""
    events = []
    for event in generation.events(heartbeat_seconds=0.01):
        if event is None:
            return events
        events.append(event)
    return events


def ids_of(events) -> list[int]:
    return [event.id for event in events if isinstance(event, GeneratedToken)]


def generated(generation) -> list[int]:
    return ids_of(all_events(generation))


def wait_for_load(one, running, waiting=0):
    wait_until(
        lambda: one.load == {"running": running, "waiting": waiting},
        f"{running} running, {waiting} waiting",
    )


# Generations


def test_the_last_token_and_no_other_has_a_finish_reason(start):
    events = all_events(start().submit(HEROES_IDS, 5, GREEDY))
    assert [event.finish_reason for event in events] == [None] * 4 + ["length"]


def test_a_full_context_ends_a_generation(start, demo):
    n_ctx = demo.hparams.n_ctx
    events = all_events(start().submit([262] * (n_ctx - 2), n_ctx, seeded(1)))
    assert len(ids_of(events)) == 2
    assert events[-1].finish_reason == "context"


def test_each_of_the_end_ids_ends_a_generation(serve, demo):
    first = generated(serve(demo.engine()).submit(HEROES_IDS, 1, GREEDY))
    ending = serve(demo.engine(), end_ids={50256, first[0]})
    events = all_events(ending.submit(HEROES_IDS, 9, GREEDY))
    assert [event.finish_reason for event in events] == ["endoftext"]


def test_generations_that_run_together_get_the_tokens_they_get_alone(start):
    one = start(max_batch=3)
    prompts = [HEROES_IDS, [464], [7454, 2402, 257, 640], HEROES_IDS, [262] * 100]
    alone = [generated(one.submit(ids, 12, seeded(n))) for n, ids in enumerate(prompts)]
    together = [one.submit(ids, 12, seeded(n)) for n, ids in enumerate(prompts)]
    assert [generated(generation) for generation in together] == alone


@pytest.mark.parametrize("kind", ["submit", "score"])
def test_at_its_last_event_a_request_has_left_its_slot(demo, kind):
    one = Scheduler(demo.engine(1), (), max_queue=0)
    first = one.submit([464], 2, GREEDY) if kind == "submit" else one.score([464, 3797])
    following = []

    def submit_after_the_last():
        if is_last(first.events_so_far()[-1]):
            following.append(one.submit([464], 3, GREEDY))

    first.on_event = submit_after_the_last
    one.start()
    wait_until(lambda: following, "a second text beside none that wait")
    assert len(generated(following[0])) == 3
    one.stop()


def test_a_client_that_does_not_read_delays_no_other(start):
    one = start()
    unread = one.submit(HEROES_IDS, 60, GREEDY)
    assert len(generated(one.submit([464], 5, GREEDY))) == 5
    wait_for_load(one, 0)  # the other text is complete although nothing was read
    assert len(all_events(unread)) == 60


def test_without_an_event_a_heartbeat_comes(start, gate):
    events = start().submit([464], 1, GREEDY).events(heartbeat_seconds=0.01)
    assert next(events) is None
    assert next(events) is None
    gate.set()
    assert len(ids_of(event for event in events if event)) == 1


# The queue


def test_a_waiting_generation_reports_its_position_and_moves_up(start, gate):
    one = start(max_batch=1)
    first = one.submit(HEROES_IDS, 2, GREEDY)
    wait_for_load(one, 1)
    second, third = one.submit([464], 2, GREEDY), one.submit([464], 2, GREEDY)
    gate.set()
    events = all_events(third)
    assert [event.position for event in events if isinstance(event, Queued)] == [2, 1]
    assert len(ids_of(events)) == 2
    assert len(generated(first)) == len(generated(second)) == 2


def test_a_waiting_generation_moves_up_when_another_is_cancelled(start, gate):
    one = start(max_batch=1)
    first = one.submit(HEROES_IDS, 50, GREEDY)
    wait_for_load(one, 1)
    second, third = one.submit([464], 2, GREEDY), one.submit([464], 2, GREEDY)
    second.cancel()
    gate.set()
    for event in third.events(PATIENCE):
        assert event is not None, "the position does not change"
        if event == Queued(1):
            break
    first.cancel()
    assert generated(third)


def test_the_queue_is_bounded(start, gate):
    one = start(max_batch=1, max_queue=2)
    running = one.submit([464], 2, GREEDY)
    wait_for_load(one, 1)
    waiting = [one.submit([464], 2, GREEDY) for _ in range(2)]
    with pytest.raises(Unavailable, match="1 texts are being written and 2 more wait") as refused:
        one.submit([464], 2, GREEDY)
    assert refused.value.retry_after > 0
    gate.set()
    for generation in [running, *waiting]:
        assert len(generated(generation)) == 2
    wait_for_load(one, 0)
    assert generated(one.submit([464], 2, GREEDY))  # there is room again


def test_the_queue_is_as_long_as_configured_before_any_slot_is_given(start, gate):
    one = start(max_batch=3, max_queue=1)
    for _ in range(4):
        one.submit(HEROES_IDS, 2, GREEDY)
    with pytest.raises(Unavailable):
        one.submit(HEROES_IDS, 2, GREEDY)


@pytest.mark.parametrize("ids", [[], [262] * 256, [50257], [-1]])
def test_an_invalid_prompt_is_refused_at_once(start, ids):
    one = start()
    with pytest.raises(InputError):
        one.submit(ids, 2, GREEDY)
    assert one.load == {"running": 0, "waiting": 0}


# Long prompts


class TimedEngine(Engine):
    """On its own clock a step takes as long as 40 prompt tokens or 20 that are scored.

    It records its calls. While ``go_on`` is clear no step goes on, so that what is submitted then
    meets a text that has its first token.
    """

    clock = 0.0

    def __init__(self):
        super().__init__(LONG_CONTEXT.params(), LONG_CONTEXT.hparams, n_slots=2)
        self.calls = []
        self.go_on = threading.Event()
        self.go_on.set()

    def prefill(self, slot, ids, more_follow=False):
        self.clock += len(ids) / 128  # exact in binary
        self.calls.append(("prefill", len(ids)))
        return super().prefill(slot, ids, more_follow)

    def score(self, slot, ids, *arguments):
        self.clock += len(ids) / 64
        self.calls.append(("score", len(ids)))
        return super().score(slot, ids, *arguments)

    def step(self, slots, ids, *arguments):
        self.clock += 40 / 128
        self.calls.append(("step", len(ids)))
        assert self.go_on.wait(PATIENCE)
        return super().step(slots, ids, *arguments)


@pytest.fixture
def timed(monkeypatch):
    """An engine by whose clock the scheduler measures."""
    engine = TimedEngine()
    monkeypatch.setattr(scheduler, "perf_counter", lambda: engine.clock)
    return engine


def test_a_long_prompt_delays_a_decoding_sequence_by_one_step_at_a_time(serve, timed):
    one = serve(timed)
    timed.go_on.clear()
    decoding = one.submit([1], 400, seeded(1))
    wait_until(lambda: ("step", 1) in timed.calls, "a step")
    long = one.submit([2] * 1000, 1, GREEDY)
    timed.go_on.set()
    events = all_events(long)
    decoding.cancel()
    # 40 tokens take as long as a step, so there are 25 chunks where 8 would do.
    calls = timed.calls[1:]  # without the first prompt
    assert [n for kind, n in calls if kind == "prefill"] == [40] * 25
    # Between two chunks the other sequence gets a token.
    between = [list(group) for kind, group in groupby(calls, lambda call: call[0])]
    assert [len(group) for group in between if group[0][0] == "prefill"] == [1] * 25
    progress = [event.n_read for event in events if isinstance(event, Prefilling)]
    assert progress == list(accumulate([40] * 24))


def test_a_long_prompt_alone_is_read_in_the_engines_own_chunks(serve, timed):
    one = serve(timed)
    assert len(generated(one.submit([1], 3, GREEDY))) == 3  # now both times are measured
    wait_for_load(one, 0)
    timed.calls.clear()
    assert len(generated(one.submit([2] * 1000, 1, GREEDY))) == 1
    assert timed.calls == [("prefill", 128)] * 7 + [("prefill", 104)]


def test_other_threads_give_the_interpreter_back_within_half_a_millisecond(start):
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)  # Python's default
    try:
        generated(start().submit([464], 1, GREEDY))
        assert sys.getswitchinterval() <= 0.0005
    finally:
        sys.setswitchinterval(before)


# Failures


def test_an_error_while_sampling_ends_only_its_own_generation(start, monkeypatch):
    class Faulty(scheduler.Sequence):
        n_sampled = 0

        def draw_next(self, logits):
            self.n_sampled += 1
            if self.ids == [666] and self.n_sampled == 2:
                raise RuntimeError("a fault")
            return super().draw_next(logits)

    monkeypatch.setattr(scheduler, "Sequence", Faulty)
    one = start()
    healthy, faulty = one.submit(HEROES_IDS, 20, GREEDY), one.submit([666], 20, GREEDY)
    events = all_events(faulty)
    assert len(ids_of(events)) == 1
    assert isinstance(events[-1], Failed) and "a fault" in events[-1].message
    assert len(generated(healthy)) == 20
    assert len(generated(one.submit(HEROES_IDS, 3, GREEDY))) == 3  # the thread goes on
    wait_for_load(one, 0)


def test_an_error_while_reading_a_prompt_ends_only_its_own_generation(serve, demo):
    class Faulty(Engine):
        def prefill(self, slot, ids, more_follow=False):
            if list(ids) == [666]:
                raise MemoryError("no room")
            return super().prefill(slot, ids, more_follow)

    one = serve(Faulty(demo.params, demo.hparams, 4))
    healthy, faulty = one.submit(HEROES_IDS, 9, GREEDY), one.submit([666], 20, GREEDY)
    assert isinstance(all_events(faulty)[-1], Failed)
    assert len(generated(healthy)) == 9
    assert len(generated(one.submit(HEROES_IDS, 3, GREEDY))) == 3


def test_an_error_in_a_step_ends_all_that_run_and_not_the_thread(serve, demo, monkeypatch):
    engine = demo.engine(2)
    one = serve(engine)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "step", lambda *_: 1 / 0)
        both = [one.submit(HEROES_IDS, 20, GREEDY), one.submit([464], 20, GREEDY)]
        events = [all_events(generation) for generation in both]
        assert all(isinstance(one[-1], Failed) for one in events)
        assert len(ids_of(events[0])) == 1  # what was generated before is reported
    again = [one.submit(HEROES_IDS, 3, GREEDY), one.submit([464], 3, GREEDY)]
    assert all(len(generated(generation)) == 3 for generation in again)  # both slots are free


def test_a_token_is_reported_before_the_next_step_ends(serve, demo, monkeypatch):
    engine, go_on = demo.engine(), threading.Event()
    compute = engine._compute

    def compute_late(task, logits, meanwhile):
        compute(task, logits, meanwhile)
        assert len(task.ids) > 1 or go_on.wait(PATIENCE)  # a prompt is not held up

    monkeypatch.setattr(engine, "_compute", compute_late)
    generation = serve(engine).submit(HEROES_IDS, 3, GREEDY)
    first = next(
        event for event in generation.events(PATIENCE) if not isinstance(event, Prefilling)
    )
    assert isinstance(first, GeneratedToken) and not go_on.is_set()
    go_on.set()
    assert len(generated(generation)) == 2  # the others


def test_tokens_are_described_when_the_next_step_has_begun(serve, demo, monkeypatch):
    engine, order = demo.engine(), []
    compute, describe = engine._compute, Drawn.describe
    monkeypatch.setattr(engine, "_compute", lambda *task: (order.append("step"), compute(*task)))
    monkeypatch.setattr(Drawn, "describe", lambda one: (order.append(one.id), describe(one))[1])
    first, second, last = generated(serve(engine).submit(HEROES_IDS, 3, GREEDY))
    assert order == ["step", "step", first, "step", second, last]


@pytest.mark.parametrize("which", [3, -1])  # one in the middle, and the last
def test_a_token_that_cannot_be_described_ends_only_its_own_generation(
    serve, demo, monkeypatch, caplog, which
):
    describe, engine = Drawn.describe, demo.engine(2)
    texts = ([464], HEROES_IDS)
    first, other = (generated(serve(engine).submit(ids, 20, GREEDY)) for ids in texts)
    logits = gpt2([464, *first][:which], **demo.params, n_head=demo.hparams.n_head)[-1]

    def fail_at_one(drawn):
        if np.allclose(drawn.logits, logits, atol=1e-3):
            raise RuntimeError("a fault")
        return describe(drawn)

    monkeypatch.setattr(Drawn, "describe", fail_at_one)
    one = serve(engine)
    sender = Sender("somebody", "0123abcd")
    both = [one.submit(ids, 20, GREEDY, sender=sender) for ids in texts]
    events = [all_events(generation) for generation in both]
    assert "request 0123abcd failed" in caplog.text
    assert ids_of(events[0]) == first[: which - 1 if which > 0 else which]
    assert isinstance(events[0][-1], Failed) and "a fault" in events[0][-1].message
    assert both[0].end_reason == "failed" and ids_of(events[1]) == other
    again = [one.submit(HEROES_IDS, 20, GREEDY) for _ in range(2)]
    assert [generated(each) for each in again] == [other] * 2  # both slots are free


def test_tokens_are_prepared_for_their_client_when_the_next_step_has_begun(serve, demo):
    engine, order, threads = demo.engine(), [], set()
    compute = engine._compute
    engine._compute = lambda *task: (order.append("step"), compute(*task))

    def prepare(token):
        threads.add(threading.current_thread().name)
        order.append(token.id)
        return f"token {token.id}"

    one = serve(engine)
    events = all_events(one.submit(HEROES_IDS, 3, GREEDY, GenerationOptions(prepare=prepare)))
    first, second, last = ids_of(events)
    assert order == ["step", "step", first, "step", second, last]
    assert threads == {"scheduler"}
    assert [event.take() for event in events] == [f"token {id}" for id in (first, second, last)]


def test_tokens_of_a_step_are_reported_when_all_are_prepared(serve, demo):
    one, order, ready = serve(demo.engine(2)), [], threading.Event()

    def prepare(token):
        order.append("prepared")
        return ready.wait(PATIENCE)

    options = GenerationOptions(prepare=prepare)
    both = [one.submit(ids, 4, GREEDY, options) for ids in ([464], HEROES_IDS)]
    for generation in both:
        generation.on_event = lambda: order.append("reported")
    ready.set()
    assert [len(all_events(generation)) for generation in both] == [4, 4]
    runs = [(what, len(list(run))) for what, run in groupby(order)]
    assert ("prepared", 2) in runs and ("reported", 2) in runs


def test_what_cannot_be_prepared_is_raised_where_it_is_taken(start):
    one = start()
    broken = GenerationOptions(prepare=lambda token: 1 / 0)
    generations = [one.submit(HEROES_IDS, 5, GREEDY, options) for options in (broken, NOTHING)]
    bad, good = (all_events(generation) for generation in generations)
    assert ids_of(bad) == ids_of(good) and len(good) == 5
    with pytest.raises(ZeroDivisionError):
        bad[0].take()


# Cancelling, draining, stopping


def test_cancelling_a_running_generation_frees_its_slot(start, gate):
    one = start()
    generation = one.submit(HEROES_IDS, 200, GREEDY)
    wait_for_load(one, 1)
    generation.cancel()
    gate.set()
    wait_for_load(one, 0)
    assert len(ids_of(events_so_far(generation))) < 5


def test_a_generation_cancelled_while_it_waits_makes_no_token(start, gate):
    one = start(max_batch=1)
    running = one.submit(HEROES_IDS, 3, GREEDY)
    wait_for_load(one, 1)
    waiting, last = one.submit([464], 3, GREEDY), one.submit([464, 262], 3, GREEDY)
    wait_for_load(one, 1, 2)
    waiting.cancel()
    gate.set()
    assert len(generated(running)) == len(generated(last)) == 3
    assert ids_of(events_so_far(waiting)) == []


def assert_restarting(generation):
    last = all_events(generation)[-1]
    assert isinstance(last, Failed) and "restarted" in last.message


def test_draining_ends_what_is_not_finished_in_time(start, gate):
    one = start(max_batch=1)
    running, waiting = one.submit(HEROES_IDS, 100, GREEDY), one.submit([464], 100, GREEDY)
    wait_for_load(one, 1, 1)
    one.drain(0)
    gate.set()
    assert_restarting(running)
    assert_restarting(waiting)
    with pytest.raises(Unavailable, match="restarted"):
        one.submit(HEROES_IDS, 3, GREEDY)
    wait_for_load(one, 0)


def test_draining_lets_generations_finish_in_time(start, gate):
    one = start(max_batch=1)
    both = [one.submit(HEROES_IDS, 9, GREEDY), one.submit([464], 9, GREEDY)]
    one.drain(PATIENCE)
    gate.set()
    assert [len(generated(generation)) for generation in both] == [9, 9]


def test_stopping_ends_the_thread_and_all_generations(start, gate):
    before = set(threading.enumerate())
    one = start(max_batch=1)
    running, waiting = one.submit(HEROES_IDS, 100, GREEDY), one.submit([464], 100, GREEDY)
    wait_for_load(one, 1, 1)
    gate.set()
    one.stop()
    assert_restarting(running)
    assert_restarting(waiting)
    assert {t.name for t in set(threading.enumerate()) - before} & {"scheduler"} == set()
    assert one.load == {"running": 0, "waiting": 0}
    with pytest.raises(Unavailable):
        one.submit([464], 1, GREEDY)


def test_an_idle_scheduler_stops_and_may_be_stopped_again(start):
    before = set(threading.enumerate())
    one = start()
    one.stop()
    one.stop()
    assert {t.name for t in set(threading.enumerate()) - before} & {"scheduler"} == set()


def test_many_starts_make_one_thread(start):
    one = start()
    before = threading.active_count()
    for _ in range(5):
        one.start()
    assert threading.active_count() == before


# Scores


def test_a_text_is_scored_in_chunks_between_the_steps_of_those_that_generate(serve, timed):
    one, ids = serve(timed), LONG_CONTEXT.ids()
    timed.go_on.clear()
    running = one.submit(ids[:3], 900, seeded(1))
    wait_until(lambda: ("step", 1) in timed.calls, "a step")
    scoring = one.score(ids[:500])
    timed.go_on.set()
    [scored] = all_events(scoring)
    # Calls of one kind that follow each other: between two chunks there are steps.
    runs = [list(run) for _, run in groupby(timed.calls, lambda call: call[0])]
    chunks = [run for run in runs if run[0][0] == "score"]
    assert len(chunks) > 10 and all(len(run) == 1 for run in chunks)
    ids = ids[:500]
    expected = Engine(LONG_CONTEXT.params(), LONG_CONTEXT.hparams)
    slot = expected.open()
    whole = expected.score(slot, ids[:-1], ids[1:])
    assert len(scored.scores) == len(ids) - 1
    assert abs(scored.scores.logprob - whole.logprob).max() < 1e-4
    assert (scored.scores.rank == whole.rank).mean() > 0.99
    running.cancel()


def test_most_of_the_time_is_for_those_that_generate_while_a_text_is_scored(serve, timed):
    one = serve(timed)
    timed.go_on.clear()
    decoding = one.submit([1], 900, seeded(1))
    wait_until(lambda: ("step", 1) in timed.calls, "a step")
    scored = one.score([2] * 1000, n_context=101)
    timed.go_on.set()
    all_events(scored)
    decoding.cancel()
    calls = timed.calls[1:]  # without the first prompt
    at = [i for i, (kind, _) in enumerate(calls) if kind in ("prefill", "score")]
    beside = calls[at[0] : at[-1]]
    steps = sum(n * 40 / 128 for kind, n in beside if kind == "step")
    reading = sum(n / 128 for kind, n in beside if kind == "prefill")
    scoring = sum(n / 64 for kind, n in beside if kind == "score")
    assert reading == 100 / 128 and scoring > 850 / 64
    share = steps / (steps + reading + scoring)
    assert share == pytest.approx(DECODE_SHARE, abs=0.03) and share > 0.5


def test_a_scored_text_frees_its_slot_and_may_be_cancelled_or_have_one_token(start, demo):
    one = start(max_batch=1)
    assert len(all_events(one.score([262]))[-1].scores) == 0
    for _ in range(2):
        assert len(all_events(one.score(HEROES_IDS))[-1].scores) == len(HEROES_IDS) - 1
    one.score([262] * demo.hparams.n_ctx).cancel()
    assert len(generated(one.submit(HEROES_IDS, 2, GREEDY))) == 2
    with pytest.raises(InputError, match="context holds"):
        one.score([262] * (demo.hparams.n_ctx + 1))


# Gates


def without_a_head_and_an_mlp(small) -> tuple[Gates, dict]:
    """Gates that remove layer 1 head 2 and the MLP of layer 0, and weights without these."""
    gates = Gates.ones(small.hparams)
    gates.heads[1, 2] = gates.mlp[0] = 0
    parts = [Component(1, "attn", 2), Component(0, "mlp")]
    return gates, without(small.params(), small.hparams.n_head, parts)


def greedy(ids, params, n_head, n_tokens) -> list[int]:
    """The continuation by the readable model, always the likeliest token."""
    text = list(ids)
    for _ in range(n_tokens):
        text.append(int(gpt2(text, **params, n_head=n_head)[-1].argmax()))
    return text[len(ids) :]


def test_a_generation_with_gates_runs_beside_others_as_with_edited_weights(serve):
    small = SMALL_MODELS["released_spreads"]
    h, ids = small.hparams, small.ids()[:20]
    gates, edited = without_a_head_and_an_mlp(small)
    one = serve(Engine(small.params(), h, 3))
    handles = [
        one.submit(ids, 12, GREEDY, GenerationOptions(gates=with_gates))
        for with_gates in (None, gates, None)
    ]
    plain, gated, beside = map(generated, handles)
    assert gated == greedy(ids, edited, h.n_head, 12)
    assert plain == beside == greedy(ids, small.params(), h.n_head, 12)
    assert gated != plain
    assert generated(one.submit(ids, 12, GREEDY)) == plain  # in the slot that had gates


def test_gates_of_another_model_are_refused_at_once_and_end_nothing_else(serve):
    small = SMALL_MODELS["released_spreads"]
    one = serve(Engine(small.params(), small.hparams, 2))
    running = one.submit(small.ids()[:5], 8, GREEDY)
    with pytest.raises(InputError, match="gates of heads"):
        one.submit(
            small.ids()[:5], 8, GREEDY, GenerationOptions(gates=Gates.ones(LONG_CONTEXT.hparams))
        )
    assert len(generated(running)) == 8
