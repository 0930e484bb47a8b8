"""Two texts' tokens over each other, aligned where they agree, and what each text costs.

Between the encoder and the page /compare. Invariants: the columns hold every token of both texts
once, in order; tokens over each other in a column that agrees have the same id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from gpt2core.continuation import text_tokens
from gpt2core.errors import InputError
from gpt2core.tokenizer.bpe import Encoder
from webapp.chips import ChipGroup, TokenChip, group_chips, make_chip
from webapp.formatting import ratio

MAX_TOKENS = 500  # of one text; the time to align two grows faster than their product


@dataclass(frozen=True)
class Side:
    """One of the texts, and its cost."""

    text: str
    chips: list[TokenChip]

    @property
    def n_tokens(self) -> int:
        return len(self.chips)

    @property
    def ids(self) -> list[int]:
        return [chip.token.id for chip in self.chips]

    @property
    def n_chars(self) -> int:
        return len(self.text)

    @property
    def n_bytes(self) -> int:
        return len(self.text.encode())

    @property
    def per_character(self) -> str:
        return ratio(self.n_tokens, self.n_chars)

    @property
    def per_byte(self) -> str:
        return ratio(self.n_tokens, self.n_bytes)

    def groups(self, start: int, stop: int) -> list[ChipGroup]:
        """The chips from ``start`` to ``stop``, grouped where they share a character."""
        return group_chips(self.chips[start:stop], self.text)


@dataclass(frozen=True)
class Column:
    """Tokens of both texts over each other: the same ones, or what differs between the same."""

    agrees: bool
    a: Sequence[ChipGroup]
    b: Sequence[ChipGroup]


@dataclass(frozen=True)
class Comparison:
    a: Side
    b: Side
    columns: list[Column]

    @property
    def n_same(self) -> int:
        """Tokens that are aligned with one of the other text."""
        return sum(
            len(group.chips) for column in self.columns if column.agrees for group in column.a
        )


def side(encoder: Encoder, text: str, field: str) -> Side:
    """``text`` cut into tokens. Raises InputError for ``field`` if there are too many."""
    ids = encoder.encode(text)
    if len(ids) > MAX_TOKENS:
        raise InputError(
            f"The text is {len(ids):,} tokens long; at most {MAX_TOKENS:,} are compared.",
            field,
            n_tokens=len(ids),
            maximum=MAX_TOKENS,
        )
    tokens = text_tokens(encoder, text, ids)
    return Side(text, [make_chip(encoder, token) for token in tokens])


def compare(a: Side, b: Side) -> Comparison:
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
