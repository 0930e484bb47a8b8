"""Tokens as chips and candidates as rows: what a template prints of one token.

Between the core's :class:`TextToken` and the templates. Invariants: a chip describes the
token's bytes, never a lossy decoded string; neighbouring chips differ in colour; tokens that
share a character are one group.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gpt2core.continuation import Step, TextToken
from gpt2core.engine.sequence import Candidate
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import is_utf8
from webapp.formatting import bar_level, ordinal, percent

N_COLOURS = 6  # app.css has the classes c0 to c5
# Names of characters that are invisible or look like others.
CHARACTER_NAMES = {
    " ": "space",
    "\n": "newline",
    "\t": "tab",
    "\r": "carriage return",
    "\x00": "NUL",
    "\u00a0": "no-break space",
    "\u200b": "zero-width space",
    "\u200d": "zero-width joiner",
    "\ufe0f": "emoji style",
    "\ufeff": "byte order mark",
}
# Code point -> a character that can be seen: control pictures, an open box, arrows.
VISIBLE_CHARACTERS = {code: chr(0x2400 + code) for code in range(0x20)} | {
    0x20: "␣",
    0x09: "⇥",
    0x0A: "↵",
    0x7F: "␡",
    0xA0: "⍽",
}

# Invisible by themselves, but inside a word they join characters to one emoji.
JOINERS = "\u200d\ufe0f"


@dataclass(frozen=True)
class RankClass:
    """Ranks up to ``last``: their name, sign and style."""

    last: float
    words: str
    sign: str
    style: str


RANK_CLASSES = (
    RankClass(10, "among the first 10", "●", "first"),
    RankClass(100, "among the first 100", "◐", "second"),
    RankClass(1000, "among the first 1,000", "○", "third"),
    RankClass(math.inf, "beyond the first 1,000", "▲", "beyond"),
)


def rank_class(rank: int) -> RankClass:
    """The class that a rank is in."""
    return next(one for one in RANK_CLASSES if rank <= one.last)


@dataclass(frozen=True)
class CandidateRow:
    """One of the likeliest tokens at a place.

    ``probability`` is the model's own, ``sampling_probability`` the one after temperature,
    top-k and top-p (0: cut off). ``is_chosen`` marks the token that was drawn; ``rank`` is
    its place if it is not among the likeliest.
    """

    id: int
    piece: str
    data: bytes
    probability: float
    sampling_probability: float
    is_chosen: bool
    rank: int | None = None

    @property
    def readable(self) -> str:
        return readable(self.data)

    @property
    def description(self) -> str:
        """Invisible characters, or bytes that are not text, in words."""
        return describe_bytes(self.data)

    @property
    def percent(self) -> str:
        return percent(self.probability)

    @property
    def sampling_percent(self) -> str:
        return percent(self.sampling_probability) if self.sampling_probability else "cut off"

    @property
    def chosen_note(self) -> str:
        """``"drawn"``, with the rank of a token that is not among the likeliest; else ``""``."""
        if not self.is_chosen:
            return ""
        return f"{ordinal(self.rank)}, drawn" if self.rank else "drawn"

    def to_json(self) -> dict[str, int | float | str]:
        """What the details of a chip show, every number spelled and rounded already."""
        return {
            "id": self.id,
            "piece": self.piece,
            "readable": self.readable,
            "note": self.description,
            "drawn": self.chosen_note,
            "probability": round(self.probability, 4),
            "percent": self.percent,
            "level": bar_level(self.probability),
            "sampling": round(self.sampling_probability, 4),
            "sampling_percent": self.sampling_percent,
        }


@dataclass(frozen=True)
class TokenChip:
    """One token as the strip shows it.

    ``description`` names what the eye cannot tell: which white space, or which bytes if the
    token is only part of a character. ``rank`` is that of the merge that made the token.
    ``is_generated`` includes kept tokens, whose ``probability`` is unknown. ``place`` is the
    token's rank in the model's order, of a text that is scored.
    """

    token: TextToken
    description: str
    rank: int | None
    is_generated: bool = False
    probability: float | None = None
    logprob: float | None = None
    candidates: tuple[CandidateRow, ...] = ()
    place: int | None = None

    @property
    def readable(self) -> str:
        return readable(self.token.data)

    @property
    def spoken(self) -> str:
        """The chip's name for a screen reader: ``"space Turing, token 39,141"``."""
        words = self.description or spoken(self.token.data.decode())
        share = f", {self.percent}" if self.percent else ""
        place = f", {self.place_text}, {self.place_class.words}" if self.place_class else ""
        return f"{words}, token {self.token.id:,}{share}{place}"

    @property
    def place_class(self) -> RankClass | None:
        return None if self.place is None else rank_class(self.place)

    @property
    def place_text(self) -> str:
        return "" if self.place is None else ordinal(self.place)

    @property
    def percent(self) -> str:
        return "" if self.probability is None else percent(self.probability)

    @property
    def level(self) -> int | None:
        return None if self.probability is None else bar_level(self.probability)

    @property
    def candidates_json(self) -> list[dict[str, int | float | str]]:
        return [row.to_json() for row in self.candidates]


