"""The logit lens reads each layer with its own norm, and ends in the answer itself."""

import numpy as np
import pytest

from gpt2core import model
from gpt2core.inside.lens import half_steps, leaders, lens, lens_grid, ranks
from gpt2core.inside.recording import early_logits
from tests.gpt2core.inside.conftest import N_TOKENS


def by_definition(x, params) -> np.ndarray:
    """Logits of one state ``[n_embd]``, in float64 and without the model's functions."""
    x = x.astype(np.float64)
    normed = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    g, b = params["ln_f"]["g"], params["ln_f"]["b"]
    return params["wte"] @ (g * normed + b)


def test_the_last_state_read_by_the_lens_is_the_logits_to_the_last_bit(recording, small):
    logits = model.gpt2(recording.ids, **small.params(), n_head=small.hparams.n_head)
    np.testing.assert_array_equal(early_logits(recording.residual[-1], recording.params), logits)


@pytest.mark.parametrize("position", [0, 4, N_TOKENS - 1])
def test_the_last_row_is_the_answer(recording, position):
    read = lens(recording, position)
    assert read.shape == (recording.n_layer + 1, recording.n_vocab)
    np.testing.assert_array_equal(read[-1], recording.logits(position))


@pytest.mark.parametrize("position", [0, 4, N_TOKENS - 1])
def test_each_layer_is_read_with_its_own_mean_and_deviation(recording, position):
    read = lens(recording, position)
    for row, state in zip(read, recording.residual, strict=True):
        np.testing.assert_allclose(row, by_definition(state[position], recording.params), atol=1e-4)


def test_the_last_layers_scale_would_give_other_numbers(recording):
    """So the test above tells the two apart."""
    last, x = recording.residual[-1][4], recording.residual[0][4]
    normed = (x - x.mean()) / np.sqrt(last.var() + 1e-5)
    g, b = recording.params["ln_f"]["g"], recording.params["ln_f"]["b"]
    wrong = recording.params["wte"] @ (g * normed + b)
    assert np.abs(wrong - lens(recording, 4)[0]).max() > 1e-3


def test_half_steps_read_the_state_between_attention_and_mlp(recording):
    read = half_steps(recording, 3)
    assert read.shape == (recording.n_layer, recording.n_vocab)
    for row, middle in zip(read, recording.residual_mid, strict=True):
        np.testing.assert_allclose(row, by_definition(middle[3], recording.params), atol=1e-4)


def test_a_grid_has_the_likeliest_token_of_each_layer_and_its_probability(recording):
    positions = (2, 5, N_TOKENS - 1)
    grid = lens_grid(recording, positions)
    assert grid.positions == positions
    assert grid.ids.shape == grid.probabilities.shape == (recording.n_layer + 1, 3)
    for column, position in enumerate(positions):
        for layer, row in enumerate(lens(recording, position)):
            probabilities = model.softmax(row)
            assert grid.ids[layer, column] == probabilities.argmax()
            assert grid.probabilities[layer, column] == pytest.approx(probabilities.max(), abs=1e-5)


def test_ranks_count_from_the_likeliest_and_ties_go_by_id():
    logits = np.array([[1, 5, 3, 5, 0], [2, 2, 2, 2, 2]], np.float32)
    assert ranks(logits, [0, 1, 2, 3, 4]).tolist() == [[4, 1, 3, 2, 5], [1, 2, 3, 4, 5]]


def test_leaders_are_the_tokens_that_lead_any_row_the_answers_first():
    logits = np.array([[9, 0, 0], [0, 9, 0], [9, 0, 0], [0, 0, 9]], np.float32)
    assert leaders(logits, 10) == [2, 0, 1]
    assert leaders(logits, 2) == [2, 0]
