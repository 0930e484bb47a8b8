"""Events to bytes: whatever a message holds, a client reads back one message."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.web import messages
from webapp import sse


def read_back(data: bytes) -> list[str]:
    return messages(data.decode().split("\n")[:-1])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_one_message_is_one_event_whatever_it_holds(text):
    assert read_back(sse.message(text)) == [re.sub("\r\n?", "\n", text)]


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "a\n\nb", "\n", "", " lead", "data: x\n\n:"])
def test_no_line_end_breaks_an_event(text):
    sent = sse.message(text) + sse.message("next")
    assert b"\r" not in sent
    assert len(read_back(sent)) == 2


def test_other_line_separators_are_unchanged():
    text = "a\x0b\x0c\x85\u2028\u2029b\0"
    assert read_back(sse.message(text)) == [text]


def test_a_heartbeat_is_no_message():
    assert read_back(sse.message("a") + sse.HEARTBEAT + sse.message("b")) == ["a", "b"]


def test_neither_proxies_nor_caches_hold_a_stream_back():
    assert sse.HEADERS["X-Accel-Buffering"] == "no"
    assert "no-cache" in sse.HEADERS["Cache-Control"]
