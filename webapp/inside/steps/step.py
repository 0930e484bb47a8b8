"""The parts of a step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from webapp.inside.numbers import shape
from webapp.inside.source import Listing
from webapp.inside.view import View


@dataclass(frozen=True)
class Check:
    """An identity of the recorded numbers.

    ``sentence`` has the numbers in it. ``holds`` was computed from them.
    """

    sentence: str
    holds: bool


@dataclass(frozen=True)
class Program:
    """The same step as Python to run; ``output`` is what it prints, from the recording."""

    code: str
    output: str


@dataclass(frozen=True)
class Glance:
    """A step on the map: the array that it makes, its shape, and one figure of this text."""

    name: str
    dimensions: tuple[int, ...]
    figure: str

    @property
    def shape(self) -> str:
        return shape(self.dimensions) if self.dimensions else ""


@dataclass(frozen=True)
class Content:
    """A step for one view. ``picture`` is what the step's own template draws."""

    picture: Mapping[str, Any] = field(default_factory=dict)
    listings: tuple[Listing, ...] = ()
    checks: tuple[Check, ...] = ()
    program: Program | None = None

    @property
    def anchors(self) -> set[str]:
        """Addresses of the lines that the listings have."""
        shown = (line for listing in self.listings for line in listing.lines)
        return {anchor for line in shown for anchor in line.line.anchors}


@dataclass(frozen=True)
class Step:
    """``name`` is that of the template in ``templates/inside/steps``.

    ``sentence`` says what happens, ``why`` why it is done. ``marks`` are the addresses of the
    lines of ``model.py`` that it is about; ``chooses_layer`` and ``chooses_head`` say whether
    these make a difference to it. ``related`` are the endpoints of instruments that go on
    from here. ``group`` names the part of the model that begins with this step. ``glance`` needs
    no replay, so the map can call all of them.
    """

    number: int
    name: str
    title: str
    sentence: str
    why: str
    glance: Callable[[View], Glance]
    content: Callable[[View], Content]
    marks: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    chooses_layer: bool = True
    chooses_head: bool = True
    group: str = ""
