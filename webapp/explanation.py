"""A text on its way through BPE, as the page /bpe draws it: what is drawn, made visible.

``Encoder.explain`` does the work; this module chooses what is drawn. Invariants: what the
page says is what ``encode`` does; whatever a page leaves out, it says so with the numbers;
the size of a page is bounded for any text.
"""

import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property

from gpt2core.errors import InputError
from gpt2core.tokenizer.bpe import (
    SPLIT_CLAUSES,
    SPLIT_PATTERN,
    Clause,
    Encoder,
    MergeStep,
    Word,
    byte_alphabet,
)
from webapp.chips import N_COLOURS, PICTURES, SPELLED_OUT, note_of

MAX_CHARS = 10_000  # characters of a text
MAX_WORDS = 200  # words drawn on a page
MAX_SYMBOLS = 64  # bytes of a word whose merges are drawn
MAX_DRAWN = 12_000  # symbols in all the merges drawn on a page
MAX_CHIPS = 500  # tokens drawn in the result
MAX_SHOWN = 60  # characters of a word where it is named
JOINERS = "\u200d\ufe0f"  # unseen, but inside a word they make emoji what they are


@dataclass(frozen=True)
class Cell:
    """One character of a word: as the eye can see it, its bytes in hex, their symbols."""

    shown: str
    note: str
    bytes: str
    symbols: str


@dataclass(frozen=True)
class State:
    """A word between two merges: its symbols, and the merge to be done next, if any.

    ``made`` is the place of the symbol that the merge before has made.
    """

    symbols: tuple[str, ...]
    made: int | None
    step: MergeStep | None


@dataclass(frozen=True)
class Token:
    """A token of the result."""

    index: int
    id: int
    piece: str
    note: str

    @property
    def colour(self) -> int:
        return self.index % N_COLOURS


@dataclass
class Entry:
    """A word explained, once for all the places where it stands in the text."""

    number: int
    word: Word
    tokens: list[Token]
    draws_steps: bool
    n_places: int = 0

    @property
    def shown(self) -> str:
        return shortened(visible(self.word.text), MAX_SHOWN)

    @cached_property
    def cells(self) -> list[Cell]:
        """The characters, as many as have room."""
        return [cell(char) for char in self.word.text[:MAX_SYMBOLS]]

    @property
    def n_more_cells(self) -> int:
        return len(self.word.text) - len(self.cells)

    @property
    def drawn_tokens(self) -> list[Token]:
        return self.tokens[:MAX_SYMBOLS]

    @cached_property
    def states(self) -> list[State]:
        """The word before each merge, and after the last."""
        steps = self.word.steps
        symbols = [self.word.symbols, *(step.symbols for step in steps)]
        made = [None, *(step.at for step in steps)]
        return [State(*state) for state in zip(symbols, made, [*steps, None], strict=True)]


@dataclass(frozen=True)
class ClauseUse:
    """A clause of the split pattern and the words of the text that it cut out."""

    clause: Clause
    n_words: int
    examples: list[str]


@dataclass(frozen=True)
class Explained:
    """A text on its way through BPE, as the page shows it."""

    words: list[Word]
    entries: list[Entry]
    places: list[Entry]  # for each word drawn, in the order of the text

    pattern = SPLIT_PATTERN.pattern
    max_symbols = MAX_SYMBOLS

    @property
    def opened(self) -> int | None:
        """Number of the entry whose merges are shown at once: the first that has some."""
        with_steps = (e.number for e in self.entries if e.draws_steps and e.word.n_merges)
        return next(with_steps, None)

    @property
    def tokens(self) -> list[Token]:
        """The result, as much of it as is drawn."""
        tokens = [token for entry in self.places for token in entry.tokens][:MAX_CHIPS]
        return [replace(token, index=index) for index, token in enumerate(tokens)]

    @property
    def n_more_words(self) -> int:
        return len(self.words) - len(self.places)

    @property
    def n_bytes(self) -> int:
        return sum(len(word.symbols) for word in self.words)

    @property
    def n_merges(self) -> int:
        return sum(word.n_merges for word in self.words)

    @property
    def n_tokens(self) -> int:
        return sum(len(word.ids) for word in self.words)

    @property
    def n_characters(self) -> int:
        return sum(len(word.text) for word in self.words)

    @property
    def clauses(self) -> list[ClauseUse]:
        """Every clause in the pattern's order, whether it took something or not."""
        taken: dict[str, list[str]] = {clause.name: [] for clause in SPLIT_CLAUSES}
        for word in self.words:
            taken[word.clause.name].append(word.text)
        return [
            ClauseUse(
                clause,
                len(taken[clause.name]),
                [shortened(visible(text), 24) for text in dict.fromkeys(taken[clause.name])][:4],
            )
            for clause in SPLIT_CLAUSES
        ]

    @property
    def alphabet(self) -> list[list[tuple[str, bool]]]:
        """Sixteen rows of sixteen: a byte's symbol, and whether the text has this byte."""
        used = {symbol for word in self.words for symbol in word.symbols}
        symbols = byte_alphabet()
        signs = [(symbols[byte], symbols[byte] in used) for byte in range(256)]
        return [signs[row : row + 16] for row in range(0, 256, 16)]


def explain(encoder: Encoder, text: str) -> Explained:
    """What the page shows for ``text``. Raises InputError for one that is too long."""
    if len(text) > MAX_CHARS:
        raise InputError(
            f"The text is {len(text):,} characters long; at most {MAX_CHARS:,} are explained.",
            "text",
            n_chars=len(text),
            max_chars=MAX_CHARS,
        )
    words = encoder.explain(text, MAX_SYMBOLS)
    entries: dict[str, Entry] = {}
    places, room = [], MAX_DRAWN
    for word in words[:MAX_WORDS]:
        entry = entries.get(word.text)
        if entry is None:
            cost = sum(len(step.symbols) for step in word.steps or ())
            draw = word.steps is not None and cost <= room
            room -= cost if draw else 0
            tokens = [
                Token(index, id, encoder.decoder[id], note_of(encoder.token_bytes(id)))
                for index, id in enumerate(word.ids)
            ]
            entry = entries[word.text] = Entry(len(entries) + 1, word, tokens, draw)
        entry.n_places += 1
        places.append(entry)
    return Explained(words, list(entries.values()), places)


def cell(char: str) -> Cell:
    """One character, its bytes and their symbols."""
    data = char.encode("utf-8")
    shown, note = char, ""
    if not is_seen(char):
        shown, note = picture(char), SPELLED_OUT.get(char) or unicodedata.name(char, "").lower()
    elif unicodedata.category(char).startswith("M"):
        shown = "\u25cc" + char  # a mark needs something to sit on
    symbols = byte_alphabet()
    return Cell(shown, note, data.hex(" "), " ".join(symbols[byte] for byte in data))


def visible(text: str) -> str:
    """``text`` with everything the eye cannot see made visible."""
    kept = JOINERS if len(text) > 1 else ""
    return "".join(char if is_seen(char) or char in kept else picture(char) for char in text)


def is_seen(char: str) -> bool:
    return char.isprintable() and char not in SPELLED_OUT


def picture(char: str) -> str:
    """A sign for a character that has no look of its own; else its code point."""
    sign = char.translate(PICTURES)
    return sign if sign != char else f"U+{ord(char):04X}"


def shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
