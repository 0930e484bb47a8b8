"""How the page spells numbers: no other module makes a percentage or a bar level.

Templates use these functions as filters; scripts print what the server has spelled, so a
number never has two spellings.
"""


def shortest_repr(number: float) -> str:
    """The shortest spelling that reads back as this very number: ``0.8``, ``1``."""
    return repr(number).removesuffix(".0")


def percent(probability: float) -> str:
    """``0.4213`` -> ``"42%"``; below 10 % with one decimal, below 0.05 % as ``"<0.1%"``."""
    share = 100 * probability
    if share >= 9.95:
        return f"{share:.0f}%"
    return f"{share:.1f}%" if share >= 0.05 else "<0.1%"


def bar_level(probability: float) -> int:
    """The length of the bar under a chip, 0 to 10: the probability in tenths, rounded."""
    return round(10 * probability)


def thousands(number: int) -> str:
    """``50257`` -> ``"50,257"``."""
    return f"{number:,}"


def plural(noun: str, number: int) -> str:
    """The noun for so many: ``"token"`` for 1, ``"tokens"`` for any other number."""
    return noun if number == 1 else f"{noun}s"


def ordinal(number: int) -> str:
    """``23`` -> ``"23rd"``, ``1011`` -> ``"1,011th"``."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    is_teen = 10 < number % 100 < 14
    return f"{number:,}{'th' if is_teen else endings.get(number % 10, 'th')}"


def ratio(number: int, of: int) -> str:
    """``ratio(5, 4)`` -> ``"1.25"``: so many for each, with two decimals."""
    return f"{number / of:.2f}"
