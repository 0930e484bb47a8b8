"""Recorded passes: one at a time, a bounded cache that changes no answer."""

import os
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gpt2core.engine.events import Unavailable
from gpt2core.errors import InputError
from gpt2core.inside.recording import record_pass
from tests.helpers.web import PATIENCE
from webapp.inside.recordings import MAX_BYTES, Recordings

TEXTS = ["Once upon a time", "The old king", "Not all heroes wear capes."]


@pytest.fixture
def ids(demo):
    """Three texts of three tokens."""
    return [demo.encoder.encode(text)[:3] for text in TEXTS]


def test_a_text_is_recorded_once_while_it_is_kept(demo, ids):
    recordings = Recordings()
    assert recordings.get(demo, ids[0]) is recordings.get(demo, ids[0])
    assert recordings.get(demo, ids[1]) is not recordings.get(demo, ids[0])


def test_the_least_recently_used_go_when_the_bytes_run_out(demo, ids):
    room = Recordings().get(demo, ids[0]).nbytes * 2
    recordings = Recordings(max_bytes=room)
    first = recordings.get(demo, ids[0])
    second = recordings.get(demo, ids[1])
    assert recordings.get(demo, ids[0]) is first
    recordings.get(demo, ids[2])
    assert recordings.nbytes <= room
    assert recordings.get(demo, ids[0]) is first
    assert recordings.get(demo, ids[1]) is not second


def test_the_newest_is_kept_even_if_it_is_larger_than_the_cache(demo, ids):
    recordings = Recordings(max_bytes=1)
    first = recordings.get(demo, ids[0])
    assert recordings.get(demo, ids[0]) is first
    second = recordings.get(demo, ids[1])
    assert recordings.nbytes == second.nbytes
    assert recordings.get(demo, ids[0]) is not first


def test_a_recording_is_the_same_with_a_cold_cache_and_a_warm_one(demo, ids):
    warm = Recordings()
    warm.get(demo, ids[0])
    one, other = warm.get(demo, ids[0]), Recordings().get(demo, ids[0])
    assert np.array_equal(one.last_logits, other.last_logits)
    for layer in range(one.n_layer):
        assert np.array_equal(one.patterns[layer], other.patterns[layer])


def test_one_that_waits_too_long_is_told_when_to_come_again(demo, ids, monkeypatch):
    recordings = Recordings(patience=0.01)
    kept = recordings.get(demo, ids[1])
    begun, done = threading.Event(), threading.Event()

    def slow(*arguments):
        begun.set()
        assert done.wait(PATIENCE)
        return record_pass(*arguments)

    monkeypatch.setattr("webapp.inside.recordings.record_pass", slow)
    other = threading.Thread(target=recordings.get, args=(demo, ids[2]))
    other.start()
    assert begun.wait(PATIENCE)
    with pytest.raises(Unavailable) as refused:
        recordings.get(demo, ids[0])
    with pytest.raises(Unavailable):
        recordings.replay_block(kept, 0)
    assert recordings.get(demo, ids[1]) is kept, "what is kept needs no turn"
    assert refused.value.retry_after == 5
    done.set()
    other.join()
    assert recordings.get(demo, ids[0])


def test_a_failure_lets_the_next_one_have_its_turn(demo, ids):
    recordings = Recordings(patience=0.01)
    for bad in ([], [demo.hparams.n_vocab], [1] * 257):
        with pytest.raises(InputError):
            recordings.get(demo, bad)
    with pytest.raises(IndexError):
        recordings.replay_block(recordings.get(demo, ids[0]), 99)
    assert recordings.get(demo, ids[1])


def test_many_requests_for_one_text_make_one_recording(demo, ids):
    recordings, found = Recordings(), []
    threads = [
        threading.Thread(target=lambda: found.append(recordings.get(demo, ids[0])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_the_cache_holds_a_few_recordings_of_124m():
    # 64 tokens of 124M take 10 MB, see bench/.
    assert MAX_BYTES >= 6 * 10 * 10**6


def test_beside_texts_that_are_generated_blas_has_one_thread(app, monkeypatch):
    def threads() -> set[int]:
        # Packages that only tests use may have loaded a BLAS of their own.
        found = [one for one in threadpool_info() if "numpy" in one["filepath"]]
        return {one["num_threads"] for one in found}

    recordings, model_server = app.extensions["recordings"], app.extensions["model_server"]
    # Only the thread that has set a limit can change it.
    two = recordings.in_turn(lambda: threadpool_limits(limits=2, user_api="blas"))
    assert recordings.in_turn(threads) == {2}
    monkeypatch.setattr(type(model_server), "load", {"running": 1, "waiting": 0})
    assert recordings.in_turn(threads) == {1}
    assert threads() == {2}
    recordings.in_turn(two.restore_original_limits)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_a_recording_runs_at_a_lower_priority_than_the_threads_that_serve():
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here = niceness()
    assert Recordings().in_turn(niceness) > here
    assert niceness() == here
