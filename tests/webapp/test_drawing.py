"""Drawing: levels with their borders, and paths that say what the array says."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.paths import ROOT
from tests.webapp.test_static import contrast
from webapp.drawing import (
    BAR_UNITS,
    BORDERS,
    MAX_STRIPES,
    barcode,
    heat,
    level_class,
    picture,
    signed_bar,
    signed_class,
    weight_class,
)

CSS = (ROOT / "static" / "inside.css").read_text(encoding="utf-8")
weights = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)


def cells_of(drawn) -> np.ndarray:
    """The class of each cell that the paths stroke; empty where nothing is drawn."""
    cells = np.full((drawn.height, drawn.width), "", dtype="<U2")
    for path in drawn.paths:
        for x, y, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path.d):
            run = cells[int(y), int(x) : int(x) + int(length)]
            assert len(run) == int(length) and not run.any(), "no cell is stroked twice"
            run[:] = path.css
    return cells


@pytest.mark.parametrize(("weight", "level"), [(0.0, 0), (0.0199, 0), (1.0, 8)])
def test_a_weight_has_the_level_between_its_borders(weight, level):
    assert weight_class(weight) == f"h{level}"


@pytest.mark.parametrize(("level", "border"), list(enumerate(BORDERS, start=1)))
def test_a_border_belongs_to_the_level_above(level, border):
    assert weight_class(border) == f"h{level}"
    assert weight_class(np.nextafter(border, 0)) == f"h{level - 1}"


def test_signed_values_differ_by_class_and_share_the_borders():
    assert signed_class(-0.5, 1.0) == "n6" and signed_class(0.5, 1.0) == "h6"
    assert signed_class(-3.0, 6.0) == "n6"
    assert signed_class(0.0, 0.0) == "h0"


@given(st.integers(1, 6), weights)
def test_a_picture_says_of_every_cell_what_the_array_says(n_rows, row):
    array = np.array([np.roll(row, shift) for shift in range(n_rows)])
    drawn = heat(array)
    expected = [[weight_class(w) if weight_class(w) != "h0" else "" for w in r] for r in array]
    assert (cells_of(drawn) == np.array(expected)).all()


def test_level_zero_is_left_blank():
    assert picture(np.zeros((3, 3), int)).paths == ()


def test_a_barcode_has_a_stripe_for_each_number():
    drawn = barcode(np.array([1.0, -1.0, 0.0, 0.5]))
    assert cells_of(drawn.picture).tolist() == [["h8", "n8", "", "h6"]]
    assert drawn.scale == 1.0 and drawn.n_shared == 1


def test_stripes_of_a_long_vector_show_the_largest_of_their_neighbours():
    values = np.zeros(MAX_STRIPES * 2 + 2)
    values[5], values[-1] = -3.0, 1.0
    drawn = barcode(values)
    assert drawn.n_shared == 3
    cells = cells_of(drawn.picture)[0]
    assert cells[1] == "n8" and [i for i, c in enumerate(cells) if c] == [1, (len(values) - 1) // 3]


def test_the_worst_barcode_and_the_worst_matrix_are_small():
    loud = np.where(np.arange(4 * 1600) % 2, 1.0, -0.3)
    assert sum(len(path.d) for path in barcode(loud).picture.paths) < 20_000
    checkered = np.where(np.add.outer(np.arange(64), np.arange(65)) % 2, 0.95, 0.3)
    assert sum(len(path.d) for path in heat(checkered).paths) < 60_000


def test_a_bar_reaches_from_the_middle_as_far_as_its_value():
    assert (signed_bar(2.0, 4.0).x, signed_bar(2.0, 4.0).width) == (BAR_UNITS, BAR_UNITS // 2)
    below = signed_bar(-4.0, 4.0)
    assert (below.x, below.width, below.css) == (0, BAR_UNITS, "below")
    assert signed_bar(0.0, 0.0).width == 0


def test_nothing_in_it_is_drawn_by_chance():
    source = (ROOT / "webapp" / "drawing.py").read_text(encoding="utf-8")
    assert "random" not in source


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_a_number_on_any_level_can_be_read(scheme):
    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", CSS)
    colours = {name: both[scheme] for name, *both in pairs}
    levels = {name: c for name, c in colours.items() if re.fullmatch(r"[hn][1-8]", name)}
    assert set(levels) == {level_class(level) for level in range(-8, 9) if level}
    for name, colour in levels.items():
        ink = colours["low-ink" if int(name[1]) <= 5 else "high-ink"]
        assert contrast(ink, colour) >= 4.5, name
