"""The four findings of the guided reading, and their JSON.

:mod:`gpt2core.inside.reading` makes them, and a model's folder may hold them as a file. Each
finding is the best candidate of the model. ``found`` says whether the candidate is good enough
for the claim, so a model that has no such head gives its closest one and the number.

Invariants: positions, layers and heads count from 0. ``text`` is an index of
``reading.TEXTS``. A finding that was written as JSON and read again is equal.
"""

from dataclasses import asdict, dataclass
from typing import Any

MOSTLY = 0.5  # share of tokens that attend most to a kind of token, for a head that does so
COPIED = 0.1  # how much likelier a repeated phrase must be the second time


@dataclass(frozen=True)
class Habit:
    """How a head attends to one kind of token.

    ``n_most`` of ``n`` tokens attend to that kind more than to any other token. ``mean`` is their
    mean attention weight there, ``even`` that of a head that attends to all tokens alike.
    """

    n_most: int
    n: int
    mean: float
    even: float

    @property
    def is_usual(self) -> bool:
        return self.n_most > MOSTLY * self.n


@dataclass(frozen=True)
class PreviousHead:
    """The head that attends most to the previous token.

    ``habit`` is over the tokens of all texts that have more than two to choose from. ``row`` are
    the attention weights of the token at ``position``, on itself and all before it.
    """

    text: int
    position: int
    layer: int
    head: int
    habit: Habit
    row: tuple[float, ...]

    @property
    def found(self) -> bool:
        return self.habit.is_usual


@dataclass(frozen=True)
class CopyingHead:
    """The head that attends most to what followed an earlier copy of a token.

    ``habit`` is over the tokens of the repeated phrase, the second time. ``row`` are the
    attention weights of the token at ``position``; an earlier copy of it stands before the position
    ``followed``, where the id ``token`` is. ``first`` and ``second`` are mean probabilities of the
    phrase's next token, the first and the second time.
    """

    text: int
    position: int
    layer: int
    head: int
    habit: Habit
    row: tuple[float, ...]
    followed: int
    token: int
    first: float
    second: float

    @property
    def found(self) -> bool:
        return self.habit.is_usual and self.copies

    @property
    def copies(self) -> bool:
        """Whether the model says the phrase's next token, the second time."""
        return self.second >= self.first + COPIED


@dataclass(frozen=True)
class Settling:
    """The answer after ``position``, likeliest after ``n_layers`` layers and from there on.

    ``path`` are the likeliest ids after 0 to all layers; the last one is the answer. ``there`` is
    its probability after ``n_layers``, ``end`` that at the end, and ``first_rank`` its rank at the
    embedding, from 1. It settles nearest the middle of ``n_tried`` answers.
    """

    text: int
    position: int
    n_layers: int
    path: tuple[int, ...]
    first_rank: int
    there: float
    end: float
    n_tried: int
    found: bool

    @property
    def token(self) -> int:
        """Id of the answer."""
        return self.path[-1]


@dataclass(frozen=True)
class Removal:
    """The head whose removal lowers the answer's probability most, of ``n_tried``.

    ``token`` is the answer after ``position``, with probability ``before`` and, without the
    head, ``after``. ``instead`` is the likeliest token without the head. Heads whose removal
    makes another token likeliest come first.
    """

    text: int
    position: int
    layer: int
    head: int
    token: int
    instead: int
    before: float
    after: float
    n_tried: int

    @property
    def found(self) -> bool:
        return self.token != self.instead


@dataclass(frozen=True)
class Reading:
    """The four findings, in the order in which they are read."""

    previous: PreviousHead
    copying: CopyingHead
    settling: Settling
    removal: Removal

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Reading":
        """The reading of :meth:`to_json`. Raises KeyError or TypeError for anything else."""
        previous, copying = (
            found[name] | {"habit": Habit(**found[name]["habit"]), "row": tuple(found[name]["row"])}
            for name in ("previous", "copying")
        )
        settling = found["settling"] | {"path": tuple(found["settling"]["path"])}
        return cls(
            PreviousHead(**previous),
            CopyingHead(**copying),
            Settling(**settling),
            Removal(**found["removal"]),
        )
