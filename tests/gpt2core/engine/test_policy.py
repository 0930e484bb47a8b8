"""The scheduling policy: who gets a slot, who waits where, how much of a prompt is read."""

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.engine.events import Generation, Scoring, Sender
from gpt2core.engine.policy import DECODE_SHARE, Policy, Running
from gpt2core.engine.sequence import Sequence
from gpt2core.sampling import SamplingParams

MAX_CHUNK = 128


def generation(n_prompt=3, client="") -> Generation:
    return Generation([1] * n_prompt, 5, SamplingParams(), sender=Sender(client))


def run(policy: Policy, *generations: Generation) -> list[Running]:
    """Add generations and give each its slot."""
    for one in generations:
        policy.add(one)
    started = [
        Running(one, slot, Sequence(one.ids, 5, 1024, one.sampling))
        for slot, one in enumerate(policy.admit(), start=len(policy.running))
    ]
    policy.running += started
    return started


def read(policy: Policy) -> list[int]:
    """Read all prompts; the sizes of the chunks."""
    sizes = []
    while chosen := policy.next_prefill():
        running, chunk = chosen
        running.n_prefilled += len(chunk)
        sizes.append(len(chunk))
    return sizes


def busy_policy(step_seconds: float, token_seconds: float) -> Policy:
    """One sequence decodes; times were measured."""
    policy = Policy(4, 4, MAX_CHUNK)
    run(policy, generation())
    read(policy)
    policy.record_chunk(policy.running[0], 3, 3 * token_seconds)
    policy.record_step(step_seconds)
    return policy


# Slots and the queue


def test_slots_are_given_in_order_of_arrival():
    policy = Policy(2, 3, MAX_CHUNK)
    arrived = [generation() for _ in range(5)]
    started = run(policy, *arrived)
    assert [running.request for running in started] == arrived[:2]
    assert policy.admit() == []
    policy.running.remove(started[0])
    assert policy.admit() == [arrived[2]]
    assert list(policy.waiting) == arrived[3:]


def test_the_position_is_0_with_a_free_slot_and_then_counts_up():
    policy = Policy(2, 3, MAX_CHUNK)
    for _ in range(5):
        policy.add(generation())
    assert [position for _, position in policy.positions()] == [0, 0, 1, 2, 3]


def test_clients_get_slots_in_turn_each_in_order_of_arrival():
    policy = Policy(1, 9, MAX_CHUNK)
    (running,) = run(policy, generation(client="many"))
    many = [generation(client="many") for _ in range(3)]
    few, late = generation(client="few"), generation(client="late")
    for one in (*many, few, late):
        policy.add(one)
    # What runs is the first of "many".
    assert policy.in_turn() == [few, late, *many]
    assert policy.positions() == [(few, 1), (late, 2), (many[0], 3), (many[1], 4), (many[2], 5)]
    policy.running.remove(running)
    assert policy.admit() == [many[0]]  # it arrived before the first of the others
    assert list(policy.waiting) == [many[1], many[2], few, late]


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 4))
def test_every_request_gets_a_slot_and_no_client_waits_for_two_of_another(clients, n_slots):
    policy = Policy(n_slots, 12, MAX_CHUNK)
    for client in clients:
        policy.add(generation(client=client))
    waiting = set(policy.waiting)
    while waiting:
        admitted = policy.admit()
        assert 0 < len(admitted) <= n_slots
        waiting -= set(admitted)
        left = {one.sender.client for one in waiting}
        counts = [sum(one.sender.client == client for one in admitted) for client in left]
        n_most = max((sum(one.sender.client == c for one in admitted) for c in "abc"), default=0)
        assert all(n_most - n <= 1 for n in counts)


def test_a_client_has_a_limit_that_what_it_cancelled_does_not_count_for():
    policy = Policy(1, 9, MAX_CHUNK, max_per_client=2)
    run(policy, generation(client="a"))
    assert not policy.is_at_limit("a")
    waiting = generation(client="a")
    policy.add(waiting)
    assert policy.is_at_limit("a") and not policy.is_at_limit("b")
    waiting.cancel()
    assert not policy.is_at_limit("a")


