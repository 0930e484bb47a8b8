"""Numbers as the page spells them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.formatting import bar_level, percent, plural, shortest_repr, thousands


@pytest.mark.parametrize(
    ("probability", "spelled"),
    [
        (1, "100%"), (0.4213, "42%"), (0.4267, "43%"), (0.0995, "10%"), (0.099, "9.9%"),
        (0.0126, "1.3%"), (0.0005, "0.1%"), (0.0004, "<0.1%"), (0, "<0.1%"),
    ],
)  # fmt: skip
def test_probabilities_are_rounded_to_what_can_be_read(probability, spelled):
    assert percent(probability) == spelled


@pytest.mark.parametrize(
    ("probability", "level"),
    [(0, 0), (0.04, 0), (0.06, 1), (0.14, 1), (0.26, 3), (0.94, 9), (0.96, 10), (1, 10)],
)
def test_the_bar_under_a_chip_is_the_nearest_tenth(probability, level):
    assert bar_level(probability) == level


@given(st.floats(0, 1))
def test_every_probability_has_a_bar(probability):
    assert abs(bar_level(probability) - 10 * probability) <= 0.5


@given(st.floats(0, 5))
def test_a_number_of_a_permalink_reads_back_as_it_was(number):
    assert float(shortest_repr(number)) == number


def test_shortest_spellings():
    assert [shortest_repr(n) for n in (1.0, 0.8, 0.8333333333)] == ["1", "0.8", "0.8333333333"]


def test_large_numbers_have_separators():
    assert [thousands(n) for n in (0, 999, 50_257, 1_557_611_200)] == [
        "0", "999", "50,257", "1,557,611,200",
    ]  # fmt: skip


def test_one_is_singular_and_any_other_number_plural():
    assert [plural("token", n) for n in (0, 1, 2, 1_001)] == ["tokens", "token", "tokens", "tokens"]
