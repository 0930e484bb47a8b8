"""Tokens as chips, candidates as bars: what templates show of a token.

A chip says everything from the token's bytes, never from a lossy decoded string; chips
side by side never have the same colour; tokens that share a character are one group.
"""

import json
import math
import unicodedata
from dataclasses import dataclass

from gpt2core.engine.sequence import GeneratedToken
from gpt2core.tokenizer.bpe import Encoder, is_utf8, token_spans
from webapp.formatting import percent

N_COLOURS = 6  # chips take them in turn, so neighbours differ
# What the eye cannot tell apart, in words.
SPELLED_OUT = {
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
# The same made visible: control pictures, an open box for the space, arrows.
PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {
    0x20: "␣",
    0x09: "⇥",
    0x0A: "↵",
    0x7F: "␡",
    0xA0: "⍽",
}


@dataclass(frozen=True)
class Bar:
    """One candidate for a place.

    ``probability`` is the model's own, ``chance`` what temperature, top-k and top-p made
    of it; ``chosen`` marks the token that was drawn.
    """

    id: int
    piece: str
    note: str
    probability: float
    chance: float
    chosen: bool

    @property
    def percent(self) -> str:
        return percent(self.probability)

    @property
    def chance_percent(self) -> str:
        return percent(self.chance) if self.chance else "cut off"


@dataclass(frozen=True)
class TokenChip:
    """One token as the strip shows it.

    ``piece`` is its spelling in the byte alphabet (``Ġall``), ``readable`` its text with
    white space made visible, ``bytes`` hex. ``note`` says in words what the eye could not
    tell: which white space, or which bytes when the token is only part of a character.
    ``start``/``end`` are the characters it touches, ``rank`` that of the merge that made
    it. A generated token has its ``bars``, and a ``probability`` unless it was only kept.
    """

    index: int
    id: int
    piece: str
    readable: str
    bytes: str
    note: str
    start: int
    end: int
    rank: int | None
    generated: bool = False
    probability: float | None = None
    bars: tuple[Bar, ...] = ()

    @property
    def colour(self) -> int:
        return self.index % N_COLOURS

    @property
    def percent(self) -> str:
        return "" if self.probability is None else percent(self.probability)

    @property
    def level(self) -> int:
        """The probability in tenths, for the shade under the chip."""
        return round(10 * (self.probability or 0))

    @property
    def candidates(self) -> str:
        """The bars as JSON, for the card that a chip opens: id, piece, both probabilities."""
        return json.dumps(
            [[b.id, b.piece, round(b.probability, 4), round(b.chance, 4)] for b in self.bars]
        )

    def to_json(self) -> dict:
        """The token as ``POST /tokenize`` answers it."""
        return {
            "id": self.id,
            "piece": self.piece,
            "bytes": self.bytes,
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True)
class ChipGroup:
    """Tokens that cannot be told apart in the text, and that text: mostly one token.

    An emoji cut into three tokens is one group of three.
    """

    chips: list[TokenChip]
    text: str

    @property
    def first(self) -> int:
        return self.chips[0].index

    @property
    def last(self) -> int:
        return self.chips[-1].index

    @property
    def label(self) -> str:
        """The shared text, visible."""
        return self.text.translate(PICTURES)


def group_chips(encoder: Encoder, text: str, ids: list[int]) -> list[ChipGroup]:
    """Chips of ``text``, whose ids are ``ids``, grouped where they share a character."""
    spans = token_spans(text, [encoder.token_bytes(i) for i in ids])
    groups: list[list[TokenChip]] = []
    for index, (id, span) in enumerate(zip(ids, spans, strict=True)):
        chip = make_chip(encoder, id, index, span)
        if groups and span[0] < groups[-1][-1].end:
            groups[-1].append(chip)
        else:
            groups.append([chip])
    return [ChipGroup(chips, text[chips[0].start : chips[-1].end]) for chips in groups]


def make_chip(encoder: Encoder, id: int, index: int, span: tuple[int, int], **made) -> TokenChip:
    """The chip of token ``id``; ``made`` holds what only a generated token has."""
    data = encoder.token_bytes(id)
    return TokenChip(
        index,
        id,
        encoder.decoder[id],
        readable(data),
        data.hex(),
        "end of text" if id == encoder.endoftext else note_of(data),
        *span,
        encoder.merge_rank(id),
        **made,
    )


def token_bars(encoder: Encoder, token: GeneratedToken) -> tuple[Bar, ...]:
    """The candidates for a token's place, likeliest first."""
    return tuple(
        Bar(
            c.id,
            encoder.decoder[c.id],
            note_of(encoder.token_bytes(c.id)),
            math.exp(c.logprob),
            c.sampling_probability,
            c.id == token.id,
        )
        for c in token.candidates
    )


def readable(data: bytes) -> str:
    """A token as text with white space made visible; bytes in hex where it is not text."""
    return data.decode().translate(PICTURES) if is_utf8(data) else data.hex(" ")


def note_of(data: bytes) -> str:
    """In words, what the bytes of a token are when the eye cannot tell; else ``""``."""
    if not is_utf8(data):
        count = "byte" if len(data) == 1 else "bytes"
        return f"{count} {data.hex(' ')}"
    text = data.decode()
    if len(text) == 1 and text in SPELLED_OUT:
        return SPELLED_OUT[text]
    if text and all(c in SPELLED_OUT for c in text):
        kinds = {SPELLED_OUT[c] for c in text}
        return f"{len(text)} × {kinds.pop()}" if len(kinds) == 1 else f"{len(text)} white spaces"
    if len(text) == 1 and not text.isprintable():
        return unicodedata.name(text, f"U+{ord(text):04X}").lower()
    return ""
