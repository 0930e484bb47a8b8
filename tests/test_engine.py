"""The fast engine says what the readable model says, and never computes a prefix again."""

import numpy as np
import pytest

import gpt2core.engine
from gpt2core.engine import Engine
from gpt2core.errors import InputError
from gpt2core.hparams import HParams
from gpt2core.model import gpt2
from tests.small_models import SMALL_MODELS

TOLERANCE = 1e-4  # of a logit

# Prompt lengths that a chunked prefill, a mask or a place in the cache could get wrong;
# -1 stands for n_ctx - 1, the longest prompt there may be.
LENGTHS = [1, 2, 17, -1]
each_length = pytest.mark.parametrize("length", LENGTHS, ids=["1", "2", "17", "n_ctx-1"])


def prompt_of(small, length):
    return small.ids()[:length]  # -1 leaves out the last of n_ctx ids


def engine_of(small):
    return Engine(small.params(), small.hparams)


def reference(small, ids):
    return gpt2(ids, **small.params(), n_head=small.hparams.n_head)


def assert_same_logits(logits, expected):
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= TOLERANCE


def arrays_of(cache) -> list[np.ndarray]:
    """Every array that a cache holds, whatever its layout."""
    arrays = [value for value in vars(cache).values() if isinstance(value, np.ndarray)]
    assert arrays
    return arrays


def n_filled(cache) -> int:
    """How many numbers of a cache that was filled with NaN have been written since."""
    return sum(int(np.isfinite(array).sum()) for array in arrays_of(cache))


def poisoned_with_nan(cache):
    for array in arrays_of(cache):
        array.fill(np.nan)
    return cache


# The same numbers as the readable model


@each_length
def test_prefill_gives_the_readable_models_last_logits(small, length):
    ids, engine = prompt_of(small, length), engine_of(small)
    assert_same_logits(engine.prefill(ids, engine.new_cache()), reference(small, ids)[-1])


@each_length
@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 17, 64])
def test_the_size_of_prefill_chunks_changes_nothing(small, length, chunk, monkeypatch):
    monkeypatch.setattr(gpt2core.engine, "PREFILL_CHUNK", chunk)
    ids, engine = prompt_of(small, length), engine_of(small)
    cache = engine.new_cache()
    assert_same_logits(engine.prefill(ids, cache), reference(small, ids)[-1])
    following = small.ids()[len(ids)]
    expected = reference(small, [*ids, following])[-1]
    assert_same_logits(engine.step(following, cache), expected)


@each_length
def test_greedy_ids_and_logits_equal_the_readable_models(small, length):
    ids, engine, cache = prompt_of(small, length), engine_of(small), None
    logits, written = None, list(ids)
    while len(written) < small.hparams.n_ctx:
        if cache is None:
            cache = engine.new_cache()
            logits = engine.prefill(ids, cache)
        else:
            logits = engine.step(written[-1], cache)
        expected = reference(small, written)[-1]
        assert_same_logits(logits, expected)
        assert logits.argmax() == expected.argmax()
        written.append(int(logits.argmax()))
    assert_same_logits(engine.step(written[-1], cache), reference(small, written)[-1])


def test_greedy_ids_equal_huggingfaces(small_name, small, logit_goldens):
    engine = engine_of(small)
    cache = engine.new_cache()
    expected = logit_goldens[f"{small_name}/greedy"].tolist()
    written = [int(engine.prefill(small.ids()[:2], cache).argmax())]
    while len(written) < len(expected):
        written.append(int(engine.step(written[-1], cache).argmax()))
    assert written == expected


def test_steps_give_what_a_prefill_of_the_longer_prompt_gives(small):
    engine, ids = engine_of(small), small.ids()[:-1]
    cache = engine.new_cache()
    stepped = engine.prefill(ids[:1], cache)
    for end in range(1, len(ids) + 1):
        assert_same_logits(stepped, engine.prefill(ids[:end], engine.new_cache()))
        if end < len(ids):
            stepped = engine.step(ids[end], cache)


