"""Two texts' tokens over each other, aligned where they agree, and what each text costs.

Between the encoder and the page /compare. Invariants: the columns hold every token of both texts
once, in order; tokens over each other in a column that agrees have the same id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from gpt2core.errors import InputError
from gpt2core.tokenizer.bpe import Encoder
from webapp.chips import ChipGroup
from webapp.cut import Cut

MAX_TOKENS = 500  # of one text; the time to align two grows faster than their product


@dataclass(frozen=True)
class Column:
    """Tokens of both texts over each other: the same ones, or what differs between the same."""

    agrees: bool
    a: Sequence[ChipGroup]
    b: Sequence[ChipGroup]


@dataclass(frozen=True)
class Comparison:
    a: Cut
    b: Cut
    columns: list[Column]

    @property
    def n_same(self) -> int:
        """Tokens that are aligned with one of the other text."""
        return sum(
            len(group.chips) for column in self.columns if column.agrees for group in column.a
        )


def side(encoder: Encoder, text: str, field: str) -> Cut:
    """``text`` cut into tokens. Raises InputError for ``field`` if there are too many."""
    cut = Cut(encoder, text)
    if cut.n > MAX_TOKENS:
        raise InputError(
            f"The text is {cut.n:,} tokens long; at most {MAX_TOKENS:,} are compared.",
            field,
            n_tokens=cut.n,
            maximum=MAX_TOKENS,
        )
    return cut


def compare(a: Cut, b: Cut) -> Comparison:
    """Align two texts by their ids."""
    # Without "autojunk", which would ignore ids that a longer text often has.
    matcher = SequenceMatcher(None, a.ids, b.ids, autojunk=False)
    columns: list[Column] = []
    for tag, a_start, a_stop, b_start, b_stop in matcher.get_opcodes():
        groups = a.groups(a_start, a_stop), b.groups(b_start, b_stop)
        if tag == "equal":
            # The same bytes begin the same characters, so both are grouped alike.
            pairs = zip(*groups, strict=True)
            columns += [Column(True, [upper], [lower]) for upper, lower in pairs]
        else:
            columns.append(Column(False, *groups))
    return Comparison(a, b, columns)
