"""The guided reading: four stories about this model, each with the way to the view that shows it.

Invariants: numbers and tokens are those of the model's :class:`Reading`. A story whose finding is
not good enough says so, and shows the closest one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import url_for

from gpt2core.inside.findings import Habit, Reading
from gpt2core.inside.reading import TEXTS
from gpt2core.store.loader import Model
from webapp.drawing import weight_class
from webapp.inside.labels import Label, Piece, labels_of, piece_of


@dataclass(frozen=True)
class Cell:
    """A token of a text and the attention weight on it."""

    label: Label
    weight: float

    @property
    def css(self) -> str:
        return weight_class(self.weight)


@dataclass(frozen=True)
class Way:
    """A link to the view that shows a story."""

    href: str
    words: str


@dataclass(frozen=True)
class HeadStory:
    """A head and what it looks at. ``query`` looks at ``key``, with its weight in ``cells``."""

    found: bool
    layer: int
    head: int
    habit: Habit
    cells: tuple[Cell, ...]
    query: Label
    key: Cell
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class CopyingStory(HeadStory):
    """``first`` and ``second`` are probabilities of the repeated phrase's next token."""

    copies: bool
    looks: bool
    first: float
    second: float
    followed: Piece


@dataclass(frozen=True)
class Run:
    """The likeliest token of neighbouring states: after ``first`` to ``last`` layers."""

    first: int
    last: int
    piece: Piece

    @property
    def words(self) -> str:
        if self.first == self.last:
            return f"after layer {self.first - 1}" if self.first else "embedding"
        start = f"after layers {self.first - 1}" if self.first else "embedding"
        return f"{start} to {self.last - 1}" if self.first else f"{start} to layer {self.last - 1}"


@dataclass(frozen=True)
class SettlingStory:
    """An answer and the states from which it is read."""

    found: bool
    n_layers: int
    n_layer: int
    n_tried: int
    first_rank: int
    there: float
    end: float
    text: str
    token: Piece
    runs: tuple[Run, ...]
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class RemovalStory:
    """The next token with a head and without it. ``is_copying``: it is the head of story 2."""

    found: bool
    layer: int
    head: int
    n_tried: int
    text: str
    token: Piece
    instead: Piece
    before: float
    after: float
    is_copying: bool
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Stories:
    """What the page shows."""

    n_texts: int
    previous: HeadStory
    copying: CopyingStory
    settling: SettlingStory
    removal: RemovalStory


def stories(model: Model, reading: Reading) -> Stories:
    """All four."""
    return Stories(
        len(TEXTS),
        previous_story(model, reading),
        copying_story(model, reading),
        settling_story(model, reading),
        removal_story(model, reading),
    )


def labels(model: Model, text: int) -> tuple[Label, ...]:
    ids = model.encoder.encode(TEXTS[text])
    return labels_of(model.encoder, TEXTS[text], ids, len(ids))[0]


def row_cells(model: Model, text: int, row: Sequence[float]) -> tuple[Cell, ...]:
    """The tokens that ``row`` is about."""
    return tuple(Cell(*pair) for pair in zip(labels(model, text), row, strict=False))


def heads_way(text: int, position: int, layer: int, head: int, measure: str) -> Way:
    cell = f"{layer}.{head}"
    href = url_for(
        "instruments.heads_page", prompt=TEXTS[text], at=position + 1, cell=cell, measure=measure
    )
    return Way(href, "See all that this head looks at")


def previous_story(model: Model, reading: Reading) -> HeadStory:
    found = reading.previous
    cells = row_cells(model, found.text, found.row)
    return HeadStory(
        found.found,
        found.layer,
        found.head,
        found.habit,
        cells,
        cells[found.position].label,
        cells[found.position - 1],
        (heads_way(found.text, found.position, found.layer, found.head, "previous"),),
    )


def copying_story(model: Model, reading: Reading) -> CopyingStory:
    found = reading.copying
    cells = row_cells(model, found.text, found.row)
    return CopyingStory(
        found.found,
        found.layer,
        found.head,
        found.habit,
        cells,
        cells[found.position].label,
        cells[found.followed],
        (heads_way(found.text, found.position, found.layer, found.head, "copies"),),
        found.copies,
        found.habit.is_usual,
        found.first,
        found.second,
        piece_of(model.encoder, found.token),
    )


def settling_story(model: Model, reading: Reading) -> SettlingStory:
    found = reading.settling
    piece = pieces(model)
    text = labels(model, found.text)
    lens = url_for("instruments.lens_page", prompt=TEXTS[found.text], at=found.position + 1)
    return SettlingStory(
        found.found,
        found.n_layers,
        model.hparams.n_layer,
        found.n_tried,
        found.first_rank,
        found.there,
        found.end,
        TEXTS[found.text][: text[found.position].end],
        piece(found.token),
        runs(found.path, piece),
        (Way(lens, "See every layer’s guess"),),
    )


def runs(path: Sequence[int], piece: Callable[[int], Piece]) -> tuple[Run, ...]:
    """``path`` with neighbouring states of one likeliest token put together."""
    starts = [i for i, id in enumerate(path) if i == 0 or id != path[i - 1]]
    ends = [*starts[1:], len(path)]
    return tuple(
        Run(start, end - 1, piece(path[start])) for start, end in zip(starts, ends, strict=True)
    )


def removal_story(model: Model, reading: Reading) -> RemovalStory:
    found = reading.removal
    piece = pieces(model)
    text = TEXTS[found.text]
    part = f"{found.layer}.{found.head}"
    # Greedy, so that both texts begin with the tokens of the story.
    off = url_for("ablation.page", prompt=text, parts=part, temperature="0")
    fields: dict[str, Any] = {"part": f"{found.layer}.attn", "for": found.token}
    share = url_for("instruments.attribution_page", prompt=text, **fields)
    return RemovalStory(
        found.found,
        found.layer,
        found.head,
        found.n_tried,
        text,
        piece(found.token),
        piece(found.instead),
        found.before,
        found.after,
        (found.layer, found.head) == (reading.copying.layer, reading.copying.head),
        (Way(off, "Turn it off, and read both texts"), Way(share, "See what it adds")),
    )


def pieces(model: Model) -> Callable[[int], Piece]:
    return lambda id: piece_of(model.encoder, id)