@pytest.mark.parametrize(
    ("n_slots", "max_waiting", "n_present", "busy", "full"),
    [
        (2, 3, 1, False, False),
        (2, 3, 2, True, False),
        (2, 3, 4, True, False),
        (2, 3, 5, True, True),
        (1, 0, 0, False, False),
        (1, 0, 1, True, True),
    ],
)
def test_running_and_waiting_generations_are_counted_together(
    n_slots, max_waiting, n_present, busy, full
):
    for n_running in (0, n_slots):
        policy = Policy(n_slots, max_waiting, MAX_CHUNK)
        run(policy, *(generation() for _ in range(min(n_running, n_present))))
        for _ in range(n_present - len(policy.running)):
            policy.add(generation())
        assert (policy.is_busy, policy.is_full) == (busy, full)


def test_a_generation_cancelled_while_it_waits_gets_no_slot():
    policy = Policy(1, 3, MAX_CHUNK)
    (running,) = run(policy, generation())
    first, second = generation(), generation()
    policy.add(first), policy.add(second)
    first.cancel()
    assert policy.drop_cancelled() == [first]
    assert policy.admit() == [] and list(policy.waiting) == [second]
    policy.running.remove(running)
    assert policy.admit() == [second]


# How much of a prompt is read


def test_prompts_are_read_one_at_a_time_in_order_of_arrival():
    policy = Policy(4, 4, MAX_CHUNK)
    first, second = run(policy, generation(300), generation(200))
    owners = []
    while chosen := policy.next_prefill():
        running, chunk = chosen
        running.n_prefilled += len(chunk)
        owners.append(running)
    assert owners == [first, first, first, second, second]


def test_with_no_sequence_decoding_a_prompt_is_read_in_the_largest_chunks():
    policy = Policy(4, 4, MAX_CHUNK)
    (reading,) = run(policy, generation(500))
    policy.record_chunk(reading, 10, 1.0)
    policy.record_step(0.001)
    assert read(policy) == [128, 128, 128, 116]


def test_while_a_sequence_decodes_a_chunk_takes_as_long_as_one_step():
    policy = busy_policy(step_seconds=40 / 64, token_seconds=1 / 64)
    run(policy, generation(500))
    assert read(policy) == [40] * 12 + [20]


def test_the_newest_measurements_count():
    policy = busy_policy(step_seconds=40 / 64, token_seconds=1 / 64)
    (reading,) = run(policy, generation(500))
    policy.record_step(80 / 64)
    assert len(policy.next_prefill()[1]) == 80
    policy.record_chunk(reading, 80, 80 / 32)
    assert len(policy.next_prefill()[1]) == 40


def test_a_chunk_has_at_least_16_tokens_however_slowly_prompts_are_read():
    policy = busy_policy(step_seconds=0.01, token_seconds=1.0)
    run(policy, generation(100))
    assert read(policy) == [16] * 6 + [4]


def test_a_chunk_has_no_more_tokens_than_the_engine_reads_best():
    policy = busy_policy(step_seconds=1.0, token_seconds=0.0001)
    run(policy, generation(300))
    assert read(policy) == [128, 128, 44]


def test_a_sequence_decodes_once_its_whole_prompt_is_read():
    policy = busy_policy(step_seconds=40 / 64, token_seconds=1 / 64)
    (decoding,) = policy.running
    (reading,) = run(policy, generation(60))
    assert policy.decode_batch() == [decoding]
    reading.n_prefilled += 40
    assert policy.decode_batch() == [decoding]
    assert reading.unread == [1] * 20
    reading.n_prefilled += 20
    assert policy.decode_batch() == [decoding, reading]
    assert policy.next_prefill() is None


