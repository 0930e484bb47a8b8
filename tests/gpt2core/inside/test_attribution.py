"""Direct logit attribution adds up at every level, and is TransformerLens'."""

import numpy as np
import pytest

from gpt2core.inside.attribution import (
    Split,
    attribution,
    by_head,
    by_neuron,
    by_source,
    logit_direction,
)
from gpt2core.inside.heads import head_shares
from gpt2core.inside.recording import replay_block
from tests.gpt2core.inside.conftest import N_TOKENS

TOLERANCE = 1e-4
LAST = N_TOKENS - 1
POSITIONS = [0, 5, LAST]


def part_names(n_layer: int) -> list[str]:
    blocks = [f"{layer}.{part}" for layer in range(n_layer) for part in ("attn", "mlp")]
    return ["wte", "wpe", *blocks, "bias"]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("token", [0, 7, 30])
def test_parts_add_up_to_the_logit(recording, position, token):
    found = attribution(recording, position, token)
    assert [part.name for part in found.parts] == part_names(recording.n_layer)
    assert found.logit == recording.logits(position)[token]
    assert found.total == pytest.approx(found.logit, abs=TOLERANCE)


@pytest.mark.parametrize("position", POSITIONS)
def test_against_another_token_it_is_the_difference_of_the_two(recording, position):
    difference = attribution(recording, position, 7, against=3)
    of_7, of_3 = attribution(recording, position, 7), attribution(recording, position, 3)
    assert (difference.token, difference.against) == (7, 3)
    assert difference.logit == pytest.approx(of_7.logit - of_3.logit, abs=1e-6)
    for part in difference.parts:
        expected = of_7.value(part.name) - of_3.value(part.name)
        assert part.value == pytest.approx(expected, abs=1e-6)


def test_against_itself_it_is_nothing(recording):
    found = attribution(recording, LAST, 7, against=7)
    assert found.logit == 0 and {part.value for part in found.parts} == {0}


def test_it_is_transformer_lens_attribution_of_the_two_likeliest(recording, golden):
    found = attribution(recording, LAST, int(golden["token"]), int(golden["against"]))
    theirs = {"embed": "wte", "pos_embed": "wpe"}
    for layer in range(recording.n_layer):
        theirs |= {f"{layer}_{part}_out": f"{layer}.{part}" for part in ("attn", "mlp")}
    assert set(golden["components"]) == set(theirs)
    for name, share in zip(golden["components"], golden["shares"], strict=True):
        assert found.value(theirs[str(name)]) == pytest.approx(float(share), abs=TOLERANCE)


def test_heads_have_transformer_lens_shares(recording, golden):
    direction = logit_direction(recording, LAST, int(golden["token"]), int(golden["against"]))
    found = head_shares(recording, LAST, direction)
    np.testing.assert_allclose(found, golden["head_shares"], atol=TOLERANCE)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("against", [None, 3])
def test_each_level_adds_up_to_the_line_above(recording, position, against):
    found = attribution(recording, position, 7, against)
    direction = logit_direction(recording, position, 7, against)
    for layer in range(recording.n_layer):
        heads = by_head(recording, layer, position, direction)
        assert heads.total == pytest.approx(found.value(f"{layer}.attn"), abs=TOLERANCE)
        block = replay_block(recording, layer)
        neurons = by_neuron(recording, block, position, direction)
        assert neurons.total == pytest.approx(found.value(f"{layer}.mlp"), abs=TOLERANCE)
        for head, share in enumerate(heads.values):
            sources = by_source(recording, block, head, position, direction)
            assert sources.total == pytest.approx(share, abs=TOLERANCE)


def test_levels_have_a_value_for_each_head_source_and_neuron(recording, small):
    direction, block = logit_direction(recording, 5, 7), replay_block(recording, 0)
    assert by_head(recording, 0, 5, direction).values.shape == (small.hparams.n_head,)
    assert by_source(recording, block, 0, 5, direction).values.shape == (6,)
    assert by_neuron(recording, block, 5, direction).values.shape == (4 * small.hparams.n_embd,)


def test_a_neurons_share_is_its_activation_times_what_its_row_adds(recording, small):
    """By the definition, with the final norm in full and a step taken along one neuron."""
    layer, position, token, i = recording.n_layer - 1, 4, 7, 2
    block, params = replay_block(recording, layer), recording.params
    row = params["blocks"][layer]["mlp"]["c_proj"]["w"][i].astype(np.float64)
    written = block.array("ffn.a")[position, i] * row  # [n_embd]
    x = recording.residual[-1][position].astype(np.float64)
    normed = (written - written.mean()) / np.sqrt(x.var() + 1e-5) * params["ln_f"]["g"]
    expected = float(normed @ params["wte"][token])
    found = by_neuron(recording, block, position, logit_direction(recording, position, token))
    assert found.values[i] == pytest.approx(expected, abs=1e-5)


def test_the_divisor_is_that_of_this_run(recording):
    found = attribution(recording, 4, 7)
    assert found.divisor == recording.divisors[4]


def test_a_part_that_is_not_there_is_no_number(recording):
    with pytest.raises(KeyError):
        attribution(recording, 0, 0).value("99.attn")


def test_the_largest_of_a_split_and_all_others_add_up():
    split = Split(np.array([0.5, -3.0, 2.0, -0.25]), bias=1.0)
    largest = split.largest(2)
    assert largest == [1, 2]
    assert split.others(largest) == 0.25
    assert split.values[largest].sum() + split.others(largest) + split.bias == split.total