@pytest.mark.parametrize("kind", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_a_prompt_may_be_a_list_or_an_array_and_is_not_changed(kind):
    small = SMALL_MODELS["one_head"]
    engine, ids = engine_of(small), kind(small.ids()[:5])
    assert_same_logits(engine.prefill(ids, engine.new_cache()), reference(small, list(ids))[-1])
    np.testing.assert_array_equal(ids, small.ids()[:5])


# The bundled model


@each_length
def test_the_bundled_model_reads_a_prompt_as_the_readable_model_does(demo, length):
    ids = text_ids(demo)[:length]
    engine = Engine(demo.params, demo.hparams)
    expected = gpt2(ids, **demo.params, n_head=demo.hparams.n_head)[-1]
    logits = engine.prefill(ids, engine.new_cache())
    assert_same_logits(logits, expected)
    assert logits.argmax() == expected.argmax()


@each_length
def test_the_bundled_model_writes_what_the_readable_model_writes(demo, length):
    prompt = text_ids(demo)[:length]
    engine = Engine(demo.params, demo.hparams)
    cache = engine.new_cache()
    logits, written = engine.prefill(prompt, cache), list(prompt)
    for _ in range(12):
        written.append(int(logits.argmax()))
        if len(written) == demo.hparams.n_ctx:
            break
        logits = engine.step(written[-1], cache)
    # One look at the whole text tells what the readable model would have written at each place.
    expected = gpt2(written[:-1], **demo.params, n_head=demo.hparams.n_head)
    assert written[len(prompt) :] == expected[len(prompt) - 1 :].argmax(axis=-1).tolist()


def text_ids(demo) -> list[int]:
    """Ids of English that fill the bundled model's context."""
    text = "Once upon a time a fox lived in a wood, and every morning it went to the river. "
    ids = demo.encoder.encode(text * (1 + demo.hparams.n_ctx // 15))
    assert len(ids) >= demo.hparams.n_ctx
    return ids[: demo.hparams.n_ctx]


# Nothing is computed twice


@each_length
def test_prefill_writes_the_keys_and_values_of_its_tokens_and_no_others(small, length):
    ids, engine = prompt_of(small, length), engine_of(small)
    cache = poisoned_with_nan(engine.new_cache())
    engine.prefill(ids, cache)
    assert cache.length == len(ids)
    h = small.hparams
    assert n_filled(cache) == 2 * h.n_layer * h.n_embd * len(ids)


def test_a_step_writes_the_keys_and_values_of_one_token(small):
    engine, h = engine_of(small), small.hparams
    cache = poisoned_with_nan(engine.new_cache())
    engine.prefill(small.ids()[:5], cache)
    for made, id in enumerate(small.ids()[5:], 6):
        engine.step(id, cache)
        assert cache.length == made
        assert n_filled(cache) == 2 * h.n_layer * h.n_embd * made


def test_a_step_reads_the_cache_and_leaves_what_it_holds(small):
    """A forged memory stays forged, and is believed: nobody computes it again."""
    engine, ids = engine_of(small), small.ids()
    cache = poisoned_with_nan(engine.new_cache())
    engine.prefill(ids[:9], cache)
    for array in arrays_of(cache):
        array *= -1.5  # NaN stays NaN
    forged = [array.copy() for array in arrays_of(cache)]
    logits = engine.step(ids[9], cache)
    for array, before in zip(arrays_of(cache), forged, strict=True):
        filled = np.isfinite(before)
        np.testing.assert_array_equal(array[filled], before[filled])
    assert np.abs(logits - reference(small, ids[:10])[-1]).max() > 10 * TOLERANCE


def test_a_step_looks_up_one_token_only(small):
    """The work of a step does not grow with the text: of wte and wpe it reads one row."""

    class Rows(np.ndarray):
        """An array that tells how many rows were looked up."""

        looked_up = 0

        def __getitem__(self, key):
            rows = super().__getitem__(key)
            if isinstance(rows, np.ndarray):
                Rows.looked_up += rows.shape[0] if rows.ndim == 2 else 1
            return rows.view(np.ndarray) if isinstance(rows, np.ndarray) else rows

    params = small.params()
    params["wpe"] = params["wpe"].view(Rows)
    engine = Engine(params, small.hparams)
    cache = engine.new_cache()
    Rows.looked_up = 0
    engine.prefill(small.ids()[:8], cache)
    assert Rows.looked_up == 8
    for id in small.ids()[8:]:
        Rows.looked_up = 0
        engine.step(id, cache)
        assert Rows.looked_up == 1


# Caches of their own


def test_two_caches_taken_in_turn_do_not_disturb_each_other(small):
    engine, ids = engine_of(small), small.ids()
    texts = [ids[:12], ids[:3:-1][:11]]
    starts = [5, 3]
    caches = [engine.new_cache(), engine.new_cache()]
    for text, start, cache in zip(texts, starts, caches, strict=True):
        logits = engine.prefill(text[:start], cache)
        assert_same_logits(logits, reference(small, text[:start])[-1])
    for turn in range(7):
        for text, start, cache in zip(texts, starts, caches, strict=True):
            logits = engine.step(text[start + turn], cache)
            assert_same_logits(logits, reference(small, text[: start + turn + 1])[-1])


def test_logits_that_were_given_out_are_not_written_over(small):
    engine, ids = engine_of(small), small.ids()
    cache = engine.new_cache()
    given = [engine.prefill(ids[:4], cache)]
    given += [engine.step(id, cache) for id in ids[4:10]]
    engine.prefill(ids[:7], engine.new_cache())
    for end, logits in enumerate(given, 4):
        assert_same_logits(logits, reference(small, ids[:end])[-1])


def test_an_engine_changes_no_weight(small):
    params = small.params()
    engine = Engine(params, small.hparams)
    cache = engine.new_cache()
    engine.prefill(small.ids()[:9], cache)
    engine.step(small.ids()[9], cache)
    np.testing.assert_equal(params, small.params())


def test_weights_may_be_read_only_as_a_memory_map_is(small):
    params = small.params()

    def lock(tree):
        if isinstance(tree, np.ndarray):
            tree.setflags(write=False)
        else:
            for branch in tree.values() if isinstance(tree, dict) else tree:
                lock(branch)

    lock(params)
    engine = Engine(params, small.hparams)
    cache = engine.new_cache()
    expected = reference(small, small.ids()[:5])
    assert_same_logits(engine.prefill(small.ids()[:4], cache), expected[3])
    assert_same_logits(engine.step(small.ids()[4], cache), expected[4])


def test_everything_is_float32(small):
    engine = engine_of(small)
    cache = engine.new_cache()
    assert engine.prefill(small.ids()[:4], cache).dtype == np.float32
    assert engine.step(small.ids()[4], cache).dtype == np.float32
    assert {array.dtype for array in arrays_of(cache)} == {np.dtype(np.float32)}


def test_nothing_on_the_way_is_widened(small):
    """Whatever is computed from weights is float32, not only what comes out."""
    seen = set()

    class Watched(np.ndarray):
        """An array whose views and results tell their dtype."""

        def __array_finalize__(self, source):
            if self.size > 1:  # np.mean wraps its Python number of rows, which widens nothing
                seen.add(self.dtype)

    def watched(tree):
        if isinstance(tree, np.ndarray):
            return tree.view(Watched)
        if isinstance(tree, dict):
            return {name: watched(branch) for name, branch in tree.items()}
        return [watched(branch) for branch in tree]

    engine = Engine(watched(small.params()), small.hparams)
    cache = engine.new_cache()
    engine.prefill(small.ids()[:9], cache)
    engine.step(small.ids()[9], cache)
    assert {dtype for dtype in seen if dtype.kind == "f"} == {np.dtype(np.float32)}


# What cannot be


def test_a_full_context_is_told(small):
    engine, n_ctx = engine_of(small), small.hparams.n_ctx
    cache = engine.new_cache()
    engine.prefill(small.ids()[:-1], cache)
    engine.step(small.ids()[-1], cache)
    before = [array.copy() for array in arrays_of(cache)]
    with pytest.raises(InputError, match=f"context of {n_ctx} tokens is full"):
        engine.step(0, cache)
    assert cache.length == n_ctx
    np.testing.assert_equal(arrays_of(cache), before)


@pytest.mark.parametrize("case", ["empty", "too long", "negative id", "id too large"])
def test_an_impossible_prompt_is_told_before_anything_is_computed(case):
    small = SMALL_MODELS["one_head"]
    n_ctx, n_vocab = small.hparams.n_ctx, small.hparams.n_vocab
    ids = {"empty": [], "too long": [1] * n_ctx, "negative id": [1, -1], "id too large": [n_vocab]}
    engine = engine_of(small)
    cache = poisoned_with_nan(engine.new_cache())
    with pytest.raises(InputError) as caught:
        engine.prefill(ids[case], cache)
    assert caught.value.field == "prompt"
    assert cache.length == 0 and n_filled(cache) == 0


def test_a_cache_is_of_the_models_shape():
    hparams = HParams(n_vocab=10, n_ctx=6, n_embd=8, n_head=2, n_layer=3)
    cache = gpt2core.engine.KVCache(hparams)
    assert cache.length == 0
    assert sum(array.size for array in arrays_of(cache)) == 2 * 3 * 6 * 8
