"""The steps of BPE on one text, as the page /bpe draws them.

``explain_encoding`` records what the encoder does; this module chooses how much of it is drawn
and makes it visible. Invariants: the page shows what ``encode`` does; whatever is left out is
counted on the page; the size of a page is bounded for any text.

On the page a pre-token of the split pattern is called a word.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from gpt2core.continuation import text_tokens
from gpt2core.errors import InputError
from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import replace_surrogates
from gpt2core.tokenizer.explain import ADDED_TOKEN, MergeStep, PreToken, explain_encoding
from gpt2core.tokenizer.pattern import SPLIT_ALTERNATIVES, SPLIT_PATTERN, PatternAlternative
from webapp.chips import (
    CHARACTER_NAMES,
    TokenChip,
    is_visible,
    make_chip,
    visible,
    visible_sign,
)

MAX_CHARS = 10_000  # characters of a text
MAX_WORDS = 200  # words drawn on a page
MAX_SYMBOLS = 64  # bytes of a word whose merges are drawn
MAX_STEP_SYMBOLS = 12_000  # symbols in all the merges drawn on a page
MAX_RESULT_CHIPS = 500  # tokens drawn in the result
MAX_LABEL_CHARS = 60  # characters of a word in its heading
MAX_EXAMPLES = 4  # words shown for an alternative of the split pattern
MAX_EXAMPLE_CHARS = 24


@dataclass(frozen=True)
class CharacterRow:
    """One character of a word: visible, in words if needed, its bytes in hex, their symbols."""

    shown: str
    description: str
    bytes: str
    symbols: str


@dataclass(frozen=True)
class MergeState:
    """A word between two merges: its symbols, and the next merge, if any.

    ``merged_at`` is the index of the symbol that the previous merge made.
    """

    symbols: tuple[str, ...]
    merged_at: int | None
    step: MergeStep | None


@dataclass(frozen=True)
class UniqueWord:
    """A word of the text, explained once for all its occurrences.

    ``draws_steps`` is false if the record of its merges is missing or too long to draw.
    """

    number: int
    word: PreToken
    chips: list[TokenChip]
    draws_steps: bool
    n_occurrences: int

    @property
    def shown(self) -> str:
        text = self.word.text or self.word.pieces[0]  # a token that precedes every text
        return shortened(visible(text), MAX_LABEL_CHARS)

    @property
    def is_added(self) -> bool:
        """Whether it is a token that the model adds to the pieces of BPE."""
        return self.word.alternative is ADDED_TOKEN

    @cached_property
    def characters(self) -> list[CharacterRow]:
        """The first characters; ``n_more_characters`` follow."""
        return [character_row(char) for char in self.word.text[:MAX_SYMBOLS]]

    @property
    def n_more_characters(self) -> int:
        return len(self.word.text) - len(self.characters)

    @property
    def drawn_chips(self) -> list[TokenChip]:
        return self.chips[:MAX_SYMBOLS]

    @property
    def n_more_chips(self) -> int:
        return len(self.chips) - len(self.drawn_chips)

    @cached_property
    def states(self) -> list[MergeState]:
        """The word before each merge, and after the last one."""
        steps = self.word.steps or ()
        symbols = [self.word.symbols, *(step.symbols for step in steps)]
        merged_at = [None, *(step.position for step in steps)]
        following = [*steps, None]
        return [MergeState(*state) for state in zip(symbols, merged_at, following, strict=True)]


@dataclass(frozen=True)
class AlternativeUse:
    """An alternative of the split pattern and the words of the text that it matched."""

    alternative: PatternAlternative
    matches: list[str]

    @property
    def examples(self) -> list[str]:
        """A few of the words, each once, visible and short."""
        unique = list(dict.fromkeys(self.matches))[:MAX_EXAMPLES]
        return [shortened(visible(text), MAX_EXAMPLE_CHARS) for text in unique]


@dataclass(frozen=True)
class Explanation:
    """The steps of BPE on one text, as the page shows them.

    ``words`` are all words of the text; ``occurrences`` are the drawn ones in the order of
    the text, each as the unique word that explains it.
    """

    text: str
    words: list[PreToken]
    unique_words: list[UniqueWord]
    occurrences: list[UniqueWord]

    pattern = SPLIT_PATTERN.pattern
    max_symbols = MAX_SYMBOLS

    @property
    def unfolded_number(self) -> int | None:
        """Number of the word whose merges are unfolded at first: the first that has some."""
        with_steps = (u.number for u in self.unique_words if u.draws_steps and u.word.n_merges)
        return next(with_steps, None)

    @property
    def chips(self) -> list[TokenChip]:
        """The beginning of the result; ``n_more_chips`` follow."""
        return [chip for word in self.occurrences for chip in word.chips][:MAX_RESULT_CHIPS]

    @property
    def n_more_chips(self) -> int:
        return self.n_tokens - len(self.chips)

    @property
    def n_more_words(self) -> int:
        return len(self.words) - len(self.occurrences)

    @property
    def n_bytes(self) -> int:
        return len(self.text.encode())

    @property
    def n_merges(self) -> int:
        return sum(word.n_merges for word in self.words)

    @property
    def n_tokens(self) -> int:
        return sum(len(word.ids) for word in self.words)

    @property
    def n_chars(self) -> int:
        return len(self.text)

    @property
    def alternatives(self) -> list[AlternativeUse]:
        """Every alternative in the pattern's order, also those that matched nothing."""
        return [
            AlternativeUse(
                alternative,
                [word.text for word in self.words if word.alternative == alternative],
            )
            for alternative in (*SPLIT_ALTERNATIVES, ADDED_TOKEN)
            if alternative is not ADDED_TOKEN or self.has_added_tokens
        ]

    @property
    def has_added_tokens(self) -> bool:
        return any(word.alternative is ADDED_TOKEN for word in self.words)

    @property
    def alphabet(self) -> list[list[tuple[str, bool]]]:
        """Sixteen rows of sixteen: a byte's symbol, and whether the text has this byte."""
        used = {symbol for word in self.words for symbol in word.symbols}
        symbols = byte_alphabet()
        cells = [(symbols[byte], symbols[byte] in used) for byte in range(256)]
        return [cells[row : row + 16] for row in range(0, 256, 16)]


