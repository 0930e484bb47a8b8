"""Two texts are shown in pairs of tokens, and the first that differ are marked."""

import pytest

from gpt2core.engine.events import Failed, Generation, Queued, Unavailable
from gpt2core.engine.sequence import GeneratedToken
from gpt2core.sampling import SamplingParams
from tests.helpers.web import ROBOT
from webapp.forms import GenerationRequest
from webapp.inside.instruments.texts import Side, Texts
from webapp.views import GenerationView

GREEDY = SamplingParams()
WAITING = Queued(1)


@pytest.fixture
def texts(encoder):
    """``texts(whole, without)``: two generations of these ids and events, not read yet."""

    def side(events):
        handle = Generation([11], len(events), GREEDY)
        for i, event in enumerate(events):
            if isinstance(event, int):
                last = "length" if i == len(events) - 1 else None
                event = GeneratedToken(event, -1.0, (), last)
            handle.put(event)
        request = GenerationRequest("", [], [11], len(events), GREEDY)
        return Side(handle, GenerationView(request, encoder, 1024))

    return lambda *sides: Texts([side(events) for events in sides])


def shown(texts) -> list[list[tuple[str, str]]]:
    """(text, place) of every token, side by side."""
    list(texts.run())
    return [[(bit.text, bit.place) for bit in texts.of(side)] for side in ("whole", "without")]


def test_the_first_difference_is_marked_in_both(texts, encoder):
    one, other = encoder.encode("a cat sat"), encoder.encode("a dog sat")
    both = texts(one, other)
    assert both.sentence == ""
    assert shown(both) == [
        [("a", "same"), (" cat", "first"), (" sat", "later")],
        [("a", "same"), (" dog", "first"), (" sat", "later")],
    ]
    assert both.sentence == (
        "The texts part at token 2: “Ġcat” by the whole model, “Ġdog” without."
    )


def test_texts_of_the_same_tokens_are_said_to_be_the_same(texts, encoder):
    ids = encoder.encode("a cat sat")
    both = texts(ids, ids)
    assert {place for side in shown(both) for _, place in side} == {"same"}
    assert both.sentence == "Both texts are the same, token for token: all 3."


def test_a_text_that_ends_sooner_parts_where_it_ends(texts, encoder):
    ids = encoder.encode("a cat sat")
    both = texts(ids[:1], ids)
    assert shown(both) == [
        [("a", "same")],
        [("a", "same"), (" cat", "first"), (" sat", "later")],
    ]
    assert both.sentence.endswith("at token 2: the end by the whole model, “Ġcat” without.")


def test_a_difference_inside_a_character_marks_the_character(texts, encoder):
    robot = encoder.encode(ROBOT)
    both = texts([64, *robot, 64], [64, 64, 64, 64, 64])
    whole, without = shown(both)
    assert [bit for bit in whole if bit[0]] == [("a", "same"), (ROBOT, "first"), ("a", "later")]
    assert without[:2] == [("a", "same"), ("a", "first")]


def test_a_pair_is_shown_when_both_tokens_are_there(texts):
    both = texts([64, 64], [WAITING, 64, 65])
    assert [bits and [bit.text for bit in bits] for bits in both.run()] == [
        None,
        ["a", "a"],
        ["a", "b"],
    ]


def test_a_generation_that_fails_ends_both(texts):
    both = texts([64, 64], [64, Failed("The model stopped.")])
    with pytest.raises(Unavailable, match="The model stopped"):
        list(both.run())
    assert all(side.handle.cancelled for side in both.sides)


def test_leaving_between_two_tokens_cancels_both(texts):
    both = texts([64, 64], [64, 64])
    run = both.run()
    next(run)
    run.close()
    assert all(side.handle.cancelled for side in both.sides)
