"""The split pattern: where a text is split into pre-tokens before any merge.

Used by :mod:`gpt2core.tokenizer.bpe` and by the page that explains it. The only module that
imports ``regex``, whose classes of characters are those of the tokenizers' own patterns.
Source: the pattern in OpenAI's ``encoder.py``.
"""

from dataclasses import dataclass

import regex


@dataclass(frozen=True)
class PatternAlternative:
    """One alternative of the split pattern: its name, its regex, what it matches in words."""

    name: str
    pattern: str
    description: str


# The text is split into pre-tokens before any merge, and no merge crosses a split. The
# alternatives are tried in this order; the first that matches takes as much as it can.
# Trap: "letters" and "digits" take the space before them, so " all" and "all" differ.
SPLIT_ALTERNATIVES = (
    PatternAlternative(
        "contraction",
        r"'s|'t|'re|'ve|'m|'ll|'d",
        "the end of an English contraction, in small letters and with a straight apostrophe",
    ),
    PatternAlternative(
        "letters", r" ?\p{L}+", "letters of any script, with one space before them if any"
    ),
    PatternAlternative(
        "digits", r" ?\p{N}+", "digits and other numerals, with one space before them if any"
    ),
    PatternAlternative(
        "signs",
        r" ?[^\s\p{L}\p{N}]+",
        "anything that is no letter, digit or white space: punctuation, symbols, emoji, "
        "combining marks; with one space before it if any",
    ),
    PatternAlternative(
        "spare white space",
        r"\s+(?!\S)",
        "white space at the end of the text; before a word, all but the last one, which is "
        "left for the word",
    ),
    PatternAlternative(
        "last white space",
        r"\s+",
        "the one white space left before a word that cannot take it, such as a newline",
    ),
)
SPLIT_PATTERN = regex.compile("|".join(one.pattern for one in SPLIT_ALTERNATIVES))
# The same pattern with a group around each alternative, which shows the one that matched.
SPLIT_PATTERN_IN_GROUPS = regex.compile("|".join(f"({one.pattern})" for one in SPLIT_ALTERNATIVES))
SPACE = regex.compile(r"\s")
WORD_CHARACTER = regex.compile(r"\w")