def explain(encoder: Encoder, text: str, special_tokens: bool | None = None) -> Explanation:
    """What the page shows for ``text``. Raises InputError if it is too long."""
    if len(text) > MAX_CHARS:
        raise InputError(
            f"The text is {len(text):,} characters long; at most {MAX_CHARS:,} are explained.",
            "text",
            n_chars=len(text),
            max_chars=MAX_CHARS,
        )
    words = explain_encoding(encoder, text, MAX_SYMBOLS, special_tokens)
    drawn = words[:MAX_WORDS]
    # The same characters may be an added token here and a part of a word there.
    occurrences = Counter((word.text, word.ids) for word in drawn)
    # Each word is explained where it first occurs. Words use up the room for merges in the
    # order of the text; one whose merges do not fit has none drawn, and uses up nothing.
    unique: dict[tuple[str, tuple[int, ...]], UniqueWord] = {}
    room = MAX_STEP_SYMBOLS
    for word in drawn:
        key = (word.text, word.ids)
        if key in unique:
            continue
        n_symbols = sum(len(step.symbols) for step in word.steps or ())
        draws_steps = word.steps is not None and n_symbols <= room
        if draws_steps:
            room -= n_symbols
        chips = [make_chip(encoder, token) for token in text_tokens(encoder, word.text, word.ids)]
        unique[key] = UniqueWord(len(unique) + 1, word, chips, draws_steps, occurrences[key])
    in_order = [unique[word.text, word.ids] for word in drawn]
    return Explanation(replace_surrogates(text), words, list(unique.values()), in_order)


def character_row(char: str) -> CharacterRow:
    """One character, its bytes and their symbols."""
    data = char.encode("utf-8")
    shown, description = char, ""
    if not is_visible(char):
        shown = visible_sign(char)
        description = CHARACTER_NAMES.get(char) or unicodedata.name(char, "").lower()
    elif unicodedata.category(char).startswith("M"):
        shown = "\u25cc" + char  # a combining mark needs a base: the dotted circle
    symbols = byte_alphabet()
    return CharacterRow(shown, description, data.hex(" "), " ".join(symbols[b] for b in data))


def shortened(text: str, max_chars: int) -> str:
    """``text``, cut to ``max_chars`` characters with an ellipsis."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"
