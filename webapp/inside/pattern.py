"""One head's attention pattern: the chosen token's row, the matrix, one weight term by term.

Invariants: what is shown of a row adds up to 1, because tokens before the window are one
cell with their sum; a weight is exactly 0 above the diagonal, where nothing is drawn.
"""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.heads import Weight, explain_weight
from webapp.drawing import Picture, heat, weight_class
from webapp.inside.labels import Label
from webapp.inside.numbers import fixed
from webapp.inside.view import View

SMALL = 0.02  # weights below it are drawn without ink
N_TERMS = 10  # of the products of a query and a key that are named


@dataclass(frozen=True)
class Cell:
    """One weight: its number and its ink level."""

    weight: float
    text: str
    css: str


@dataclass(frozen=True)
class Row:
    """Weights of the query ``label`` on the keys of the window that it sees.

    ``before`` is the sum over the tokens before the window, None where there are none.
    """

    label: Label
    before: Cell | None
    cells: tuple[Cell, ...]

    @property
    def total(self) -> float:
        """Everything shown: 1 but for float32."""
        return sum(cell.weight for cell in self.cells) + (self.before.weight if self.before else 0)


@dataclass(frozen=True)
class Matrix:
    """The window's tokens by the window's tokens: ``rows``, or where these are too many for
    numbers a ``picture``, of which ``n_small`` weights are under ``SMALL``, together ``small``
    of an average row.
    """

    keys: tuple[Label, ...]
    rows: tuple[Row, ...]
    picture: Picture | None = None
    n_small: int = 0
    small: float = 0.0


def cell(weight: float) -> Cell:
    return Cell(weight, fixed(weight), weight_class(weight))


def pattern_of(view: View) -> np.ndarray:
    """The chosen head's pattern ``[n_seq, n_seq]``, row by query."""
    pattern: np.ndarray = view.recording.patterns[view.layer][view.head]
    return pattern


def pattern_row(view: View, pattern: np.ndarray, position: int) -> Row:
    """The row of the query at ``position`` (from 0), over the view's window."""
    window = view.window
    before, weights = window.split(pattern[position, : position + 1])
    cells = tuple(cell(float(weight)) for weight in weights)
    return Row(view.labels[position], cell(before) if window.n_before else None, cells)


def pattern_matrix(view: View, pattern: np.ndarray) -> Matrix:
    """The pattern ``[n_seq, n_seq]`` over the view's window."""
    window = view.window
    keys = tuple(view.labels[position] for position in window.positions)
    if window.is_numbered:
        return Matrix(keys, tuple(pattern_row(view, pattern, at) for at in window.positions))
    drawn = with_sums(pattern, view)
    # Above the diagonal nothing is seen, so nothing is small.
    seen = drawn[np.tri(len(drawn), drawn.shape[1], drawn.shape[1] - len(drawn), dtype=bool)]
    small = seen[seen < SMALL]
    return Matrix(keys, (), heat(drawn), small.size, float(small.sum()) / len(drawn))


def with_sums(pattern: np.ndarray, view: View) -> np.ndarray:
    """The window of a pattern, before it a column of what the tokens before it hold together.

    ``[n_seq, n_seq] -> [n_drawn, n_drawn]``, or one column more where the window is not whole.
    """
    window = view.window
    drawn = pattern[window.start : window.stop]
    inside = drawn[:, window.start : window.stop]
    if not window.n_before:
        return inside
    return np.column_stack([drawn[:, : window.start].sum(axis=1), inside])


@dataclass(frozen=True)
class Terms:
    """How the weight of ``query`` on ``key`` came about; see ``heads.Weight``.

    ``largest`` are (channel, q, k, product) of the largest products; the other ``n_others``
    products add up to ``others``.
    """

    query: Label
    key: Label
    weight: Weight
    largest: tuple[tuple[int, float, float, float], ...]
    n_others: int
    others: float
    total: float


def terms(view: View, key: int) -> Terms:
    """The chosen head's weight of the chosen token on the one at ``key`` (from 0)."""
    weight = explain_weight(view.block, view.head, view.position, key)
    q = view.block.array("mha.q")[view.head, view.position]  # [d_head]
    k = view.block.array("mha.k")[view.head, key]  # [d_head]
    products = weight.products.astype(np.float64)  # [d_head]
    order = np.argsort(-np.abs(products), kind="stable")[:N_TERMS]
    largest = tuple((int(i), float(q[i]), float(k[i]), float(products[i])) for i in order)
    return Terms(
        query=view.labels[view.position],
        key=view.labels[key],
        weight=weight,
        largest=largest,
        n_others=len(products) - len(order),
        others=float(np.delete(products, order).sum()),
        total=float(products.sum()),
    )


def strongest_key(view: View) -> int:
    """Position of the token that the chosen token looks at most, in the chosen head."""
    return int(pattern_of(view)[view.position, : view.position + 1].argmax())
