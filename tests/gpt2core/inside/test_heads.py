"""What heads add is what the projection makes of them; what they look at is counted right."""

import numpy as np
import pytest

from gpt2core.inside.attribution import logit_direction
from gpt2core.inside.heads import (
    HABITS,
    explain_weight,
    habit_weights,
    habits,
    head_habits,
    head_lengths,
    head_outputs,
    head_shares,
    moved,
)
from gpt2core.inside.recording import record_pass, replay_block
from tests.gpt2core.inside.conftest import N_TOKENS
from tests.helpers.small_models import SMALL_MODELS


def projection(recording, layer):
    return recording.params["blocks"][layer]["attn"]["c_proj"]


# What heads add


def test_outputs_of_heads_and_the_bias_add_up_to_the_attentions_output(recording):
    for layer in range(recording.n_layer):
        c_proj = projection(recording, layer)
        outputs = head_outputs(recording.heads[layer], c_proj)
        assert outputs.shape == (recording.n_head, N_TOKENS, c_proj["w"].shape[1])
        whole = replay_block(recording, layer).array("mha.return")
        np.testing.assert_allclose(outputs.sum(axis=0) + c_proj["b"], whole, atol=1e-4)


def test_outputs_of_heads_equal_those_of_transformer_lens(recording, golden):
    layer = recording.n_layer - 1
    outputs = head_outputs(recording.heads[layer], projection(recording, layer))
    np.testing.assert_allclose(outputs.swapaxes(0, 1), golden["result"], atol=1e-4)


def test_what_keys_move_is_weight_times_length_of_the_projected_value(recording):
    layer = recording.n_layer - 1
    c_proj, v = projection(recording, layer), replay_block(recording, layer).array("mha.v")
    pattern, d_head = recording.patterns[layer], v.shape[-1]
    found = moved(pattern, v, c_proj)
    assert found.shape == pattern.shape
    for head in range(recording.n_head):
        rows = c_proj["w"][head * d_head : (head + 1) * d_head]
        for query, key in [(0, 0), (5, 2), (9, 9), (3, 7)]:
            added = pattern[head, query, key] * v[head, key] @ rows
            assert found[head, query, key] == pytest.approx(np.linalg.norm(added), abs=1e-5)


def test_lengths_and_shares_of_all_heads_are_those_of_each(recording):
    lengths = head_lengths(recording, 5)
    shares = head_shares(recording, 5, logit_direction(recording, 5, 7))
    assert lengths.shape == shares.shape == (recording.n_layer, recording.n_head)
    for layer, heads in enumerate(recording.heads):
        outputs = head_outputs(heads, projection(recording, layer))[:, 5]
        np.testing.assert_allclose(lengths[layer], np.linalg.norm(outputs, axis=-1), rtol=1e-4)


# What heads look at


def by_definition(pattern, ids, head, t):
    """Weights on the first token, the query, the one before, those after earlier copies."""
    if t == 0:
        return [np.nan] * 4
    row = pattern[head, t]
    copies = [row[s + 1] for s in range(t) if ids[s] == ids[t]]
    return [row[0], row[t], row[t - 1], sum(copies) if copies else np.nan]


def test_habits_are_told_by_their_definition():
    small = SMALL_MODELS["released_spreads"]
    ids = (1, 2, 3, 1, 2, 5, 1, 1)
    recording = record_pass(ids, small.params(), small.hparams.n_head)
    pattern = recording.patterns[1]
    weights = habit_weights(pattern, ids)
    expected = np.array([[by_definition(pattern, ids, h, t) for t in range(8)] for h in range(4)])
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(habits(pattern, ids), np.nanmean(expected, axis=1), atol=1e-6)
    assert HABITS == ("first", "itself", "previous", "copies")
    of_all = head_habits(recording, 6)
    assert of_all.shape == (3, 4, 4)
    np.testing.assert_array_equal(of_all[1], weights[:, 6])


def test_a_head_that_copies_is_seen():
    """All weight of the second 1 and 2 on what followed them the first time."""
    ids = (1, 2, 3, 1, 2)
    pattern = np.eye(5, dtype=np.float32)[None]
    pattern[0, 3] = [0, 1, 0, 0, 0]
    pattern[0, 4] = [0, 0, 1, 0, 0]
    assert habits(pattern, ids)[0, HABITS.index("copies")] == 1


def test_a_habit_that_the_text_cannot_show_is_no_number():
    pattern = np.tril(np.full((1, 3, 3), 0.5, np.float32))
    found = habits(pattern, (1, 2, 3))
    assert np.isnan(found[0]).tolist() == [False, False, False, True]
    assert np.isnan(habits(np.ones((1, 1, 1), np.float32), (1,))).all()


# One weight


@pytest.mark.parametrize(("query", "key"), [(0, 0), (5, 2), (9, 9), (3, 7)])
def test_one_weight_is_explained_from_its_products_on(recording, query, key):
    layer, head = recording.n_layer - 1, recording.n_head - 1
    found = explain_weight(replay_block(recording, layer), head, query, key)
    score = found.products.sum(dtype=np.float64) / found.root + found.mask
    assert found.score == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert found.mask == (-1e10 if key > query else 0)
    assert found.weight == pytest.approx(found.power / found.sum_of_powers, abs=1e-7)
    assert found.weight == recording.patterns[layer][head, query, key]
