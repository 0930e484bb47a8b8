"""Ablation and patching give TransformerLens' logits, by edited weights and by going on."""

from functools import partial

import numpy as np
import pytest

from gpt2core import model
from gpt2core.errors import InputError
from gpt2core.inside.interventions import (
    Component,
    ablate,
    carried,
    go_on,
    mean_outputs,
    parse_components,
    patch,
    patched_logits,
    without,
)
from gpt2core.inside.recording import early_logits, record_pass
from gpt2core.sampling import most_likely
from tests.gpt2core.inside.conftest import N_TOKENS
from tests.helpers.small_models import SMALL_MODELS

TOLERANCE = 1e-4
LAST = N_TOKENS - 1
NEURON, PATCHED_POSITION = 5, 4  # of tools/make_inside_goldens.py
PART = {"head": ("attn", -1), "neuron": ("mlp", NEURON), "attn": ("attn", None)}
PART["mlp"] = ("mlp", None)


def off(a, b) -> float:
    return float(np.abs(a - b).max())


def component(recording, name: str) -> Component:
    """A component of the middle layer; its head is the last one."""
    half, index = PART[name]
    return Component(recording.n_layer // 2, half, recording.n_head - 1 if index == -1 else index)


def all_parts(recording) -> list[Component]:
    return [
        Component(layer, half) for layer in range(recording.n_layer) for half in ("attn", "mlp")
    ]


def logits_of(recording, params) -> np.ndarray:
    """All logits of the recording's text by the readable model."""
    return model.gpt2(list(recording.ids), **params, n_head=recording.n_head)


def other_pass(small):
    return record_pass(small.ids()[-N_TOKENS:], small.params(), small.hparams.n_head)


# Ablation


@pytest.mark.parametrize(
    "key", ["zero_head", "mean_head", "zero_attn", "zero_mlp", "zero_neuron", "mean_neuron"]
)
def test_ablation_is_transformer_lens_ablation(recording, golden, key):
    to, name = key.split("_")
    found = ablate(recording, LAST, [component(recording, name)], to)
    assert off(found.before, recording.last_logits) <= TOLERANCE
    assert off(found.after, golden[key]) <= TOLERANCE
    assert off(found.after, found.before) > 0


@pytest.mark.parametrize("name", PART)
@pytest.mark.parametrize("to", ["zero", "mean"])
def test_going_on_from_the_first_edited_layer_is_the_whole_pass_with_edited_weights(
    recording, name, to
):
    parts = [component(recording, name)]
    means = mean_outputs(recording, parts) if to == "mean" else None
    params = without(recording.params, recording.n_head, parts, means)
    for position in (0, 4, LAST):
        found = ablate(recording, position, parts, to)
        assert off(found.after, logits_of(recording, params)[position]) <= TOLERANCE


@pytest.mark.parametrize("half", ["attn", "mlp"])
def test_the_mean_of_a_half_is_the_mean_of_what_it_added_at_each_token(recording, half):
    part = Component(0, half)
    added = without(recording.params, recording.n_head, [part], mean_outputs(recording, [part]))
    changed = record_pass(recording.ids, added, recording.n_head)
    before, after = changed.residual[0], changed.residual_mid[0]
    expected = recording.residual_mid[0] - recording.residual[0]
    if half == "mlp":
        before, after = changed.residual_mid[0], changed.residual[1]
        expected = recording.residual[1] - recording.residual_mid[0]
    assert off(after - before, expected.mean(axis=0)) <= TOLERANCE


def test_without_all_halves_the_embeddings_are_read(recording):
    params = without(recording.params, recording.n_head, all_parts(recording))
    expected = early_logits(recording.residual[0], params)
    assert off(logits_of(recording, params), expected) <= TOLERANCE


def test_without_all_heads_and_neurons_only_the_biases_are_added(recording, small):
    h = small.hparams
    parts = [
        Component(layer, half, i)
        for layer in range(h.n_layer)
        for half, n in (("attn", h.n_head), ("mlp", 4 * h.n_embd))
        for i in range(n)
    ]
    params = without(recording.params, recording.n_head, parts)
    biases = sum(
        block[half]["c_proj"]["b"] for block in params["blocks"] for half in ("attn", "mlp")
    )
    expected = early_logits(recording.residual[0] + biases, params)
    assert off(logits_of(recording, params), expected) <= TOLERANCE


def test_to_the_mean_of_one_token_nothing_moves(small):
    recording = record_pass(small.ids()[:1], small.params(), small.hparams.n_head)
    every = [component(recording, name) for name in ("head", "neuron")] + all_parts(recording)
    for part in every:
        found = ablate(recording, 0, [part], "mean")
        assert off(found.after, found.before) <= TOLERANCE


def test_without_a_part_nothing_changes_in_any_bit(recording):
    found = ablate(recording, LAST, [])
    assert found.n_changed == 0
    np.testing.assert_array_equal(found.before, found.after)


def test_a_head_that_adds_nothing_is_said_to_change_no_logit():
    small = SMALL_MODELS["released_spreads"]
    params = small.params()
    params["blocks"][1]["attn"]["c_proj"]["w"][:12] = 0  # head 0 of four, 12 channels each
    recording = record_pass(small.ids()[:N_TOKENS], params, small.hparams.n_head)
    assert ablate(recording, LAST, [Component(1, "attn", 0)]).n_changed == 0
    assert ablate(recording, LAST, [Component(1, "attn", 1)]).n_changed == small.hparams.n_vocab


def test_weights_and_recording_stay_as_they_were(recording, small):
    for to in ("zero", "mean"):
        ablate(recording, LAST, [*all_parts(recording), component(recording, "neuron")], to)
    fresh = small.params()
    for block, expected in zip(recording.params["blocks"], fresh["blocks"], strict=True):
        for half in ("attn", "mlp"):
            for name in ("w", "b"):
                c_proj = block[half]["c_proj"]
                np.testing.assert_array_equal(c_proj[name], expected[half]["c_proj"][name])
    again = record_pass(recording.ids, fresh, recording.n_head)
    for state, expected in zip(recording.residual, again.residual, strict=True):
        np.testing.assert_array_equal(state, expected)


def test_weights_stay_float32(recording):
    every = [component(recording, name) for name in PART]
    params = without(recording.params, recording.n_head, every, mean_outputs(recording, every))
    block = params["blocks"][recording.n_layer // 2]
    for half in ("attn", "mlp"):
        assert {a.dtype for a in block[half]["c_proj"].values()} == {np.dtype(np.float32)}
    assert ablate(recording, LAST, every, "mean").after.dtype == np.float32


def test_a_half_removed_beside_its_parts_is_removed_once(recording):
    half, head = component(recording, "attn"), component(recording, "head")
    for to in ("zero", "mean"):
        both, alone = ablate(recording, LAST, [half, head], to), ablate(recording, LAST, [half], to)
        np.testing.assert_array_equal(both.after, alone.after)


def test_tokens_are_compared_by_logit_probability_and_rank(recording):
    found = ablate(recording, LAST, [component(recording, "mlp")])
    ids = found.leaders(3)
    assert ids[:3] == most_likely(found.before, 3).tolist()
    assert set(most_likely(found.after, 3)) <= set(ids)
    for row in found.comparison(ids):
        for place, logits in ((row.before, found.before), (row.after, found.after)):
            exact = np.exp(logits.astype(np.float64))
            assert place.logit == logits[row.id]
            assert place.probability == pytest.approx(exact[row.id] / exact.sum(), rel=1e-4)
            assert place.rank == 1 + (logits > logits[row.id]).sum()
        assert row.change == row.after.logit - row.before.logit


# Names


@pytest.mark.parametrize("name", ["5.7", "0.attn", "11.mlp", "3.mlp.1203"])
def test_a_name_is_its_component_and_back(name):
    (found,) = parse_components(name, 12, 12, 3072)
    assert found.name == name


def test_names_are_ordered_and_each_counts_once():
    found = parse_components("2.mlp 1.3,, 0.mlp.7,1.3 2.mlp.5 \n1.attn ", 3, 4, 48)
    assert [one.name for one in found] == ["0.mlp.7", "1.attn", "2.mlp"]
    assert parse_components(" ", 3, 4, 48) == ()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("3.0", "layer 3; it must be from 0 to 2"),
        ("0.4", "head 4; it must be from 0 to 3"),
        ("0.mlp.48", "neuron 48; it must be from 0 to 47"),
        ("0.attn.1", "names no part"),
        ("head", "names no part"),
        ("-1.0", "names no part"),
        ("1.", "names no part"),
        ("9" * 50 + ".0", "names no part"),
        ("٣.0", "names no part"),
    ],
)
def test_what_the_model_does_not_have_is_refused_by_name(name, part):
    with pytest.raises(InputError, match=part) as raised:
        parse_components(f"0.1, {name}", 3, 4, 48)
    assert raised.value.field == "parts"


