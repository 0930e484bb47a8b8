"""A text cut into tokens and a continuation as it grows, as templates print them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.engine.sequence import ENDOFTEXT_ID, GeneratedToken
from gpt2core.sampling import SamplingParams
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.web import JSON, ROBOT
from webapp.forms import GenerationRequest
from webapp.views import GenerationView, token_view

ENCODER = default_encoder()
ROBOT_IDS = ENCODER.encode(ROBOT)  # three tokens, of two, one and one byte
# Ids of single bytes that cannot stand alone in UTF-8, among ids that can.
IDS = st.lists(
    st.one_of(st.integers(0, 255), st.integers(0, 50_255), st.sampled_from(ROBOT_IDS)), max_size=30
)


def generated(id: int, reason: str | None = None) -> GeneratedToken:
    return GeneratedToken(id, math.log(0.25), (), reason)


def request_of(prompt="Hi", kept=(), n_tokens=1, **sampling) -> GenerationRequest:
    params = SamplingParams(**{"seed": 5, **sampling})
    return GenerationRequest(prompt, ENCODER.encode(prompt), list(kept), n_tokens, params)


def view_of(ids, prompt="Hi", kept=(), reason="length", n_ctx=1024) -> GenerationView:
    """A run that generated ``ids`` after ``prompt`` and ``kept``."""
    view = GenerationView(request_of(prompt, kept, len(ids) or 1), ENCODER, n_ctx)
    for at, id in enumerate(ids):
        view.add(generated(id, reason if at == len(ids) - 1 else None))
    return view


def ids_of(groups) -> list[list[int]]:
    return [[chip.token.id for chip in group.chips] for group in groups]


class TestTokenView:
    def view(self, text: str, max_chars: int = 100_000):
        return token_view(ENCODER, text, 1024, max_chars)

    def test_half_a_surrogate_pair_becomes_the_replacement_character(self):
        view = self.view("a\ud83eb")
        assert view.text == "a\ufffdb"
        assert b"".join(chip.token.data for chip in view.chips) == "a\ufffdb".encode()
        assert view.n_bytes == 5

    def test_half_a_surrogate_pair_in_json_is_accepted(self, client):
        body = '{"prompt": "a\\ud83e"}'
        answer = client.post(
            "/tokenize", data=body, content_type="application/json", headers=JSON
        ).json
        joined = bytes.fromhex("".join(t["bytes"] for t in answer["tokens"]))
        assert joined == "a\ufffd".encode()

    def test_more_chips_than_a_browser_can_hold_are_counted_but_not_shown(self):
        view = self.view(" a" * 3_000)
        assert view.n_tokens == len(view.chips) == 3_000
        assert len(view.shown) + view.n_hidden == 3_000
        assert 0 < view.n_hidden

    def test_a_text_over_the_limit_is_cut_into_tokens_in_part(self):
        view = self.view("abcde", max_chars=3)
        assert (view.text, view.n_left_out) == ("abc", 2)


class TestGenerationView:
    def test_a_character_in_parts_is_shown_at_once_and_grouped_when_complete(self):
        view = view_of([*ROBOT_IDS, 13], prompt="a")
        first, second, third, dot = view.steps
        assert [step.text for step in view.steps] == ["", "", ROBOT, "."]
        assert first.group is None and second.group is None
        assert [chip.token.id for chip in third.group.chips] == ROBOT_IDS
        assert third.group.text == ROBOT
        assert list(third.replaced) == [1, 2]
        assert (third.first, third.last) == (1, 3)
        assert list(dot.replaced) == [] and (dot.first, dot.last) == (4, 4)
        assert {(chip.token.start, chip.token.end) for chip in third.group.chips} == {(1, 2)}
        assert (dot.chip.token.start, dot.chip.token.end) == (2, 3)

    def test_the_chips_of_an_incomplete_character_stand_alone(self):
        view = view_of(ROBOT_IDS[:2], reason=None)
        assert ids_of(view.groups) == [[ROBOT_IDS[0]], [ROBOT_IDS[1]]]
        token = view.steps[-1].chip.token
        assert token.end == token.start + 1

    @pytest.mark.parametrize("reason", ["length", "context"])
    def test_an_end_inside_a_character_shows_the_replacement_character(self, reason):
        view = view_of(ROBOT_IDS[:2], reason=reason)
        (group,) = view.groups
        assert [chip.token.id for chip in group.chips] == ROBOT_IDS[:2]
        assert group.text == "\ufffd"
        assert view.finish_reason == reason

    def test_bytes_that_become_no_character_share_what_they_became(self):
        view = view_of([ROBOT_IDS[0], *ENCODER.encode("a")])
        assert [group.text for group in view.groups] == ["\ufffda"]

    def test_the_end_of_text_is_a_chip_without_text(self):
        view = view_of([477, ENDOFTEXT_ID], reason="endoftext")
        assert [step.text for step in view.steps] == [" all", ""]
        assert view.steps[-1].chip.description == "end of text"
        assert not view.can_continue
        assert view.finish_sentence == "the last of them, <|endoftext|>, ends the text"

    def test_a_run_that_goes_on_has_no_finish_sentence(self):
        view = view_of([13], reason=None)
        assert (view.finish_reason, view.finish_sentence) == (None, "")

    def test_a_full_context_cannot_be_continued(self):
        assert view_of([13, 13], n_ctx=4).can_continue  # three tokens, the prompt's one included
        assert not view_of([13, 13], n_ctx=3).can_continue

    def test_kept_tokens_come_first_and_are_not_counted(self):
        view = view_of([13], kept=[477, 10281])
        assert [step.chip.token.id for step in view.steps] == [477, 10281, 13]
        assert view.n_generated == 1
        assert "".join(step.text for step in view.steps) == " all heroes."
        kept, made = view.steps[0].chip, view.steps[2].chip
        assert kept.is_generated and kept.probability is None and kept.percent == ""
        assert made.is_generated and made.percent == "25%"
        assert view.kept_to_continue == "477,10281,13"
        assert view.kept == view.fields["kept"] == "477,10281"
        assert view.logprobs == ",,-1.386294"
        assert view.to_json("demo", "float32")["text"] == "."

    @pytest.mark.parametrize(
        ("prompt", "kept", "tail"),
        [
            ("Not all", "", "Not all"),
            ("The old uncle is older than me", "", "… uncle is older than me"),  # no part of a word
            ("They smiled at each other", ".<|endoftext|>", "… other.<|endoftext|>"),
            ("a\n b", "", "a↵ b"),
            ("=" * 300, "", "…" + "=" * 12),  # no word begins in it: the last token, of 12
        ],
    )
    def test_the_tail_has_whole_tokens_and_names_an_end_token(self, prompt, kept, tail):
        view = view_of([13], prompt=prompt, kept=ENCODER.encode(kept, special_tokens=True))
        assert view.tail == tail

    def test_a_group_may_begin_in_the_kept_tokens(self):
        view = view_of(ROBOT_IDS[2:], prompt="a", kept=ROBOT_IDS[:2])
        assert ids_of(view.groups) == [ROBOT_IDS]
        assert list(view.steps[-1].replaced) == [1, 2]

    def test_the_fields_give_the_same_text_again(self):
        request = request_of(n_tokens=9, temperature=0.7, top_k=3, top_p=0.25)
        assert GenerationView(request, ENCODER, 1024).fields == {
            "prompt": "Hi", "n_tokens": 9, "temperature": "0.7", "top_k": 3, "top_p": "0.25",
            "seed": 5,
        }  # fmt: skip

    @given(IDS, st.sampled_from(["length", "context", None]))
    def test_chips_groups_and_text_agree_whatever_the_model_generates(self, ids, reason):
        view = view_of(ids, reason=reason)
        data = b"".join(ENCODER.token_bytes(id) for id in ids)
        assert b"".join(step.chip.token.data for step in view.steps) == data
        text = view.continuation.text
        joined = "".join(group.text for group in view.groups)
        if reason and ids:
            assert joined == text == data.decode(errors="replace")
        else:  # the last character may be incomplete
            assert data.decode(errors="replace").startswith(text)
            assert text.startswith(joined)
        shown = [chip.token.index for group in view.groups for chip in group.chips]
        assert shown == [step.chip.token.index for step in view.steps]
        assert shown == list(range(1, 1 + len(ids)))  # the prompt is one token

    @given(IDS)
    def test_the_strip_of_a_stream_ends_as_the_strip_of_a_page(self, ids):
        """Appending and replacing step by step, as the page does, gives ``groups``."""
        strip: list[list[int]] = []
        view = view_of([])
        for at, id in enumerate(ids):
            [step] = view.add(generated(id, "length" if at == len(ids) - 1 else None))
            if step.group:
                strip = [indexes for indexes in strip if indexes[0] not in step.replaced]
                strip.append([chip.token.index for chip in step.group.chips])
            else:
                strip.append([step.chip.token.index])
        assert strip == [[chip.token.index for chip in group.chips] for group in view.groups]

    @given(IDS, st.integers(0, 30))
    def test_a_run_cut_in_two_shows_the_same_groups(self, ids, cut):
        if ids[cut:]:
            assert ids_of(view_of(ids[cut:], kept=ids[:cut]).groups) == ids_of(view_of(ids).groups)
