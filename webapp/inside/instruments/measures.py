"""The measures by which all heads are compared: one number for each layer and head.

Invariants: a measure is of the chosen token; NaN stands where this text does not define it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.heads import HABITS, head_habits, head_lengths
from webapp.drawing import signed_class, weight_class
from webapp.inside.numbers import fixed, fixed_signed
from webapp.inside.view import View
from webapp.inside.window import layer_step, layers_in_steps


@dataclass(frozen=True)
class Measure:
    """``values(view)`` is ``[n_layer, n_head]``.

    ``is_weight``: the values are attention weights from 0 to 1. ``is_signed``: they are
    below zero too.
    """

    name: str
    label: str
    sentence: str
    values: Callable[[View], np.ndarray]
    is_weight: bool = False
    is_signed: bool = False


@dataclass(frozen=True)
class HeadCell:
    """One head's number and its ink level; ``text`` is a dash where it is not defined."""

    layer: int
    head: int
    value: float
    text: str
    css: str

    @property
    def name(self) -> str:
        """Layer and head as the field ``cell`` spells them: ``5.7``."""
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class HeadTable:
    """A row of cells for each layer that is drawn; of a deep model that is one in ``step``.

    ``highest`` is the cell of the largest magnitude of all layers, ``total`` their sum.
    """

    measure: Measure
    rows: tuple[tuple[HeadCell, ...], ...]
    step: int
    n_left_out: int
    highest: HeadCell | None
    total: float


def habit(name: str) -> Callable[[View], np.ndarray]:
    """The chosen token's weight on the habit ``name`` of ``HABITS``, by layer and head."""
    index = HABITS.index(name)
    return lambda view: head_habits(view.recording, view.position)[..., index]


MEASURES = (
    Measure(
        "attribution",
        "share of the answer",
        "How much each head adds, directly, to the logit of the explained token.",
        lambda view: view.head_shares,
        is_signed=True,
    ),
    Measure(
        "first",
        "looks at the first token",
        "The chosen token’s weight on the first token of the text.",
        habit("first"),
        is_weight=True,
    ),
    Measure(
        "previous",
        "looks at the one before",
        "The chosen token’s weight on the token before it.",
        habit("previous"),
        is_weight=True,
    ),
    Measure(
        "itself",
        "looks at itself",
        "The chosen token’s weight on itself.",
        habit("itself"),
        is_weight=True,
    ),
    Measure(
        "copies",
        "copies",
        "The chosen token’s weight on tokens that followed an earlier copy of it: where the text "
        "repeats, a head that looks there can copy what came next (an induction head).",
        habit("copies"),
        is_weight=True,
    ),
    Measure(
        "norm",
        "moves most",
        "The length of what each head adds to the chosen token’s residual stream.",
        lambda view: head_lengths(view.recording, view.position),
    ),
)
BY_NAME = {measure.name: measure for measure in MEASURES}


def head_table(view: View, measure: Measure) -> HeadTable:
    """All heads by ``measure``. The chosen layer is drawn too."""
    values = measure.values(view).astype(np.float64)  # [n_layer, n_head]
    known = ~np.isnan(values)
    scale = 1.0 if measure.is_weight else float(np.abs(values).max())

    def cell(layer: int, head: int) -> HeadCell:
        return head_cell(measure, layer, head, float(values[layer, head]), scale)

    n_layer, n_head = values.shape
    layers = layers_in_steps(n_layer, layer_step(n_layer), view.layer)
    rows = tuple(tuple(cell(layer, head) for head in range(n_head)) for layer in layers)
    highest = None
    if known.any():
        layer, head = np.unravel_index(np.nanargmax(np.abs(values)), values.shape)
        highest = cell(int(layer), int(head))
    total = float(values[known].sum())
    return HeadTable(measure, rows, layer_step(n_layer), n_layer - len(layers), highest, total)


def head_cell(measure: Measure, layer: int, head: int, value: float, scale: float) -> HeadCell:
    if np.isnan(value):
        return HeadCell(layer, head, value, "–", "h0")
    if measure.is_signed:
        return HeadCell(layer, head, value, fixed_signed(value), signed_class(value, scale))
    share = value / scale if scale else 0.0
    return HeadCell(layer, head, value, fixed(value), weight_class(share))
