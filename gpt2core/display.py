"""What a notebook shows as the page does, and a terminal as text.

The lowest module of the package that knows there is a page: :class:`Display` asks
``webapp.notebook`` for its HTML, and only when a notebook wants it. No other module of
``gpt2core`` imports ``webapp``.
"""

from collections.abc import Callable, Iterable
from typing import Any

from gpt2core.errors import GPT2Error

WIDTH = 79  # columns of a line of text


class Display:
    """Text, and the same as HTML. IPython calls ``_repr_html_``; everything else prints text.

    ``render`` gets the module ``webapp.notebook`` and returns HTML.
    """

    def __init__(self, text: str, render: Callable[[Any], str]):
        self._text, self._render = text, render

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        """Self-contained HTML. Raises GPT2Error if what the page needs is not installed."""
        return self._render(notebook_views())


def notebook_views() -> Any:
    """The module ``webapp.notebook``. Raises GPT2Error if it cannot be imported."""
    try:
        import webapp.notebook
    except ImportError as error:
        raise GPT2Error(
            f"A notebook shows this with the templates of the page, which need {error.name}: "
            "install the whole package (`pip install .`), or print() it as text."
        ) from error
    return webapp.notebook


def token_columns(tokens: Iterable[tuple[str, str]]) -> str:
    """Pairs of words over each other, as wide as the wider, in lines of ``WIDTH`` columns."""
    lines = [("", "")]
    for upper, lower in tokens:
        width = max(len(upper), len(lower))
        before = lines[-1]
        if before[0] and len(before[0]) + 2 + width > WIDTH:
            lines.append(("", ""))
            before = lines[-1]
        gap = "  " if before[0] else ""
        lines[-1] = (before[0] + gap + upper.ljust(width), before[1] + gap + lower.ljust(width))
    return "\n\n".join(f"{upper.rstrip()}\n{lower.rstrip()}" for upper, lower in lines)
