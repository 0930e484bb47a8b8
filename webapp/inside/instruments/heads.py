"""All heads by one measure, one layer's heads, one head.

A head is shown by where it looks (attention weights) or by what it moves: the length of what
each token's value adds, as a share of the row's sum, so that a row of either adds up to 1.
"""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.document import in_range
from gpt2core.inside.heads import HABITS, habits, moved
from webapp.drawing import Picture, thumbnail
from webapp.inside.instruments.measures import HeadTable, Measure, head_table
from webapp.inside.numbers import fixed
from webapp.inside.pattern import (
    Matrix,
    Row,
    Terms,
    pattern_matrix,
    pattern_row,
    strongest_key,
    terms,
    with_sums,
)
from webapp.inside.view import View

SHOWS = ("looks", "moves")
OFTEN, MOSTLY = 0.25, 0.5  # weights from which a habit is named
HABIT_WORDS = {
    "first": "the first token",
    "itself": "itself",
    "previous": "the token before",
    "copies": "what followed an earlier copy",
}


@dataclass(frozen=True)
class Thumbnail:
    """One head of the chosen layer, in small."""

    head: int
    picture: Picture
    words: str


@dataclass(frozen=True)
class Heads:
    """What the page shows. ``together`` is the sum of the lengths that one row moves."""

    table: HeadTable
    thumbnails: tuple[Thumbnail, ...]
    show: str
    row: Row
    matrix: Matrix
    together: float
    terms: Terms
    sentence: str


def heads(view: View, measure: Measure, show: str) -> Heads:
    """The whole page. Raises InputError for a key that the chosen token cannot see."""
    lengths = lengths_moved(view)  # [n_head, n_seq, n_seq]
    patterns = view.recording.patterns[view.layer]  # [n_head, n_seq, n_seq]
    drawn = patterns if show == "looks" else shares_of_rows(lengths)
    pattern = drawn[view.head]
    row = pattern_row(view, pattern, view.position)
    return Heads(
        table=head_table(view, measure),
        thumbnails=thumbnails(view, drawn),
        show=show,
        row=row,
        matrix=pattern_matrix(view, pattern),
        together=float(lengths[view.head, view.position].sum()),
        terms=terms(view, chosen_key(view)),
        sentence=sentence(view, pattern, show),
    )


def lengths_moved(view: View) -> np.ndarray:
    """Length of what each key adds at each query, in the chosen layer, float64.

    ``[n_head, n_seq, n_seq]``
    """
    c_proj = view.recording.params["blocks"][view.layer]["attn"]["c_proj"]
    pattern = view.recording.patterns[view.layer]
    lengths = moved(pattern, view.block.array("mha.v"), c_proj)  # [n_head, n_seq, n_seq]
    return lengths.astype(np.float64)


def shares_of_rows(lengths: np.ndarray) -> np.ndarray:
    """Each length as a share of its row's sum: ``[n_head, n_seq, n_seq]``, rows add up to 1."""
    sums = lengths.sum(axis=-1, keepdims=True)  # [n_head, n_seq, 1]
    shares: np.ndarray = np.divide(lengths, sums, out=np.zeros_like(lengths), where=sums > 0)
    return shares


def chosen_key(view: View) -> int:
    """Position of the explained weight's key: the chosen one, else the strongest."""
    if view.query.key is None:
        return strongest_key(view)
    return in_range("key", "Key", view.query.key, 1, view.selection.at) - 1


def thumbnails(view: View, patterns: np.ndarray) -> tuple[Thumbnail, ...]:
    """The layer's heads; ``patterns`` is ``[n_head, n_seq, n_seq]``."""
    habits_of_heads = habits(patterns, view.recording.ids)  # [n_head, 4]
    return tuple(
        Thumbnail(head, thumbnail(with_sums(pattern, view)), in_words(habits_of_heads[head]))
        for head, pattern in enumerate(patterns)
    )


def in_words(weights: np.ndarray) -> str:
    """A head's strongest habit, ``[4]`` in the order of ``HABITS``, in words."""
    if np.isnan(weights).all():
        return "one token: nothing to choose from"
    strongest = int(np.nanargmax(weights))
    weight = float(weights[strongest])
    what = HABIT_WORDS[HABITS[strongest]]
    if weight < OFTEN:
        return f"spread out; most on {what}, {fixed(weight, 2)}"
    return f"{'mostly' if weight >= MOSTLY else 'often'} {what}, {fixed(weight, 2)}"


def sentence(view: View, pattern: np.ndarray, show: str) -> str:
    """The selection and the chosen row's largest number, for the live region."""
    row = pattern[view.position]
    strongest = int(row[: view.position + 1].argmax())
    name = f"Layer {view.layer}, head {view.head}: {view.chosen.spoken}"
    most = f"{view.labels[strongest].spoken}, {fixed(row[strongest], 2)}"
    if show == "moves":
        return f"{name} is moved most by {most}; by the first token {fixed(row[0], 2)}."
    return f"{name} looks most at {most}; at the first token {fixed(row[0], 2)}."
