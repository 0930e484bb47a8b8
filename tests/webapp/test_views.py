"""Chips, groups, bars and a text as it grows: what templates are given to print."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.engine.sequence import ENDOFTEXT_ID, Candidate, GeneratedToken
from gpt2core.sampling import SamplingParams
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.web import HEROES, HEROES_IDS, HEROES_PIECES, JSON, ROBOT
from webapp.chips import N_COLOURS, group_chips, make_chip, note_of, readable, token_bars
from webapp.formatting import exact, percent
from webapp.forms import GenerationRequest
from webapp.page import token_view
from webapp.views import Result

ENCODER = default_encoder()
ROBOT_IDS = ENCODER.encode(ROBOT)  # three tokens, of two, one and one byte
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# Ids of single bytes that cannot stand alone in UTF-8, among ids that can.
IDS = st.lists(
    st.one_of(st.integers(0, 255), st.integers(0, 50_255), st.sampled_from(ROBOT_IDS)), max_size=30
)


def grouped(text: str):
    return group_chips(ENCODER, text, ENCODER.encode(text))


def token(id: int, reason: str | None = None, candidates=()) -> GeneratedToken:
    return GeneratedToken(id, math.log(0.25), tuple(candidates), reason)


def result_of(ids, prompt="Hi", kept=(), reason="length") -> Result:
    """A run that made ``ids`` after ``prompt`` and ``kept``."""
    asked = GenerationRequest(
        prompt, ENCODER.encode(prompt), list(kept), len(ids) or 1, SamplingParams(seed=5)
    )
    result = Result(asked, ENCODER)
    for at, id in enumerate(ids):
        result.add(token(id, reason if at == len(ids) - 1 else None))
    return result


class TestGroups:
    def test_plain_tokens_stand_alone(self):
        groups = grouped(HEROES)
        assert [len(group.chips) for group in groups] == [1] * 7
        assert [group.chips[0].piece for group in groups] == HEROES_PIECES
        assert [group.chips[0].id for group in groups] == HEROES_IDS
        assert [group.text for group in groups][:3] == ["Not", " all", " heroes"]

    def test_tokens_of_one_character_are_one_group(self):
        before, robot, after = grouped(f"a{ROBOT}b")
        assert [chip.id for chip in robot.chips] == ROBOT_IDS
        assert robot.text == robot.label == ROBOT
        assert (robot.first, robot.last) == (1, 3)
        assert {(chip.start, chip.end) for chip in robot.chips} == {(1, 2)}
        assert [chip.note for chip in robot.chips] == ["bytes f0 9f", "byte a4", "byte 96"]
        assert (before.text, after.text) == ("a", "b")

    def test_characters_side_by_side_are_groups_of_their_own(self):
        assert [group.text for group in grouped(ROBOT * 3)] == [ROBOT] * 3

    def test_a_space_before_a_character_in_parts_belongs_to_its_group(self):
        group = grouped("x \N{CJK UNIFIED IDEOGRAPH-65E5}")[1]
        assert group.text == " \N{CJK UNIFIED IDEOGRAPH-65E5}"
        assert group.label == "␣\N{CJK UNIFIED IDEOGRAPH-65E5}"

    @given(TEXTS)
    def test_bytes_and_texts_joined_give_the_text_back(self, text):
        groups = grouped(text)
        chips = [chip for group in groups for chip in group.chips]
        assert bytes.fromhex("".join(chip.bytes for chip in chips)) == text.encode()
        assert "".join(group.text for group in groups) == text
        assert [chip.index for chip in chips] == list(range(len(chips)))
        assert all(0 <= chip.start < chip.end <= len(text) for chip in chips)
        for group in groups:
            span = text[group.chips[0].start : group.chips[-1].end]
            assert span == group.text

    @given(TEXTS)
    def test_neighbours_differ_in_colour(self, text):
        colours = [chip.colour for group in grouped(text) for chip in group.chips]
        assert all(0 <= colour < N_COLOURS for colour in colours)
        assert all(a != b for a, b in zip(colours, colours[1:], strict=False))

    def test_half_a_surrogate_pair_becomes_the_replacement_character(self, app):
        with app.app_context():
            view = token_view("a\ud83eb")
        assert view.text == "a\ufffdb"
        assert bytes.fromhex("".join(c.bytes for c in view.chips)) == "a\ufffdb".encode()
        assert view.n_bytes == 5

    def test_half_a_surrogate_pair_in_json_is_taken_too(self, client):
        body = '{"prompt": "a\\ud83e"}'
        answer = client.post(
            "/tokenize", data=body, content_type="application/json", headers=JSON
        ).json
        joined = bytes.fromhex("".join(t["bytes"] for t in answer["tokens"]))
        assert joined == "a\ufffd".encode()

    def test_more_chips_than_a_browser_likes_are_counted_but_not_shown(self, app):
        with app.app_context():
            view = token_view(" a" * 3_000)
        assert view.n_tokens == len(view.chips) == 3_000
        assert len(view.shown) + view.n_hidden == 3_000
        assert 0 < view.n_hidden


class TestChips:
    def test_a_chip_knows_the_merge_that_made_it(self):
        (group,) = grouped(" all")
        assert group.chips[0].rank == ENCODER.merge_rank(477) == 477 - 256
        (group,) = grouped("a")
        assert group.chips[0].rank is None

    @pytest.mark.parametrize(
        ("data", "shown", "note"),
        [
            (b" ", "␣", "space"),
            (b"   ", "␣␣␣", "3 × space"),
            (b"\n", "↵", "newline"),
            (b"\r", "␍", "carriage return"),
            (b"\t", "⇥", "tab"),
            (b"\x00", "␀", "NUL"),
            (b" \n", "␣↵", "2 white spaces"),
            (b" all", "␣all", ""),
            (b"\xc2\xa0", "⍽", "no-break space"),
            (b"\xe2\x80\x8d", "\u200d", "zero-width joiner"),
            (b"\xf0\x9f", "f0 9f", "bytes f0 9f"),
            (b"\xa4", "a4", "byte a4"),
            ("\u2028".encode(), "\u2028", "line separator"),
            (b"\x7f", "␡", "u+007f"),
        ],
    )
    def test_what_the_eye_cannot_tell_is_said(self, data, shown, note):
        assert readable(data) == shown
        assert note_of(data) == note

    def test_the_end_of_a_text_is_named(self):
        chip = make_chip(ENCODER, ENDOFTEXT_ID, 0, (0, 0))
        assert chip.note == "end of text"
        assert chip.rank is None

    def test_probabilities_are_rounded_to_what_can_be_read(self):
        expected = {
            1: "100%", 0.4213: "42%", 0.0995: "10%", 0.099: "9.9%", 0.0005: "0.1%", 0.0004: "<0.1%"
        }
        assert {p: percent(p) for p in expected} == expected

    @given(st.floats(0, 5))
    def test_a_number_of_a_permalink_reads_back_as_it_was(self, number):
        assert float(exact(number)) == number

    def test_shortest_spellings(self):
        assert [exact(n) for n in (1.0, 0.8, 0.8333333333)] == ["1", "0.8", "0.8333333333"]

    def test_bars_say_which_was_chosen_and_what_was_cut_off(self):
        candidates = [Candidate(477, math.log(0.5), 0.75), Candidate(13, math.log(0.25), 0.0)]
        bars = token_bars(ENCODER, token(13, candidates=candidates))
        assert [bar.piece for bar in bars] == ["Ġall", "."]
        assert [bar.chosen for bar in bars] == [False, True]
        assert [bar.percent for bar in bars] == ["50%", "25%"]
        assert [bar.chance_percent for bar in bars] == ["75%", "cut off"]
        chip = make_chip(ENCODER, 13, 3, (0, 1), generated=True, probability=0.25, bars=bars)
        assert json.loads(chip.candidates) == [[477, "Ġall", 0.5, 0.75], [13, ".", 0.25, 0.0]]
        assert (chip.percent, chip.level) == ("25%", 2)


class TestResult:
    def test_a_character_in_parts_is_shown_at_once_and_bracketed_when_whole(self):
        result = result_of([*ROBOT_IDS, 13], prompt="a")
        first, second, third, dot = result.steps
        assert [step.text for step in result.steps] == ["", "", ROBOT, "."]
        assert first.group is None and second.group is None
        assert [chip.id for chip in third.group.chips] == ROBOT_IDS
        assert third.group.text == ROBOT
        assert third.replaced == [1, 2]
        assert (third.first, third.last) == (1, 3)
        assert dot.replaced == [] and (dot.first, dot.last) == (4, 4)
        assert {(chip.start, chip.end) for chip in third.group.chips} == {(1, 2)}
        assert (dot.chip.start, dot.chip.end) == (2, 3)

    def test_a_character_that_is_still_open_stands_as_single_chips(self):
        result = result_of(ROBOT_IDS[:2], reason=None)
        assert [len(group.chips) for group in result.groups] == [1, 1]
        assert result.text == ""
        assert result.steps[-1].chip.end == result.steps[-1].chip.start + 1

    @pytest.mark.parametrize("reason", ["length", "context"])
    def test_an_end_inside_a_character_shows_the_replacement_character(self, reason):
        result = result_of(ROBOT_IDS[:2], reason=reason)
        assert result.text == "\ufffd"
        (group,) = result.groups
        assert [chip.id for chip in group.chips] == ROBOT_IDS[:2]
        assert group.text == "\ufffd"
        assert result.finish_reason == reason

    def test_bytes_that_become_no_character_share_what_they_became(self):
        result = result_of([ROBOT_IDS[0], *ENCODER.encode("a")])
        assert result.text == "\ufffda"
        assert [group.text for group in result.groups] == ["\ufffda"]

    def test_the_end_of_text_is_a_chip_and_no_text(self):
        result = result_of([477, ENDOFTEXT_ID], reason="endoftext")
        assert result.text == " all"
        last = result.steps[-1].chip
        assert last.note == "end of text"
        assert last.start == last.end == len("Hi all")
        assert not result.can_continue
        assert result.finished == "the last of them ends the text"

    def test_what_was_kept_comes_first_and_is_not_counted_as_made(self):
        result = result_of([13], kept=[477, 10281])
        assert result.n_kept == 2
        assert [step.chip.id for step in result.steps] == [477, 10281, 13]
        assert [step.chip.id for step in result.made] == [13]
        assert result.text == "."
        assert "".join(step.text for step in result.steps) == " all heroes."
        kept, made = result.steps[0].chip, result.steps[2].chip
        assert kept.generated and kept.probability is None and kept.percent == ""
        assert made.percent == "25%"
        assert result.all_kept == "477,10281,13"
        assert result.form["kept"] == "477,10281"
        assert result.to_json("demo")["text"] == "."

    def test_a_character_may_begin_in_what_was_kept(self):
        result = result_of(ROBOT_IDS[2:], prompt="a", kept=ROBOT_IDS[:2])
        assert result.text == ROBOT
        (group,) = result.groups
        assert [chip.id for chip in group.chips] == ROBOT_IDS
        assert result.made[0].replaced == [1, 2]

    def test_the_fields_give_the_same_text_again(self):
        sampling = SamplingParams(temperature=0.7, top_k=3, top_p=0.25, seed=5)
        asked = GenerationRequest("Hi", ENCODER.encode("Hi"), [], 9, sampling)
        assert Result(asked, ENCODER).form == {
            "prompt": "Hi", "n_tokens": 9, "temperature": "0.7", "top_k": 3, "top_p": "0.25",
            "seed": 5,
        }

    @given(IDS, st.sampled_from(["length", "context", None]))
    def test_chips_groups_and_text_say_the_same_whatever_the_model_writes(self, ids, reason):
        result = result_of(ids, reason=reason)
        data = b"".join(ENCODER.token_bytes(id) for id in ids)
        assert bytes.fromhex("".join(step.chip.bytes for step in result.steps)) == data
        joined = "".join(group.text for group in result.groups)
        if reason and ids:
            assert joined == result.text == data.decode(errors="replace")
        else:  # the last character may still be open
            assert data.decode(errors="replace").startswith(result.text)
            assert result.text.startswith(joined)
        shown = [chip.index for group in result.groups for chip in group.chips]
        assert shown == [step.chip.index for step in result.steps]
        assert shown == list(range(1, 1 + len(ids)))  # the prompt is one token

    @given(IDS)
    def test_the_strip_of_a_stream_ends_as_the_strip_of_a_page(self, ids):
        """Appending and replacing step by step, as the page does, gives ``groups``."""
        strip: list[list[int]] = []
        result = result_of([])
        for at, id in enumerate(ids):
            result.add(token(id, "length" if at == len(ids) - 1 else None))
            step = result.steps[-1]
            if step.group:
                strip = [chips for chips in strip if chips[0] not in step.replaced]
                strip.append([chip.index for chip in step.group.chips])
            else:
                strip.append([step.chip.index])
        assert strip == [[chip.index for chip in group.chips] for group in result.groups]

    @given(IDS, st.integers(0, 30))
    def test_where_a_run_was_cut_in_two_cannot_be_seen(self, ids, cut):
        whole, parts = result_of(ids), result_of(ids[cut:], kept=ids[:cut])
        if ids[cut:]:
            assert [
                [chip.id for chip in group.chips] for group in parts.groups
            ] == [[chip.id for chip in group.chips] for group in whole.groups]
            assert "".join(s.text for s in parts.steps) == whole.text
