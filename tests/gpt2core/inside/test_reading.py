"""The guided reading's findings: each number is that of the arrays, each claim is earned."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gpt2core.errors import InputError
from gpt2core.inside import reading
from gpt2core.inside.findings import Reading
from gpt2core.inside.interventions import Component, ablate
from gpt2core.inside.lens import lens
from gpt2core.inside.reading import TEXTS, copying_head, previous_head, search, settled
from gpt2core.inside.recording import record_pass
from gpt2core.sampling import log_softmax
from tests.helpers.small_models import SMALL_MODELS

PHRASE = [3, 1, 4, 9, 5]
SMALL = SMALL_MODELS["released_spreads"]


def texts() -> list[list[int]]:
    """As many texts of ids as ``TEXTS`` has; the last is a phrase twice."""
    ids = SMALL.ids()
    return [*(ids[i : i + 9] for i in range(len(TEXTS) - 1)), [*PHRASE, 7, *PHRASE]]


@pytest.fixture(scope="module")
def recordings():
    return [record_pass(ids, SMALL.params(), SMALL.hparams.n_head) for ids in texts()]


@pytest.fixture(scope="module")
def found() -> Reading:
    return search(texts(), SMALL.params(), SMALL.hparams.n_head)


def probability(logits, token) -> float:
    return float(np.exp(log_softmax(logits)[token]))


def with_head(recording, layer, head, keys):
    """``recording`` with a head whose token at each position attends to that of ``keys``."""
    pattern = recording.patterns[layer].copy()
    pattern[head] = np.eye(recording.n_tokens, dtype=np.float32)[keys]
    patterns = list(recording.patterns)
    patterns[layer] = pattern
    return replace(recording, patterns=tuple(patterns))


def test_the_head_that_looks_back_does_so_for_more_tokens_than_any_other(found, recordings):
    rows = [(r, position) for r in recordings for position in range(2, r.n_tokens)]
    n_most = {}
    for layer in range(SMALL.hparams.n_layer):
        for head in range(SMALL.hparams.n_head):
            weights = [(r.patterns[layer][head, position], position) for r, position in rows]
            n_most[layer, head] = sum(bool(w[p - 1] == w.max()) for w, p in weights)
    one = found.previous
    assert n_most[one.layer, one.head] == one.habit.n_most == max(n_most.values())
    assert one.habit.n == len(rows)
    weights = [r.patterns[one.layer][one.head, position, position - 1] for r, position in rows]
    assert one.habit.mean == pytest.approx(np.mean(weights))
    even = [1 / (position + 1) for _, position in rows]
    assert one.habit.even == pytest.approx(np.mean(even))
    own = recordings[one.text].patterns[one.layer][one.head, one.position]
    assert one.row == tuple(own[: one.position + 1].tolist())


def test_a_head_that_always_looks_back_is_found_and_one_that_never_does_is_not(recordings):
    def all_with(keys_of):
        return [with_head(r, 2, 1, keys_of(np.arange(r.n_tokens))) for r in recordings]

    back = previous_head(all_with(lambda places: np.maximum(places - 1, 0)))
    assert back.found and (back.layer, back.head) == (2, 1)
    assert back.habit.n_most == back.habit.n and back.habit.mean == 1
    quiet = recordings
    for layer in range(SMALL.hparams.n_layer):
        for head in range(SMALL.hparams.n_head):
            quiet = [with_head(r, layer, head, np.arange(r.n_tokens)) for r in quiet]
    nothing = previous_head(quiet)
    assert not nothing.found and nothing.habit.n_most == 0


def test_the_copying_head_looks_at_what_followed_the_first_time(found, recordings):
    one, recording = found.copying, recordings[-1]
    assert (one.position, one.followed, one.token, one.habit.n) == (10, 5, 7, 5)
    weights = recording.patterns[one.layer][one.head]
    mean = np.mean([weights[6 + i, i + 1] for i in range(5)])
    assert one.habit.mean == pytest.approx(mean)
    assert one.habit.even == pytest.approx(np.mean([1 / (7 + i) for i in range(5)]))
    assert one.row == tuple(weights[10, :11].tolist())
    following = [*PHRASE[1:], 7]
    for start, mean in ((0, one.first), (6, one.second)):
        each = [probability(recording.logits(start + i), id) for i, id in enumerate(following)]
        assert mean == pytest.approx(np.mean(each), rel=1e-4)


def test_a_head_that_looks_there_is_no_copying_head_where_the_model_does_not_copy(recordings):
    keys = [0, 1, 2, 3, 4, 5, *range(1, 6)]
    one = copying_head(with_head(recordings[-1], 1, 2, keys))
    assert (one.layer, one.head, one.habit.n_most) == (1, 2, 5)
    assert one.habit.is_usual and not one.copies and not one.found
    assert replace(one, second=one.first + 0.2).found


def test_an_answer_settles_where_the_lens_says_it_from_there_on(found, recordings):
    one = found.settling
    logits = lens(recordings[one.text], one.position)
    best = logits.argmax(axis=-1).tolist()
    assert one.path == tuple(best) and one.token == best[-1]
    assert set(best[one.n_layers :]) == {one.token}
    assert one.n_layers == 0 or best[one.n_layers - 1] != one.token
    assert one.there == pytest.approx(probability(logits[one.n_layers], one.token))
    assert one.end == pytest.approx(probability(logits[-1], one.token))
    assert one.first_rank == 1 + (logits[0] > logits[0][one.token]).sum()
    assert one.n_tried == 3 * len(TEXTS)
    assert one.found == (1 <= one.n_layers <= 2)  # of three layers


@pytest.mark.parametrize(
    ("ids", "state"), [([1, 2, 3], 2), ([3, 1, 3, 3], 2), ([5, 5, 5], 0), ([1, 5, 5], 1)]
)
def test_the_settled_state_is_the_first_of_the_last_run(ids, state):
    assert settled(np.array(ids)) == state


def test_no_other_removal_changes_more(recordings, monkeypatch):
    monkeypatch.setattr(reading, "MAX_REMOVED", 1000)
    one = search(texts(), SMALL.params(), SMALL.hparams.n_head).removal
    every = []
    for recording in recordings:
        last = recording.n_tokens - 1
        for layer in range(recording.n_layer):
            for head in range(recording.n_head):
                off = ablate(recording, last, [Component(layer, "attn", head)])
                token = int(off.before.argmax())
                fall = probability(off.before, token) - probability(off.after, token)
                every.append((bool(off.after.argmax() != token), fall))
    assert one.n_tried == len(every)
    assert (one.found, one.before - one.after) == pytest.approx(max(every))
    off = ablate(recordings[one.text], one.position, [Component(one.layer, "attn", one.head)])
    assert (one.token, one.instead) == (off.before.argmax(), off.after.argmax())


def test_fewer_heads_of_a_large_model_are_removed(monkeypatch):
    monkeypatch.setattr(reading, "MAX_WEIGHTS", 3 * reading.n_weights(SMALL.params()))
    assert search(texts(), SMALL.params(), SMALL.hparams.n_head).removal.n_tried == 3


def test_each_pass_takes_its_own_turn():
    turns = []

    def in_turn(compute):
        turns.append(compute)
        return compute()

    search(texts(), SMALL.params(), SMALL.hparams.n_head, in_turn)
    assert len(turns) == 2 * len(TEXTS) + 40  # a recording and a lens each, and the removals


def test_a_reading_is_the_same_after_json(found):
    assert Reading.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_context_that_is_too_short_is_refused_with_both_numbers():
    short = SMALL.params()
    short["wpe"] = short["wpe"][:10]
    with pytest.raises(InputError, match="needs a context of 11 tokens; this model's holds 10"):
        search(texts(), short, SMALL.hparams.n_head)
