"""What tests of the inside views share: their addresses, texts, and numbers read back."""

import pytest

from tests.helpers.web import ROBOT

PATHS = ["/inside", *(f"/inside/{number}" for number in range(1, 19))]
STORY = "Once upon a time, there was a little girl who had a red ball. " * 30
ODD = f"naïve {ROBOT}\x00 <|endoftext|>\r\n  日本 x"  # bytes, brackets, what nobody sees


def number(text: str) -> float:
    """A number as a page spells it."""
    return float(text.strip().replace("−", "-"))


def close(shown: str, value: float) -> bool:
    """Whether ``shown`` is ``value`` to the digits that are shown."""
    return number(shown) == pytest.approx(float(value), rel=6e-4, abs=6e-5)
