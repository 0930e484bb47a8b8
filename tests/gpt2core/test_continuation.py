"""A continuation as it grows: decoded across tokens, spanned, timed, and as JSON."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core import continuation as continuation_module
from gpt2core.continuation import Continuation, text_tokens, tokens_to_json
from gpt2core.engine.sequence import ENDOFTEXT_ID, GeneratedToken
from gpt2core.tokenizer.folder import encoder_from_directory
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.tokenizer_folders import FOLDERS
from tests.helpers.web import HEROES, HEROES_IDS, ROBOT

ENCODER = default_encoder()
ROBOT_IDS = ENCODER.encode(ROBOT)  # three tokens, of two, one and one byte
# Ids of single bytes that cannot stand alone in UTF-8, among ids that can.
IDS = st.lists(
    st.one_of(st.integers(0, 255), st.integers(0, 50_255), st.sampled_from(ROBOT_IDS)), max_size=30
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def generated(id: int, reason: str | None = None) -> GeneratedToken:
    return GeneratedToken(id, math.log(0.25), (), reason)


def continued(ids, prompt="Hi", prefix=(), reason: str | None = "length") -> Continuation:
    """A run that generated ``ids`` after ``prompt`` and ``prefix``."""
    continuation = Continuation(ENCODER, prompt, ENCODER.encode(prompt), prefix)
    for at, id in enumerate(ids):
        continuation.add(generated(id, reason if at == len(ids) - 1 else None))
    return continuation


class TestDecoding:
    def test_a_character_of_several_tokens_appears_with_the_last_of_them(self):
        steps = continued([*ROBOT_IDS, 13], prompt="a").steps
        assert [step.text for step in steps] == ["", "", ROBOT, "."]
        assert [step.is_complete for step in steps] == [False, False, True, True]
        assert [step.first for step in steps] == [1, 1, 1, 4]

    def test_an_incomplete_character_is_no_text_yet(self):
        assert continued(ROBOT_IDS[:2], reason=None).text == ""

    @pytest.mark.parametrize("reason", ["length", "context"])
    def test_an_end_inside_a_character_gives_the_replacement_character(self, reason):
        continuation = continued(ROBOT_IDS[:2], reason=reason)
        assert continuation.text == "\ufffd"
        assert continuation.steps[-1].is_complete
        assert continuation.finish_reason == reason

    def test_endoftext_is_a_token_without_text(self):
        continuation = continued([477, ENDOFTEXT_ID], reason="endoftext")
        assert continuation.text == " all"
        last = continuation.steps[-1].token
        assert last.start == last.end == len("Hi all")
        assert last.text is None

    @given(IDS, st.sampled_from(["length", "context"]))
    def test_the_text_is_that_of_the_bytes_whatever_is_generated(self, ids, reason):
        continuation = continued(ids, reason=reason)
        data = b"".join(step.token.data for step in continuation.steps)
        assert data == b"".join(ENCODER.token_bytes(id) for id in ids)
        assert continuation.text == data.decode(errors="replace")
        assert [step.token.index for step in continuation.steps] == list(range(1, 1 + len(ids)))


class TestPrefix:
    def test_a_prefix_comes_first_and_is_no_text_of_this_run(self):
        continuation = continued([13], prefix=[477, 10281])
        assert [step.token.id for step in continuation.steps] == [477, 10281, 13]
        assert [step.token.id for step in continuation.generated] == [13]
        assert continuation.text == "."
        assert continuation.ids == [477, 10281, 13]
        assert continuation.n_tokens == 1 + 3
        assert [step.logprob is None for step in continuation.steps] == [True, True, False]

    def test_a_character_may_begin_in_the_prefix(self):
        continuation = continued(ROBOT_IDS[2:], prompt="a", prefix=ROBOT_IDS[:2])
        assert continuation.text == ROBOT
        assert continuation.steps[-1].first == 1

    @given(IDS, st.integers(0, 30))
    def test_a_run_cut_in_two_gives_the_same_tokens_and_text(self, ids, cut):
        whole, second = continued(ids), continued(ids[cut:], prefix=ids[:cut])
        if ids[cut:]:
            assert [step.token for step in second.steps] == [step.token for step in whole.steps]
            assert [step.text for step in second.steps] == [step.text for step in whole.steps]


class TestSpans:
    @given(TEXTS)
    def test_the_spans_of_a_prompt_cover_it(self, text):
        tokens = text_tokens(ENCODER, text, ENCODER.encode(text))
        assert b"".join(token.data for token in tokens) == text.encode()
        covered = {at for token in tokens for at in range(token.start, token.end)}
        assert covered == set(range(len(text)))
        for token in tokens:
            if token.text is not None:
                assert text[token.start : token.end] == token.text

    def test_tokens_of_one_character_have_its_span_and_no_text(self):
        tokens = continued(ROBOT_IDS, prompt="a").steps
        assert {(step.token.start, step.token.end) for step in tokens} == {(1, 2)}
        assert {step.token.text for step in tokens} == {None}

    @pytest.mark.parametrize(
        ("kind", "text", "spans"),
        [
            ("prefix_two", "Not all", [(0, 3), (3, 7)]),
            ("bos_config", "Not all", [(0, 0), (0, 1), (1, 3), (3, 7)]),
            ("strips", "all <mask> all", [(0, 3), (3, 10), (10, 14)]),
        ],
    )
    def test_tokens_that_are_not_the_text_have_the_characters_they_stand_for(
        self, kind, text, spans, tmp_path
    ):
        encoder = encoder_from_directory(FOLDERS[kind].write(tmp_path))
        tokens = text_tokens(encoder, text, encoder.encode(text, special_tokens=True))
        assert [(token.start, token.end) for token in tokens] == spans

    def test_spans_go_on_after_the_prompt(self):
        (step,) = continued([477]).steps
        assert (step.token.start, step.token.end, step.token.text) == (2, 6, " all")


class TestSpeed:
    @pytest.fixture
    def clock(self, monkeypatch):
        """Tokens arrive at these seconds."""
        seconds = []
        monkeypatch.setattr(continuation_module.time, "perf_counter", lambda: seconds.pop(0))
        return seconds

    def test_speed_counts_from_the_first_token(self, clock):
        clock += [5.0, 5.5, 7.0]
        assert continued([13, 13, 13]).tokens_per_second == 1.0

    def test_one_token_has_no_speed(self):
        assert continued([13]).tokens_per_second is None
        assert continued([13], prefix=[13]).tokens_per_second is None

    def test_a_clock_that_stands_still_gives_no_speed(self, clock):
        clock += [5.0, 5.0]
        assert continued([13, 13]).tokens_per_second is None


class TestJSON:
    def test_a_run_as_json(self):
        assert continued([477], prefix=[13]).to_json("demo", seed=5, weights="int8") == {
            "model": "demo",
            "prompt": "Hi",
            "prompt_tokens": 1,
            "text": " all",
            "tokens": [{"id": 477, "piece": "Ġall", "bytes": "20616c6c", "logprob": -1.386294}],
            "finish_reason": "length",
            "seed": 5,
            "weights": "int8",
            "tokens_per_second": None,
        }

    def test_a_tokenized_text_as_json(self):
        answer = tokens_to_json(text_tokens(ENCODER, HEROES, HEROES_IDS))
        assert answer["n_tokens"] == 7
        assert answer["tokens"][1] == {
            "id": 477, "piece": "Ġall", "bytes": "20616c6c", "start": 3, "end": 7,
        }  # fmt: skip
