"""Addresses that carry a text: only as long as servers accept them."""

from typing import Any

from flask import url_for

MAX_LINK = 8_000  # characters of an address that servers (see gunicorn.conf.py) still accept


def short_link(endpoint: str, **values: Any) -> str | None:
    """The address of ``endpoint`` with these parameters; None if it is too long to be used."""
    link = url_for(endpoint, **values)
    return link if len(link) <= MAX_LINK else None
