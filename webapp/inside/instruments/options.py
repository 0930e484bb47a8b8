"""Fields of an address that only one instrument has.

A field at its default is left out of the view's options, so that an address says only what
was chosen.
"""

from collections.abc import Mapping
from dataclasses import replace

from gpt2core.errors import InputError
from webapp.inside.view import View

Options = dict[str, str]


def choice(values: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """The field ``name``, by default the first of ``allowed``. Raises InputError."""
    value = values.get(name) or allowed[0]
    if value not in allowed:
        raise InputError(
            f"The field {name} is {value[:40]!r}; it must be one of {', '.join(allowed)}.", name
        )
    return value


def with_options(view: View, options: Mapping[str, str | None]) -> View:
    """``view`` with the options that are not None."""
    given = {name: value for name, value in options.items() if value is not None}
    return replace(view, options=given)
