"""Windows and steps: what is not drawn of long texts and deep models is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.inside.window import MAX_DRAWN, layer_step, layers_in_steps, window_for


@given(st.integers(1, 256), st.data())
def test_the_chosen_token_is_drawn_and_what_is_not_is_counted(n_tokens, data):
    position = data.draw(st.integers(0, n_tokens - 1))
    window = window_for(n_tokens, position)
    assert position in window.positions
    assert len(window.positions) == min(n_tokens, MAX_DRAWN)
    assert window.n_before + len(window.positions) + window.n_after == n_tokens


@pytest.mark.parametrize(("position", "start"), [(0, 0), (63, 0), (64, 1), (255, 192)])
def test_a_long_text_is_drawn_in_a_window_that_ends_at_the_chosen_token(position, start):
    assert window_for(256, position).start == start


def test_a_row_split_at_the_window_keeps_its_sum():
    row = np.linspace(0, 1, 100, dtype=np.float32)
    before, drawn = window_for(100, 99).split(row)
    assert len(drawn) == MAX_DRAWN
    assert before + drawn.sum() == pytest.approx(row.sum(), rel=1e-6)


@pytest.mark.parametrize(("n_tokens", "numbered"), [(24, True), (25, False)])
def test_numbers_fit_up_to_24_tokens(n_tokens, numbered):
    assert window_for(n_tokens, 0).is_numbered == numbered


@pytest.mark.parametrize(
    ("n_layer", "drawn"),
    [
        (1, [0]),
        (24, range(24)),
        (36, [*range(0, 36, 2), 35]),
        (48, [*range(0, 48, 2), 47]),
        (50, [*range(0, 50, 3), 49]),
    ],
)
def test_of_more_than_24_layers_one_in_so_many_is_drawn_with_first_and_last(n_layer, drawn):
    assert layers_in_steps(n_layer, layer_step(n_layer)) == tuple(drawn)


def test_chosen_layers_are_drawn_too():
    assert layers_in_steps(10, 4, 5, 8) == (0, 4, 5, 8, 9)
