"""Numbers on the inside views read back as the array's, to the digits that are shown."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.inside.numbers import fixed, fixed_signed, number, shape, signed


def read(text: str) -> float:
    return float(text.replace("−", "-"))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_to_four_digits(value):
    assert read(number(value)) == pytest.approx(value, rel=6e-4)
    assert read(signed(value)) == pytest.approx(value, rel=6e-4)


@given(st.floats(-1e6, 1e6))
def test_a_fixed_number_reads_back_to_three_places(value):
    assert read(fixed(value)) == pytest.approx(value, abs=5.1e-4)
    assert read(fixed_signed(value)) == pytest.approx(value, abs=5.1e-4)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-1e10, "−1.000e10"),
        (340, "340"),
        (-2.5, "−2.500"),
        (1e-9, "1.000e−9"),
    ],
)
def test_numbers_are_spelled_as_people_do(value, shown):
    assert number(value) == shown


def test_a_sign_says_no_more_than_the_digits():
    assert fixed(-0.0001) == "0.000" and fixed_signed(-0.0001) == "0.000"
    assert fixed_signed(0.2) == "+0.200" and signed(2.0) == "+2.000" and signed(0.0) == "0"


def test_what_is_no_number_is_said():
    assert number(math.inf) == "inf" and number(-math.inf) == "−inf" and number(math.nan) == "nan"


def test_a_shape_is_a_list_of_dimensions():
    assert shape((12, 64, 64)) == "[12, 64, 64]"
