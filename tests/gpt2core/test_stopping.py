"""A text ends before the first stop string, however it is cut into tokens."""

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core import stopping
from gpt2core.continuation import Continuation
from gpt2core.engine.sequence import ENDOFTEXT_ID, GeneratedToken
from gpt2core.errors import InputError
from gpt2core.stopping import MAX_STOP_CHARS, StopMatcher, check_stops
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.web import ROBOT

ENCODER = default_encoder()
LETTERS = st.text("ab\n", max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=4)


def cut(text: str, places) -> list[str]:
    """``text`` in pieces that end at ``places``."""
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def before_stop(text: str, stops) -> tuple[str, bool]:
    """The definition: the first character at which some stop string is complete ends the text."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(LETTERS, STOPS, st.lists(st.integers(0, 12)))
def test_a_text_ends_before_the_first_complete_stop_string_however_it_is_cut(text, stops, places):
    matcher = StopMatcher(stops)
    passed = "".join(matcher.feed(piece) for piece in cut(text, places))
    if not matcher.stopped:
        passed += matcher.flush()
    assert (passed, matcher.stopped) == before_stop(text, stops)


@given(LETTERS, STOPS)
def test_text_is_held_back_only_while_a_stop_string_may_begin_in_it(text, stops):
    matcher, passed = StopMatcher(stops), ""
    for end in range(1, len(text) + 1):
        passed += matcher.feed(text[end - 1])
        if matcher.stopped:
            return
        held = text[len(passed) : end]
        assert not held or any(stop.startswith(held) for stop in stops)


def test_the_example_in_the_source_is_true():
    assert doctest.testmod(stopping).failed == 0


def continued(ids, stop, prefix=(), reason="length") -> tuple[Continuation, list[str]]:
    """A run that generated ``ids`` as long as it goes on, and the text that each token adds."""
    continuation = Continuation(ENCODER, "Hi", ENCODER.encode("Hi"), prefix, stop)
    texts = []
    for at, id in enumerate(ids):
        last = reason if at == len(ids) - 1 else None
        steps = continuation.add(GeneratedToken(id, math.log(0.25), (), last))
        texts.append("".join(step.text for step in steps))
        if continuation.finish_reason:
            break
    return continuation, texts


def test_tokens_are_held_back_while_they_may_belong_to_a_stop_string():
    ids = ENCODER.encode(" one\n\n two")
    _, texts = continued(ids, ["\n\n\n"])
    assert texts == [" one", "", "\n\n two"] or texts == [" one", "", "", "\n\n two"]


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        (" all heroes wear capes. And", ["."], " all heroes wear capes"),
        (" all heroes wear capes. And", [" And", ". "], " all heroes wear capes"),
        (" all heroes", ["roes"], " all he"),  # inside a token
        (" all heroes", [" all"], ""),
        (f"a{ROBOT}b", [ROBOT], "a"),
        (" all heroes", ["Heroes"], " all heroes"),
    ],
)
def test_the_stop_string_is_no_part_of_the_text(text, stop, left):
    continuation, texts = continued(ENCODER.encode(text), stop)
    assert continuation.text == "".join(texts) == left
    assert continuation.finish_reason == ("length" if left == text else "stop")
    # Every token that is reported begins before the stop string.
    assert all(step.token.start < 2 + len(left) for step in continuation.steps)
    if continuation.steps:
        assert continuation.steps[-1].token.end == 2 + len(left)


def test_a_stop_string_in_the_prompt_or_in_kept_tokens_does_not_count():
    continuation, _ = continued(
        ENCODER.encode(" is"), ["Hi", " all"], prefix=ENCODER.encode(" all")
    )
    assert (continuation.text, continuation.finish_reason) == (" is", "length")


def test_a_character_that_began_in_a_kept_token_is_searched_whole():
    first, *rest = ENCODER.encode(ROBOT)
    continuation, _ = continued([*rest, 13, 13], ["."], prefix=[first])
    assert (continuation.text, continuation.finish_reason) == (ROBOT, "stop")


def test_what_is_held_back_at_the_end_is_text():
    continuation, texts = continued(ENCODER.encode(" one\n"), ["\n\n"])
    assert (continuation.text, continuation.finish_reason) == (" one\n", "length")
    assert texts[-1] == "\n"


def test_an_end_token_is_no_text_to_search():
    ids = [*ENCODER.encode(" one\n"), ENDOFTEXT_ID]
    continuation, _ = continued(ids, ["\n<"], reason="endoftext")
    assert (continuation.text, continuation.finish_reason) == (" one\n", "endoftext")
    assert continuation.ids == ids


@given(st.lists(st.integers(0, 50_255), max_size=12), st.data())
def test_the_text_of_a_run_is_that_without_stop_strings_cut_short(ids, data):
    whole = continued(ids, [])[0].text
    start = data.draw(st.integers(0, max(0, len(whole) - 1)))
    stop = whole[start : start + data.draw(st.integers(1, 5))] or "none"
    continuation, texts = continued(ids, [stop])
    assert (continuation.text, continuation.finish_reason == "stop") == before_stop(whole, [stop])
    assert "".join(texts) == continuation.text


@pytest.mark.parametrize("stops", [["a"] * 5, [""], ["a", ""], ["a" * (MAX_STOP_CHARS + 1)]])
def test_invalid_stop_strings_are_refused(stops):
    with pytest.raises(InputError) as found:
        check_stops(stops)
    assert found.value.field == "stop"
