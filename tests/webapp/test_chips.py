"""Chips, groups and candidate rows: what templates print of one token."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.continuation import Step, TextToken, text_tokens
from gpt2core.engine.sequence import ENDOFTEXT_ID, Candidate, GeneratedToken
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.web import HEROES, HEROES_IDS, HEROES_PIECES, ROBOT
from webapp.chips import (
    N_COLOURS,
    candidate_rows,
    colour,
    describe_bytes,
    generated_chip,
    group_chips,
    make_chip,
    readable,
)

ENCODER = default_encoder()
ROBOT_IDS = ENCODER.encode(ROBOT)  # three tokens, of two, one and one byte
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def grouped(text: str):
    tokens = text_tokens(ENCODER, text, ENCODER.encode(text))
    return group_chips([make_chip(ENCODER, token) for token in tokens], text)


def chip_of(id: int):
    data = ENCODER.token_bytes(id)
    return make_chip(ENCODER, TextToken(0, id, ENCODER.decoder[id], data, 0, 0))


def step_of(id: int, probability: float, candidates=()) -> Step:
    token = TextToken(3, id, ENCODER.decoder[id], ENCODER.token_bytes(id), 0, 1)
    generated = GeneratedToken(id, math.log(probability), tuple(candidates), None)
    return Step(token, "", 3, True, generated)


class TestGroups:
    def test_plain_tokens_stand_alone(self):
        groups = grouped(HEROES)
        assert [len(group.chips) for group in groups] == [1] * 7
        assert [group.chips[0].token.piece for group in groups] == HEROES_PIECES
        assert [group.chips[0].token.id for group in groups] == HEROES_IDS
        assert [group.text for group in groups][:3] == ["Not", " all", " heroes"]

    def test_tokens_of_one_character_are_one_group(self):
        before, robot, after = grouped(f"a{ROBOT}b")
        assert [chip.token.id for chip in robot.chips] == ROBOT_IDS
        assert robot.text == robot.label == ROBOT
        assert (robot.first, robot.last) == (1, 3)
        assert {(chip.token.start, chip.token.end) for chip in robot.chips} == {(1, 2)}
        assert [chip.description for chip in robot.chips] == ["bytes f0 9f", "byte a4", "byte 96"]
        assert (before.text, after.text) == ("a", "b")

    def test_neighbouring_characters_are_separate_groups(self):
        assert [group.text for group in grouped(ROBOT * 3)] == [ROBOT] * 3

    def test_a_space_before_a_character_in_parts_belongs_to_its_group(self):
        group = grouped("x \N{CJK UNIFIED IDEOGRAPH-65E5}")[1]
        assert group.text == " \N{CJK UNIFIED IDEOGRAPH-65E5}"
        assert group.label == "␣\N{CJK UNIFIED IDEOGRAPH-65E5}"

    @given(TEXTS)
    def test_bytes_and_texts_joined_give_the_text_back(self, text):
        groups = grouped(text)
        tokens = [chip.token for group in groups for chip in group.chips]
        assert b"".join(token.data for token in tokens) == text.encode()
        assert "".join(group.text for group in groups) == text
        assert [token.index for token in tokens] == list(range(len(tokens)))
        assert all(0 <= token.start < token.end <= len(text) for token in tokens)
        for group in groups:
            span = text[group.chips[0].token.start : group.chips[-1].token.end]
            assert span == group.text

    def test_neighbours_differ_in_colour(self):
        colours = [colour(index) for index in range(100)]
        assert set(colours) == set(range(N_COLOURS))
        assert all(a != b for a, b in zip(colours, colours[1:], strict=False))


class TestChips:
    def test_a_chip_knows_the_merge_that_made_it(self):
        (group,) = grouped(" all")
        assert group.chips[0].rank == ENCODER.merge_rank(477) == 477 - 256
        (group,) = grouped("a")
        assert group.chips[0].rank is None

    @pytest.mark.parametrize(
        ("data", "shown", "description"),
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
            (b"\xe2\x80\x8d", "U+200D", "zero-width joiner"),
            (b"\xf0\x9f", "⟨f0 9f⟩", "bytes f0 9f"),
            (b"\xa4", "⟨a4⟩", "byte a4"),
            ("\u2028".encode(), "U+2028", "line separator"),
            ("\u3000".encode(), "U+3000", "ideographic space"),
            ("\ufe0f".encode(), "U+FE0F", "emoji style"),
            (b"\x7f", "␡", "u+007f"),
        ],
    )
    def test_what_the_eye_cannot_tell_is_described(self, data, shown, description):
        assert readable(data) == shown
        assert describe_bytes(data) == description

    def test_the_end_of_a_text_is_named(self):
        assert chip_of(ENDOFTEXT_ID).description == "end of text"
        assert chip_of(ENDOFTEXT_ID).rank is None

    def test_a_token_of_a_written_text_has_no_probability(self):
        chip = chip_of(477)
        assert (chip.percent, chip.level, chip.candidates) == ("", None, ())


class TestCandidates:
    def test_rows_mark_the_chosen_token_and_those_that_sampling_cut_off(self):
        candidates = [Candidate(477, math.log(0.5), 0.75), Candidate(13, math.log(0.25), 0.0)]
        rows = candidate_rows(ENCODER, step_of(13, 0.25, candidates))
        assert [row.piece for row in rows] == ["Ġall", "."]
        assert [row.is_chosen for row in rows] == [False, True]
        assert [row.percent for row in rows] == ["50%", "25%"]
        assert [row.sampling_percent for row in rows] == ["75%", "cut off"]

    def test_the_drawn_token_is_among_the_rows_with_its_rank(self):
        candidates = [Candidate(477, math.log(0.5), 0.75), Candidate(11, math.log(0.25), 0.0)]
        step = step_of(13, 0.005, candidates)
        drawn = replace(step.generated, rank=1023, sampling_probability=0.01)
        *rest, row = candidate_rows(ENCODER, replace(step, generated=drawn))
        assert [row.chosen_note for row in rest] == ["", ""]
        assert (row.id, row.percent, row.sampling_percent) == (13, "0.5%", "1.0%")
        assert row.chosen_note == "1,023rd, drawn"

    def test_the_details_of_a_chip_get_objects_with_every_number_spelled(self):
        candidates = [Candidate(477, math.log(0.625), 0.75), Candidate(13, math.log(0.25), 0.0)]
        chip = generated_chip(ENCODER, step_of(13, 0.25, candidates))
        assert chip.candidates_json == [  # fmt: skip
            {
                "id": 477,
                "piece": "Ġall",
                "readable": "␣all",
                "note": "",
                "drawn": "",
                "probability": 0.625,
                "percent": "62%",
                "level": 6,
                "sampling": 0.75,
                "sampling_percent": "75%",
            },
            {
                "id": 13,
                "piece": ".",
                "readable": ".",
                "note": "",
                "drawn": "drawn",
                "probability": 0.25,
                "percent": "25%",
                "level": 2,
                "sampling": 0.0,
                "sampling_percent": "cut off",
            },
        ]

    @pytest.mark.parametrize("probability", [0.05, 0.125, 0.25, 0.45, 0.65, 0.8333, 0.00049])
    def test_a_chip_and_its_details_spell_one_probability_alike(self, probability):
        candidate = Candidate(13, math.log(probability), 1.0)
        chip = generated_chip(ENCODER, step_of(13, probability, [candidate]))
        (in_the_details,) = chip.candidates_json
        assert (in_the_details["percent"], in_the_details["level"]) == (chip.percent, chip.level)


class TestSpoken:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            (" Turing", ["space Turing, token 39,141"]),
            ("\n", ["newline, token 198"]),
            (ROBOT, ["bytes f0 9f, token 8,582", "byte a4, token 97", "byte 96, token 244"]),
        ],
    )
    def test_a_chip_has_a_name_that_can_be_spoken(self, text, names):
        assert [chip.spoken for group in grouped(text) for chip in group.chips] == names

    def test_the_name_of_a_generated_token_has_its_probability(self):
        assert generated_chip(ENCODER, step_of(477, 0.25)).spoken == "space all, token 477, 25%"