@given(
    step_seconds=st.floats(1e-4, 10),
    token_seconds=st.floats(1e-6, 10),
    n_prompt=st.integers(1, 1000),
)
def test_every_prompt_is_read_whole_and_in_order(step_seconds, token_seconds, n_prompt):
    policy = busy_policy(step_seconds, token_seconds)
    ids = list(range(n_prompt))
    run(policy, Generation(ids, 5, SamplingParams()))
    chunks = []
    while chosen := policy.next_prefill():
        running, chunk = chosen
        running.n_prefilled += len(chunk)
        chunks.append(chunk)
    assert sum(chunks, []) == ids
    assert all(16 <= len(chunk) <= MAX_CHUNK for chunk in chunks[:-1])


# Texts that are scored


def score(policy: Policy, n_ids: int, n_context: int = 1) -> Running:
    """Give a text that is scored its slot."""
    policy.add(Scoring([1] * n_ids, n_context=n_context))
    [request] = policy.admit()
    policy.running.append(Running(request, len(policy.running), n_context=n_context - 1))
    return policy.running[-1]


def read_next(policy: Policy, token_seconds: float) -> tuple[Running, int] | None:
    """Read what is next; each token takes so many seconds."""
    chosen = policy.next_prefill()
    if chosen is None:
        return None
    running, chunk = chosen
    policy.record_chunk(running, len(chunk), len(chunk) * token_seconds)
    running.n_prefilled += len(chunk)
    return running, len(chunk)


@given(
    step_seconds=st.lists(st.floats(0.01, 1), min_size=1, max_size=20),
    token_seconds=st.lists(st.floats(1e-5, 0.05), min_size=1, max_size=20),
    n_context=st.integers(1, 200),
)
def test_while_a_text_is_scored_streams_get_their_share_of_the_time(
    step_seconds, token_seconds, n_context
):
    policy = busy_policy(step_seconds[0], token_seconds[0])
    text = score(policy, 300, n_context)
    steps, tokens = cycle(step_seconds), cycle(token_seconds)
    decoding = scoring = newest = 0.0
    while not text.is_decoding:
        seconds = next(tokens)
        if found := read_next(policy, seconds):
            newest = found[1] * seconds
            scoring += newest
        policy.record_step(step := next(steps))
        decoding += step
        # The steps after a chunk make up for it; one step may have done so before it.
        share = DECODE_SHARE * (scoring + decoding)
        assert decoding >= share - newest - max(step_seconds)


def test_a_text_that_is_scored_gets_the_rest_of_the_time():
    policy = busy_policy(step_seconds=40 / 64, token_seconds=1 / 64)
    score(policy, 50_000)
    n_chunks = 0
    for _ in range(600):
        n_chunks += read_next(policy, 1 / 64) is not None  # as long as a step
        policy.record_step(40 / 64)
    assert n_chunks == pytest.approx(600 * (1 - DECODE_SHARE) / DECODE_SHARE, abs=3)


def test_a_text_is_scored_at_full_speed_while_nothing_streams():
    policy = busy_policy(step_seconds=1, token_seconds=1)
    score(policy, 1_000)
    assert read_next(policy, 1)[1] == 16
    assert read_next(policy, 1) is None  # the stream is owed steps
    policy.running.pop(0)
    assert read_next(policy, 1)[1] == MAX_CHUNK


def test_prompts_are_read_before_texts_that_are_scored():
    policy = Policy(4, 4, MAX_CHUNK)
    text = score(policy, 300)
    (prompt,) = run(policy, generation(200))
    owners = [read_next(policy, 1)[0] for _ in range(2)]
    assert owners == [prompt, prompt]
    policy.running.remove(prompt)
    assert read_next(policy, 1)[0] is text


def test_what_is_only_read_and_what_is_scored_are_measured_apart():
    policy = busy_policy(step_seconds=64, token_seconds=1)
    text = score(policy, 300, n_context=101)
    assert [read_next(policy, 1)[1] for _ in range(1)] == [64]
    policy.record_step(1_000), policy.record_step(64)
    assert read_next(policy, 1)[1] == 36  # no chunk is partly scored
    policy.record_step(1_000), policy.record_step(64)
    assert text.scores_next
    assert read_next(policy, 2)[1] == 16  # nothing is measured yet
    policy.record_step(1_000), policy.record_step(64)
    assert read_next(policy, 2)[1] == 32