@dataclass(frozen=True)
class ChipGroup:
    """The chips of tokens that share a character, mostly a single one, and their text.

    An emoji cut into three tokens is one group of three.
    """

    chips: Sequence[TokenChip]
    text: str

    @property
    def first(self) -> int:
        return self.chips[0].token.index

    @property
    def last(self) -> int:
        return self.chips[-1].token.index

    @property
    def label(self) -> str:
        """The shared text, with invisible characters made visible."""
        return visible(self.text)


def colour(index: int) -> int:
    """The colour of chip ``index``: 0 to ``N_COLOURS - 1``, in turn, so neighbours differ."""
    return index % N_COLOURS


def make_chip(encoder: Encoder, token: TextToken) -> TokenChip:
    """The chip of a token of a prompt."""
    return TokenChip(token, describe_token(encoder, token.id), encoder.merge_rank(token.id))


def generated_chip(encoder: Encoder, step: Step) -> TokenChip:
    """The chip of a generated or kept token."""
    return TokenChip(
        step.token,
        describe_token(encoder, step.token.id),
        encoder.merge_rank(step.token.id),
        is_generated=True,
        probability=math.exp(step.generated.logprob) if step.generated else None,
        logprob=step.logprob,
        candidates=candidate_rows(encoder, step),
    )


def candidate_rows(encoder: Encoder, step: Step) -> tuple[CandidateRow, ...]:
    """The candidates for the token's place, likeliest first; the drawn token is among them."""
    drawn = step.generated
    if drawn is None:
        return ()
    rows = [candidate_row(encoder, one, one.id == drawn.id) for one in drawn.candidates]
    if not any(row.is_chosen for row in rows):
        own = Candidate(drawn.id, drawn.logprob, drawn.sampling_probability or 0.0)
        rows.append(candidate_row(encoder, own, True, drawn.rank))
    return tuple(rows)


def candidate_row(
    encoder: Encoder, candidate: Candidate, is_chosen: bool, rank: int | None = None
) -> CandidateRow:
    return CandidateRow(
        candidate.id,
        encoder.decoder[candidate.id],
        encoder.token_bytes(candidate.id),
        math.exp(candidate.logprob),
        candidate.sampling_probability,
        is_chosen,
        rank,
    )


def group_chips(chips: Sequence[TokenChip], text: str) -> list[ChipGroup]:
    """The chips of ``text``, grouped where they share a character."""
    groups: list[list[TokenChip]] = []
    for chip in chips:
        if groups and chip.token.start < groups[-1][-1].token.end:
            groups[-1].append(chip)
        else:
            groups.append([chip])
    return [ChipGroup(group, text[group[0].token.start : group[-1].token.end]) for group in groups]


# A stream shows ten candidates with each token, most of them again and again.
@lru_cache(maxsize=2**14)
def readable(data: bytes) -> str:
    """A token as text with invisible characters made visible; ``⟨8d⟩`` if it is no text."""
    return visible(data.decode()) if is_utf8(data) else f"⟨{data.hex(' ')}⟩"


def visible(text: str) -> str:
    """``text`` with a visible sign for each invisible character."""
    shown = text.translate(VISIBLE_CHARACTERS)
    if shown.isprintable() and "\ufe0f" not in shown:  # nearly always
        return shown
    before = " " + text  # the character before each
    return "".join(
        char if is_visible(char) or is_joining(char, previous) else visible_sign(char)
        for previous, char in zip(before, text, strict=False)
    )


def is_joining(char: str, previous: str) -> bool:
    """Whether ``char`` is part of the look of the visible character before it."""
    return char in JOINERS and (is_visible(previous) or previous in JOINERS)


def is_visible(char: str) -> bool:
    return char.isprintable() and char not in CHARACTER_NAMES


def visible_sign(char: str) -> str:
    """A sign for an invisible character, else its code point: ``␣``, ``U+200B``."""
    sign = char.translate(VISIBLE_CHARACTERS)
    return sign if sign != char else f"U+{ord(char):04X}"


def spoken(text: str) -> str:
    """``text`` with words for white space: ``"space Turing"``."""
    words = [f" {CHARACTER_NAMES[c]} " if c in CHARACTER_NAMES else c for c in text]
    return " ".join("".join(words).split())


def describe_token(encoder: Encoder, token_id: int) -> str:
    """:func:`describe_bytes`, and a name for tokens that are no piece of BPE."""
    if token_id in encoder.rules.end_ids:
        return "end of text"
    added = encoder.added_token(token_id)
    if added:
        return "special token" if added.special else "added token"
    return describe_bytes(encoder.token_bytes(token_id))


@lru_cache(maxsize=2**14)
def describe_bytes(data: bytes) -> str:
    """A token's bytes in words if the eye cannot tell what they are; else ``""``."""
    if not is_utf8(data):
        noun = "byte" if len(data) == 1 else "bytes"
        return f"{noun} {data.hex(' ')}"
    text = data.decode()
    if len(text) == 1 and text in CHARACTER_NAMES:
        return CHARACTER_NAMES[text]
    if text and all(char in CHARACTER_NAMES for char in text):
        names = {CHARACTER_NAMES[char] for char in text}
        return f"{len(text)} × {names.pop()}" if len(names) == 1 else f"{len(text)} white spaces"
    if len(text) == 1 and not text.isprintable():
        return unicodedata.name(text, f"U+{ord(text):04X}").lower()
    return ""
