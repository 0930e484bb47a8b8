"""The gallery's texts, cut into tokens, with sentences that the tokenizer fills and checks.

Below the modules that have the texts, and the route. All of it is about GPT-2's own
tokenizer, whichever model is served.

Invariants: a number in a sentence is formatted from the tokenizer's result. Each sentence has a
condition, and it is true if the condition holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from gpt2core.tokenizer.bpe import Encoder
from webapp.chips import ChipGroup
from webapp.cut import Cut

CODE_MARK = "`"  # encloses what a sentence quotes


class Cuts:
    """Any text cut into tokens: ``cuts[" hello"].n``; also as ``{cut[ hello].n}`` in a format."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def __getitem__(self, text: str | int) -> Cut:
        return Cut(self._encoder, str(text), False)  # a format reads digits in brackets as a number

    @property
    def specials(self) -> list[str]:
        """The names of all special tokens."""
        return list(self._encoder.special_tokens)

    @property
    def longest_word(self) -> int:
        """Letters of the longest piece that has only letters of English."""
        words = (p for p in self._encoder.encoder if p.isascii() and p.isalpha())
        return max(map(len, words))


@dataclass(frozen=True)
class Sentence:
    """A format with the fields ``this`` (the entry's text) and ``cut`` (any other text).

    ``holds(this, cut)`` says whether the sentence is true.
    """

    template: str
    holds: Callable[[Cut, Cuts], bool]


@dataclass(frozen=True)
class Entry:
    """A text and what it shows. ``against`` is the text that it is compared with on a page.

    ``special_tokens``: names of special tokens in the text are these tokens.
    """

    text: str
    sentences: tuple[Sentence, Sentence]
    against: str | None = None
    special_tokens: bool = False


@dataclass(frozen=True)
class Group:
    """Entries about one subject; ``name`` is its anchor on the page."""

    name: str
    title: str
    lead: str
    entries: tuple[Entry, ...]


class EntryView:
    """One entry as the page shows it, under one tokenizer."""

    def __init__(self, entry: Entry, encoder: Encoder):
        self.entry = entry
        self.cut = Cut(encoder, entry.text, entry.special_tokens)
        self.cuts = Cuts(encoder)

    @cached_property
    def groups(self) -> list[ChipGroup]:
        return self.cut.groups()

    @cached_property
    def sentences(self) -> list[list[tuple[str, bool]]]:
        """Each sentence as parts: a text, and whether it is a quotation."""
        filled = [one.template.format(this=self.cut, cut=self.cuts) for one in self.entry.sentences]
        return [quoted_parts(sentence) for sentence in filled]

    @property
    def holds(self) -> list[bool]:
        """Whether each sentence is true."""
        return [one.holds(self.cut, self.cuts) for one in self.entry.sentences]

    @property
    def shown(self) -> str:
        """The text, with a sign for each space at its beginning or end."""
        return ends_shown(self.entry.text)

    @property
    def against_shown(self) -> str:
        return in_one_line(self.entry.against or "")


def quoted_parts(sentence: str) -> list[tuple[str, bool]]:
    """``"a `b` c"`` -> ``[("a ", False), ("b", True), (" c", False)]``; spaces at ends shown."""
    parts = [(part, i % 2 == 1) for i, part in enumerate(sentence.split(CODE_MARK))]
    return [(in_one_line(part) if is_code else part, is_code) for part, is_code in parts if part]


def ends_shown(text: str) -> str:
    """``text`` with ``␣`` for each space at its beginning or end."""
    n_before = len(text) - len(text.lstrip(" "))
    inner = text.strip(" ")
    return f"{'␣' * n_before}{inner}{'␣' * (len(text) - n_before - len(inner))}"


def in_one_line(text: str) -> str:
    """The same with signs for line breaks and tabs."""
    return ends_shown(text).replace("\n", "↵").replace("\t", "⇥")


def is_cut_alike(entry: Entry, encoder: Encoder, other: Encoder) -> bool:
    """Whether two tokenizers give the entry's text the same ids."""
    ids, other_ids = (one.encode(entry.text, entry.special_tokens) for one in (encoder, other))
    return ids == other_ids
