"""The engine gives the readable model's numbers, and never computes a prefix again."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import gpt2core.engine.engine
from gpt2core.engine import plain
from gpt2core.engine.engine import Engine
from gpt2core.engine.gates import row_gates
from gpt2core.errors import InputError
from gpt2core.hparams import MODEL_SIZES
from gpt2core.model import gpt2
from tests.helpers.small_models import LONG, SMALL_MODELS, TOLERANCE

STATM = Path("/proc/self/statm")
# Prompt lengths for which chunks, masks or cache positions could be wrong; -1 stands for
# n_ctx - 1, the longest prompt.
LENGTHS = [1, 2, 17, -1]
each_length = pytest.mark.parametrize("length", LENGTHS, ids=["1", "2", "17", "n_ctx-1"])


def prompt_of(small, length):
    return small.ids()[:length]  # -1: all but the last of n_ctx ids


def engine_of(small, n_slots=1, n_threads=None):
    return Engine(small.params(), small.hparams, n_slots, n_threads=n_threads)


def reference(small, ids):
    return gpt2(ids, **small.params(), n_head=small.hparams.n_head)


def assert_same_logits(logits, expected):
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= TOLERANCE


def prefilled(engine, ids):
    """A newly opened slot that holds ``ids``, and the logits after them."""
    slot = engine.open()
    return slot, engine.prefill(slot, ids)


def alone(engine, ids):
    """Logits after ``ids`` from a slot that is closed again."""
    slot, logits = prefilled(engine, ids)
    engine.close(slot)
    return logits


# The same numbers as the readable model


@each_length
def test_prefill_gives_the_readable_models_last_logits(small, length):
    ids = prompt_of(small, length)
    assert_same_logits(alone(engine_of(small), ids), reference(small, ids)[-1])


@each_length
@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 17, 64])
def test_the_size_of_prefill_chunks_does_not_change_the_logits(small, length, chunk, monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "PREFILL_CHUNK", chunk)
    ids, engine = prompt_of(small, length), engine_of(small)
    slot, logits = prefilled(engine, ids)
    assert_same_logits(logits, reference(small, ids)[-1])
    following = small.ids()[len(ids)]
    expected = reference(small, [*ids, following])[-1]
    assert_same_logits(engine.step([slot], [following])[0], expected)


@each_length
def test_greedy_ids_and_logits_equal_the_readable_models(small, length):
    engine, written = engine_of(small), list(prompt_of(small, length))
    slot, logits = prefilled(engine, written)
    while True:
        expected = reference(small, written)[-1]
        assert_same_logits(logits, expected)
        assert logits.argmax() == expected.argmax()
        if len(written) == small.hparams.n_ctx:
            break
        written.append(int(logits.argmax()))
        logits = engine.step([slot], [written[-1]])[0]


def test_greedy_ids_equal_huggingfaces(small_name, small, logit_goldens):
    engine = engine_of(small)
    expected = logit_goldens[f"{small_name}/greedy"].tolist()
    slot, logits = prefilled(engine, small.ids()[:2])
    written = [int(logits.argmax())]
    while len(written) < len(expected):
        written.append(int(engine.step([slot], [written[-1]])[0].argmax()))
    assert written == expected


def test_steps_give_what_a_prefill_of_the_longer_prompt_gives(small):
    engine, ids = engine_of(small, n_slots=2), small.ids()[:-1]
    slot, stepped = prefilled(engine, ids[:1])
    for end in range(1, len(ids) + 1):
        assert_same_logits(stepped, alone(engine, ids[:end]))
        if end < len(ids):
            stepped = engine.step([slot], [ids[end]])[0]


@pytest.mark.parametrize("chunks", [[60, 1, 3], [64, 64], [1, 63, 65], [130, 69], [129, 7]])
def test_a_prompt_may_be_read_in_several_calls(chunks):
    engine, ids = engine_of(LONG, n_slots=2), LONG.ids()
    slot, end = engine.open(), 0
    for n in chunks:
        end += n
        logits = engine.prefill(slot, ids[end - n : end])
        assert engine.length(slot) == end
        assert_same_logits(logits, reference(LONG, ids[:end])[-1])


def test_calls_before_the_last_compute_no_logits():
    engine, ids = engine_of(LONG), LONG.ids()
    slot = engine.open()
    assert engine.prefill(slot, ids[:70], more_follow=True) is None
    assert engine.length(slot) == 70
    assert_same_logits(engine.prefill(slot, ids[70:150]), reference(LONG, ids[:150])[-1])


@pytest.mark.parametrize("kind", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_a_prompt_may_be_a_list_or_an_array_and_is_not_changed(kind):
    small = SMALL_MODELS["one_head"]
    ids = kind(small.ids()[:5])
    assert_same_logits(alone(engine_of(small), ids), reference(small, list(ids))[-1])
    np.testing.assert_array_equal(ids, small.ids()[:5])


# The bundled model


@each_length
def test_the_bundled_model_reads_a_prompt_as_the_readable_model_does(demo, length):
    ids = text_ids(demo)[:length]
    expected = gpt2(ids, **demo.params, n_head=demo.hparams.n_head)[-1]
    logits = alone(demo.engine(), ids)
    assert_same_logits(logits, expected)
    assert logits.argmax() == expected.argmax()


@each_length
def test_the_bundled_model_generates_the_readable_models_greedy_tokens(demo, length):
    prompt, engine = text_ids(demo)[:length], demo.engine()
    slot, logits = prefilled(engine, prompt)
    written = list(prompt)
    for _ in range(12):
        written.append(int(logits.argmax()))
        if len(written) == demo.hparams.n_ctx:
            break
        logits = engine.step([slot], [written[-1]])[0]
    # One pass over the whole text gives the readable model's token at each position.
    expected = gpt2(written[:-1], **demo.params, n_head=demo.hparams.n_head)
    assert written[len(prompt) :] == expected[len(prompt) - 1 :].argmax(axis=-1).tolist()


def text_ids(demo) -> list[int]:
    """Ids of English that fill the bundled model's context."""
    text = "Once upon a time a fox lived in a wood, and every morning it went to the river. "
    ids = demo.encoder.encode(text * (1 + demo.hparams.n_ctx // 15))
    assert len(ids) >= demo.hparams.n_ctx
    return ids[: demo.hparams.n_ctx]


# Threads


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_any_number_of_threads_gives_the_same_numbers(n_threads, monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    engine, ids = engine_of(LONG, 2, n_threads), LONG.ids()
    slot, logits = prefilled(engine, ids[:130])
    np.testing.assert_array_equal(logits, alone(engine_of(LONG, n_threads=1), ids[:130]))
    assert_same_logits(logits, reference(LONG, ids[:130])[-1])
    assert_same_logits(engine.step([slot], [ids[130]])[0], reference(LONG, ids[:131])[-1])


def test_threads_end_with_their_engine(monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    before = set(threading.enumerate())
    for _ in range(3):
        alone(engine_of(LONG, n_threads=4), LONG.ids()[:3])
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


def test_no_thread_starts_before_the_first_pass(monkeypatch):
    """A worker process may be forked after its engine is made."""
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    before = set(threading.enumerate())
    engine = engine_of(LONG, n_threads=4)
    engine.open()
    assert set(threading.enumerate()) == before


def test_a_pass_waits_for_no_thread_that_has_not_begun(monkeypatch):
    """On a busy machine the system may start the other threads late."""
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    engine, ids = engine_of(LONG, n_threads=2), LONG.ids()
    slot, _ = prefilled(engine, ids[:5])
    release = threading.Event()
    late = engine._pool.submit(release.wait, 60)  # the only other thread is busy with this
    logits = engine.step([slot], [ids[5]])[0]
    assert not late.done()
    assert_same_logits(logits, reference(LONG, ids[:6])[-1])
    release.set()
    assert_same_logits(engine.step([slot], [ids[6]])[0], reference(LONG, ids[:7])[-1])


def test_a_thread_that_cannot_start_is_an_error_and_the_engine_goes_on(monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    engine, ids = engine_of(LONG, n_threads=3), LONG.ids()
    slot, _ = prefilled(engine, ids[:5])
    submit, n_left = engine._pool.submit, 2

    def failing(*args):
        nonlocal n_left
        n_left -= 1
        if n_left == 0:  # the thread before has started already, and must not wait for ever
            raise RuntimeError("can't start new thread")
        return submit(*args)

    engine._pool.submit = failing
    with pytest.raises(RuntimeError, match="start new thread"):
        engine.step([slot], [ids[5]])
    assert engine.length(slot) == 5
    del engine._pool.submit
    assert_same_logits(engine.step([slot], [ids[5]])[0], reference(LONG, ids[:6])[-1])


# Nothing is computed twice


def test_each_token_is_computed_once(small):
    """A pass has a row for each new token only, however long the text is."""
    engine, ids, rows = engine_of(small), small.ids(), []
    compute = engine._compute
    engine._compute = lambda task, *rest: (
        rows.append(task.positions.tolist()) or compute(task, *rest)
    )
    slot, _ = prefilled(engine, ids[:8])
    for id in ids[8:]:
        engine.step([slot], [id])
    assert rows == [list(range(8)), *([at] for at in range(8, len(ids)))]


def test_a_step_uses_the_cache_and_does_not_change_it(small):
    """Keys and values that are altered stay altered, and change the logits."""
    engine, ids = engine_of(small), small.ids()
    cache = recorded_caches(engine)
    slot, _ = prefilled(engine, ids[:9])
    for array in cache:
        array *= -1.5
    altered = [array.copy() for array in cache]
    logits = engine.step([slot], [ids[9]])[0]
    for array, before in zip(cache, altered, strict=True):
        np.testing.assert_array_equal(array[before != 0], before[before != 0])
    assert np.abs(logits - reference(small, ids[:10])[-1]).max() > 10 * TOLERANCE


def test_each_step_adds_one_token_to_the_cache(small):
    engine, h = engine_of(small, n_slots=2), small.hparams
    cache = recorded_caches(engine)
    slot, _ = prefilled(engine, small.ids()[:5])
    for made, id in enumerate(small.ids()[5:], 6):
        engine.step([slot], [id])
        assert sum(np.count_nonzero(array) for array in cache) == 2 * h.n_layer * h.n_embd * made


@pytest.mark.skipif(not STATM.exists(), reason="only Linux reports this")
def test_a_short_text_takes_memory_for_its_length():
    """Also in pages of 2 MB. A slot of 124M has 75 MB for a whole context."""
    hparams, n_rows = MODEL_SIZES["124M"], 64
    cache = plain.make_cache(hparams, 8)
    gates = row_gates([None] * n_rows, hparams)
    places = np.arange(n_rows)
    task = plain.Task(places, np.full(n_rows, 5), places, 0, *gates)
    rows = np.ones((n_rows, hparams.n_head, hparams.n_embd // hparams.n_head), np.float32)
    before = resident_bytes()
    for layer in range(hparams.n_layer):
        plain.write_kv(task, rows, rows, cache, layer)
    assert 2 * hparams.n_layer * rows.nbytes <= resident_bytes() - before < 20e6


def resident_bytes() -> int:
    """Of this process."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def recorded_caches(engine) -> list[np.ndarray]:
    """Every slot's keys and every slot's values."""
    return list(engine._cache)


def test_a_step_allocates_no_more_for_a_longer_text():
    import tracemalloc

    engine, ids = engine_of(LONG), LONG.ids()
    slot, _ = prefilled(engine, ids[:2])
    peaks = []
    for id in ids[2:]:
        tracemalloc.start()
        engine.step([slot], [id])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A copy of the keys and values would be larger, even of one layer.
    one_layer = 2 * 4 * LONG.hparams.n_ctx * LONG.hparams.n_embd
    assert max(peaks[-8:]) - min(peaks[4:12]) < one_layer / 5


# Slots


def test_two_interleaved_slots_give_the_logits_of_each_alone(small):
    engine, ids = engine_of(small, n_slots=2), small.ids()
    texts, starts = [ids[:12], ids[:3:-1][:11]], [5, 3]
    slots = [engine.open(), engine.open()]
    for text, start, slot in zip(texts, starts, slots, strict=True):
        logits = engine.prefill(slot, text[:start])
        assert_same_logits(logits, reference(small, text[:start])[-1])
    for turn in range(7):
        for text, start, slot in zip(texts, starts, slots, strict=True):
            logits = engine.step([slot], [text[start + turn]])[0]
            assert_same_logits(logits, reference(small, text[: start + turn + 1])[-1])


def test_a_slot_that_is_opened_again_is_empty(small):
    engine, ids = engine_of(small), small.ids()
    for text in (ids[:-1], ids[5:9], ids[:1]):
        slot, logits = prefilled(engine, text)
        assert engine.length(slot) == len(text)
        assert_same_logits(logits, reference(small, text)[-1])
        engine.close(slot)


def test_opening_more_slots_than_there_are_is_an_error(small):
    engine = engine_of(small, n_slots=3)
    slots = [engine.open() for _ in range(3)]
    assert sorted(slots) == [0, 1, 2]
    with pytest.raises(InputError, match="All 3 slots"):
        engine.open()
    engine.close(1)
    assert engine.open() == 1


@pytest.mark.parametrize("slot", [1, 2, -1, 7])
def test_using_a_slot_that_is_not_open_is_an_error(slot):
    small = SMALL_MODELS["one_head"]
    engine = engine_of(small, n_slots=3)
    assert engine.open() == 0
    for use in (
        lambda: engine.prefill(slot, [1]),
        lambda: engine.step([0, slot], [1, 1]),
        lambda: engine.length(slot),
        lambda: engine.close(slot),
    ):
        with pytest.raises(InputError, match="not open"):
            use()
    assert engine.length(0) == 0


def test_logits_that_were_returned_are_not_overwritten(small):
    engine, ids = engine_of(small, n_slots=2), small.ids()
    slot, logits = prefilled(engine, ids[:4])
    returned = [logits]
    returned += [engine.step([slot], [id])[0] for id in ids[4:10]]
    alone(engine, ids[:7])
    for end, logits in enumerate(returned, 4):
        assert_same_logits(logits, reference(small, ids[:end])[-1])


# Weights


def test_an_engine_changes_no_weight(small):
    params = small.params()
    engine = Engine(params, small.hparams)
    slot, _ = prefilled(engine, small.ids()[:9])
    engine.step([slot], [small.ids()[9]])
    np.testing.assert_equal(params, small.params())


def test_weights_may_be_read_only(small):
    params = small.params()

    def lock(tree):
        if isinstance(tree, np.ndarray):
            tree.setflags(write=False)
        else:
            for branch in tree.values() if isinstance(tree, dict) else tree:
                lock(branch)

    lock(params)
    engine = Engine(params, small.hparams)
    expected = reference(small, small.ids()[:5])
    slot, logits = prefilled(engine, small.ids()[:4])
    assert_same_logits(logits, expected[3])
    assert_same_logits(engine.step([slot], [small.ids()[4]])[0], expected[4])


def test_everything_is_float32(small):
    engine = engine_of(small)
    slot, logits = prefilled(engine, small.ids()[:4])
    assert logits.dtype == np.float32
    assert engine.step([slot], [small.ids()[4]]).dtype == np.float32
    # Counters, and the activations rounded for int8 weights, which there are none of here.
    others = {"rounded": np.int16, "taken": np.int64, "done": np.int64}
    for array in [*engine._weights, *engine._cache]:
        assert array.dtype == np.float32
    for name, array in engine._buffers._asdict().items():
        assert array.dtype == others.get(name, np.float32)


# Invalid input


def test_a_step_in_a_full_context_is_an_error_and_changes_nothing(small):
    engine, n_ctx = engine_of(small), small.hparams.n_ctx
    slot, _ = prefilled(engine, small.ids()[:-1])
    engine.step([slot], [small.ids()[-1]])
    before = [array.copy() for array in recorded_caches(engine)]
    with pytest.raises(InputError, match=f"context of {n_ctx} tokens is full"):
        engine.step([slot], [0])
    assert engine.length(slot) == n_ctx
    np.testing.assert_equal(recorded_caches(engine), before)


@pytest.mark.parametrize("case", ["empty", "too long", "negative id", "id too large"])
def test_an_invalid_prompt_is_an_error_before_any_computing(case):
    small = SMALL_MODELS["one_head"]
    n_ctx, n_vocab = small.hparams.n_ctx, small.hparams.n_vocab
    ids = {
        "empty": [],
        "too long": [1] * (n_ctx + 1),
        "negative id": [1, -1],
        "id too large": [n_vocab],
    }
    engine = engine_of(small)
    slot = engine.open()
    with pytest.raises(InputError) as caught:
        engine.prefill(slot, ids[case])
    assert caught.value.field == "prompt"
    assert engine.length(slot) == 0
    assert not any(array.any() for array in recorded_caches(engine))


@pytest.mark.parametrize(
    ("slots", "ids"), [([], []), ([0], [1, 2]), ([0, 0], [1, 2]), ([0, 1], [1, 31]), ([0], [-1])]
)
def test_an_invalid_step_is_an_error_before_any_computing(slots, ids):
    engine = engine_of(SMALL_MODELS["one_head"], n_slots=2)
    for _ in range(2):
        engine.open()
    with pytest.raises(InputError):
        engine.step(slots, ids)
    assert [engine.length(0), engine.length(1)] == [0, 0]
