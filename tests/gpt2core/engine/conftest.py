"""Fixtures of the tests of scheduler and observer."""

import threading

import pytest

from gpt2core.engine import scheduler
from tests.helpers.web import PATIENCE


@pytest.fixture
def gate(monkeypatch):
    """Tokens are sampled only while the gate is open; ``gate.set()`` opens it."""
    gate = threading.Event()

    class Gated(scheduler.Sequence):
        def draw_next(self, logits):
            assert gate.wait(PATIENCE)
            return super().draw_next(logits)

    monkeypatch.setattr(scheduler, "Sequence", Gated)
    yield gate
    gate.set()
