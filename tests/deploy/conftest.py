"""The browser of tests/browser, for what the page shows on a cluster."""

import re

import pytest

from tests.browser.conftest import chromium, visit  # noqa: F401


@pytest.fixture
def complaints():
    """What the console says when a stream is cut."""
    return [re.compile("Failed to load resource"), re.compile("^htmx: htmx:(sse:)?error")]
