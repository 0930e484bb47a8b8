"""The guided reading: four stories about this model, each with the way to the view that shows it.

Invariants: numbers and tokens are those of the model's :class:`Reading`. A story whose finding is
not good enough says so, and shows the closest one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import url_for

from gpt2core.inside.findings import CopyingHead, PreviousHead, Reading, Removal, Settling
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

    finding: PreviousHead | CopyingHead
    cells: tuple[Cell, ...]
    query: Label
    key: Cell
    ways: tuple[Way, ...]


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

    finding: Settling
    n_layer: int
    text: str
    token: Piece
    runs: tuple[Run, ...]
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class RemovalStory:
    """The next token with a head and without it. ``is_copying``: it is the head of story 2."""

    finding: Removal
    text: str
    token: Piece
    instead: Piece
    is_copying: bool
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Stories:
    """What the page shows."""

    n_texts: int
    previous: HeadStory
    copying: HeadStory
    followed: Piece
    settling: SettlingStory
    removal: RemovalStory


def stories(model: Model, reading: Reading) -> Stories:
    """All four."""
    previous, copying = reading.previous, reading.copying
    return Stories(
        n_texts=len(TEXTS),
        previous=head_story(model, previous, previous.position - 1, "previous"),
        copying=head_story(model, copying, copying.followed, "copies"),
        followed=piece_of(model.encoder, copying.token),
        settling=settling_story(model, reading.settling),
        removal=removal_story(model, reading),
    )


def labels(model: Model, text: int) -> tuple[Label, ...]:
    ids = model.encoder.encode(TEXTS[text])
    return labels_of(model.encoder, TEXTS[text], ids, len(ids))[0]


def row_cells(model: Model, text: int, row: Sequence[float]) -> tuple[Cell, ...]:
    """The tokens that ``row`` is about."""
    return tuple(Cell(*pair) for pair in zip(labels(model, text), row, strict=False))


def head_story(
    model: Model, finding: PreviousHead | CopyingHead, key: int, measure: str
) -> HeadStory:
    """The head's attention row; ``measure`` is that of the heads page which tells of its habit."""
    cells = row_cells(model, finding.text, finding.row)
    href = url_for(
        "instruments.heads_page",
        prompt=TEXTS[finding.text],
        at=finding.position + 1,
        cell=f"{finding.layer}.{finding.head}",
        measure=measure,
    )
    ways = (Way(href, "See all that this head looks at"),)
    return HeadStory(finding, cells, cells[finding.position].label, cells[key], ways)


def settling_story(model: Model, finding: Settling) -> SettlingStory:
    piece, text = pieces(model), TEXTS[finding.text]
    end = labels(model, finding.text)[finding.position].end
    lens = url_for("instruments.lens_page", prompt=text, at=finding.position + 1)
    return SettlingStory(
        finding,
        n_layer=model.hparams.n_layer,
        text=text[:end],
        token=piece(finding.token),
        runs=runs(finding.path, piece),
        ways=(Way(lens, "See every layer’s guess"),),
    )


def runs(path: Sequence[int], piece: Callable[[int], Piece]) -> tuple[Run, ...]:
    """``path`` with neighbouring states of one likeliest token put together."""
    starts = [i for i, id in enumerate(path) if i == 0 or id != path[i - 1]]
    ends = [*starts[1:], len(path)]
    return tuple(
        Run(start, end - 1, piece(path[start])) for start, end in zip(starts, ends, strict=True)
    )


def removal_story(model: Model, reading: Reading) -> RemovalStory:
    finding, copying, piece = reading.removal, reading.copying, pieces(model)
    text = TEXTS[finding.text]
    part = f"{finding.layer}.{finding.head}"
    # Greedy, so that both texts begin with the tokens of the story.
    off = url_for("ablation.page", prompt=text, parts=part, temperature="0")
    fields: dict[str, Any] = {"part": f"{finding.layer}.attn", "for": finding.token}
    share = url_for("instruments.attribution_page", prompt=text, **fields)
    return RemovalStory(
        finding,
        text=text,
        token=piece(finding.token),
        instead=piece(finding.instead),
        is_copying=(finding.layer, finding.head) == (copying.layer, copying.head),
        ways=(Way(off, "Turn it off, and read both texts"), Way(share, "See what it adds")),
    )


def pieces(model: Model) -> Callable[[int], Piece]:
    return lambda id: piece_of(model.encoder, id)
