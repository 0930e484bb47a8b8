"""model.py as it is printed: every line, addresses that are unique, values beside their lines."""

from pathlib import Path

import numpy as np
import pytest

from gpt2core.inside.recorder import SOURCE
from gpt2core.inside.recording import record_pass, replay_block, replay_unembed
from webapp.inside.source import (
    Choice,
    chosen_index,
    file_lines,
    line_numbers,
    listing,
    shown_value,
)
from webapp.inside.steps.registry import STEPS

CHOICE = Choice(position=3, head=1, layer=1)


@pytest.fixture(scope="module")
def recording(demo):
    ids = demo.encoder.encode("The cat sat on the mat")
    return record_pass(ids, demo.params, demo.hparams.n_head)


def test_the_lines_are_those_of_the_file():
    text = Path(SOURCE).read_text(encoding="utf-8")
    assert [line.code + line.comment for line in file_lines()] == text.splitlines()


def test_no_two_lines_have_one_address():
    anchors = [anchor for line in file_lines() for anchor in line.anchors]
    assert len(anchors) == len(set(anchors)) == len(line_numbers())


@pytest.mark.parametrize(
    ("anchor", "code"),
    [
        ("attention", "def attention("),
        ("attention.scores", "scores = q @ k_t"),
        ("mha.v", "q, k, v = "),
        ("mha.x[2]", "x = xp.reshape(heads"),
        ("softmax.return", "return e / "),
        ("gpt2.x[1]", "x = transformer_block("),
    ],
)
def test_an_address_leads_to_the_line_that_binds_the_name(anchor, code):
    assert file_lines()[line_numbers()[anchor] - 1].code.strip().startswith(code)


def test_every_recorded_value_has_a_row_of_the_chosen_token(recording):
    values = [*recording.trace, *replay_block(recording, 2).trace, *replay_unembed(recording)]
    for value in values:
        row = value.array[chosen_index(value, CHOICE)]
        assert row.ndim <= 1, value.path
        shown = shown_value(value, CHOICE)
        assert len(shown.numbers) + shown.n_more == row.size


def test_a_listing_marks_its_lines_and_shows_what_they_made(recording):
    block = replay_block(recording, 1)
    found = listing("attention", "blocks[1].mha.attention", ["scores"], block.trace, CHOICE)
    by_name = {value.name: line for line in found.lines for value in line.values}
    assert [line.line.number for line in found.lines if line.is_marked] == [
        line_numbers()["attention.scores"]
    ]
    assert set(by_name) == {"k_t", "scores", "weights", "return"}
    (scores,) = by_name["scores"].values
    assert scores.shape == "[3, 6, 6]" and scores.row == "[1, 3, :]"
    row = block.array("mha.attention.scores")[1, 3]
    assert [float(n.replace("−", "-")) for n in scores.numbers] == pytest.approx(
        row[:4].tolist(), rel=6e-4
    )


def test_of_a_line_that_runs_once_a_layer_the_chosen_layer_is_shown(recording):
    found = listing("gpt2", "gpt2", ["x[1]"], recording.trace, CHOICE)
    (line,) = (line for line in found.lines if "gpt2.x[1]" in line.line.anchors)
    (value,) = line.values
    first = float(value.numbers[0].replace("−", "-"))
    assert first == pytest.approx(float(recording.residual[2][3, 0]), rel=6e-4)
    assert not np.isclose(first, recording.residual[1][3, 0], rtol=1e-3)


def test_lines_that_are_left_out_leave_a_gap(recording):
    found = listing("gpt2", "gpt2", ["x"], recording.trace, CHOICE, until="x")
    numbers = [line.line.number for line in found.lines]
    for before, (number, line) in zip(
        numbers, list(zip(numbers, found.lines, strict=True))[1:], strict=False
    ):
        assert line.after_gap == (number != before + 1)


def test_every_step_is_about_lines_that_exist():
    assert [step.number for step in STEPS] == list(range(1, 19))
    assert {mark for step in STEPS for mark in step.marks} <= line_numbers().keys()
