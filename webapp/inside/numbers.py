"""Numbers as text on the inside views, rounded so that they can be compared and added.

A minus is U+2212, as wide as a plus. A shown number is the array's, rounded; never more
digits than float32 holds.
"""

import math
from collections.abc import Sequence
from numbers import Integral

MINUS = "\u2212"


def number(value: float, digits: int = 4) -> str:
    """``digits`` significant digits, ``−0.5184``; of a whole number all of them."""
    if isinstance(value, Integral):
        return str(value).replace("-", MINUS)
    value = float(value)
    if not math.isfinite(value):
        return str(value).replace("-", MINUS)
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -4 <= size < 7:
        text = f"{value:.{max(digits - 1 - size, 0)}f}"
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 4) -> str:
    """The same with a sign before it: ``+2.614``."""
    text = number(value, digits)
    return text if text.startswith(MINUS) or value == 0 else f"+{text}"


def fixed(value: float, places: int = 3) -> str:
    """``places`` digits after the point: ``0.413``. No sign where all of them are 0."""
    text = f"{float(value):.{places}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)


def fixed_signed(value: float, places: int = 3) -> str:
    """The same with a sign before it: ``+0.413``, ``0.000``."""
    text = fixed(value, places)
    return text if text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def shape(dimensions: Sequence[int]) -> str:
    """``[12, 64, 64]``."""
    return f"[{', '.join(map(str, dimensions))}]"


# What templates print numbers with, each by its own name.
FILTERS = (number, signed, fixed, fixed_signed)