# Patching


def test_patching_is_transformer_lens_patching(recording, golden, small):
    layer = recording.n_layer // 2
    x = carried(recording, other_pass(small), layer, [PATCHED_POSITION])
    state = go_on(x, recording.params, recording.n_head, layer)
    assert off(early_logits(state, recording.params)[LAST], golden["patched"]) <= TOLERANCE


def test_some_patched_logits_are_those_of_patching(recording, small):
    source, ids = other_pass(small), [3, 0, small.hparams.n_vocab - 1]
    args = recording, source, recording.n_layer // 2, [PATCHED_POSITION], LAST
    assert off(patched_logits(*args, ids), patch(*args).after[ids]) <= TOLERANCE


def test_a_patched_state_changes_nothing_before_it_in_any_bit(recording, small):
    other, rest = (
        other_pass(small),
        partial(go_on, params=recording.params, n_head=recording.n_head),
    )
    for layer in range(recording.n_layer + 1):
        state = rest(carried(recording, other, layer, [5]), layer=layer)
        np.testing.assert_array_equal(state[:5], recording.residual[-1][:5])
        assert off(state[5], recording.residual[-1][5]) > 0


def test_a_state_patched_with_itself_changes_nothing_at_all(recording):
    for layer in range(recording.n_layer + 1):
        x = carried(recording, recording, layer, range(N_TOKENS))
        state = go_on(x, recording.params, recording.n_head, layer)
        np.testing.assert_array_equal(state, recording.residual[-1])


def test_all_states_of_a_layer_are_the_other_text(recording, small):
    other = other_pass(small)
    for layer in range(recording.n_layer + 1):
        x = carried(recording, other, layer, range(N_TOKENS))
        state = go_on(x, recording.params, recording.n_head, layer)
        np.testing.assert_array_equal(state, other.residual[-1])


def test_with_a_token_changed_all_states_before_it_are_bit_identical(recording, small):
    ids = list(recording.ids)
    ids[6] = (ids[6] + 1) % small.hparams.n_vocab
    changed = record_pass(ids, recording.params, recording.n_head)
    for one, other in zip(recording.residual, changed.residual, strict=True):
        np.testing.assert_array_equal(one[:6], other[:6])
    assert off(changed.residual[0][6], recording.residual[0][6]) > 0


@pytest.mark.parametrize("position", [-1, N_TOKENS])
def test_a_token_that_is_not_in_both_texts_is_refused(recording, position):
    with pytest.raises(InputError, match=f"Token {position + 1} is not in both texts"):
        carried(recording, recording, 0, [position])
