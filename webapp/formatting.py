"""Numbers as the page spells them."""


def exact(number: float) -> str:
    """The shortest spelling that reads back as this very number: ``0.8``, ``1``."""
    return repr(number).removesuffix(".0")


def percent(probability: float) -> str:
    """``0.4213`` -> ``"42%"``; small ones keep one digit, tiny ones say less than."""
    share = 100 * probability
    if share >= 9.95:
        return f"{share:.0f}%"
    return f"{share:.1f}%" if share >= 0.05 else "<0.1%"
