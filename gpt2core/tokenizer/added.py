"""Added tokens: strings that are one token each, found in a text before any BPE.

A fine-tuning adds tokens such as ``<|user|>`` to GPT-2's. Their content is text, not
spelled in the byte alphabet, and no merge makes it. Used by
:mod:`gpt2core.tokenizer.bpe`, which encodes what lies between them.

Invariant: matching is that of Hugging Face tokenizers, leftmost first and of those the
longest, in two passes: tokens with ``normalized`` false, then the others in the text that
is left. Source: ``added_vocabulary.rs`` of that library.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpt2core.tokenizer.pattern import SPACE, WORD_CHARACTER


@dataclass(frozen=True)
class AddedToken:
    """A string that is one token.

    A ``special`` token controls the model and is found in a text only on request.
    ``single_word``: only where no word character touches it. ``lstrip`` and ``rstrip``: the
    white space before or after it belongs to it. ``normalized``: found in the second pass.
    """

    content: str
    id: int
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True


@dataclass(frozen=True)
class Rules:
    """What a tokenizer does besides BPE.

    ``add_prefix_space``: each part of a text between added tokens begins with a space.
    ``ignore_merges``: a pre-token that is a piece becomes that token without merging.
    ``first_ids`` precede every text. ``reads_special_tokens``: special tokens are found in
    a text unless a caller says otherwise. Each of ``end_ids`` ends a generated text.
    """

    added_tokens: tuple[AddedToken, ...] = ()
    add_prefix_space: bool = False
    ignore_merges: bool = False
    first_ids: tuple[int, ...] = ()
    reads_special_tokens: bool = False
    end_ids: frozenset[int] = frozenset()

    @property
    def keeps_text(self) -> bool:
        """Whether the bytes of a text's tokens, joined, are always those of the text."""
        strips = any(token.lstrip or token.rstrip for token in self.added_tokens)
        return not (self.add_prefix_space or self.first_ids or strips)


class Part(NamedTuple):
    """``text[start:end]``: an added token, or text between them where ``token`` is None."""

    start: int
    end: int
    token: AddedToken | None


class AddedTokens:
    """The added tokens of a tokenizer, ready to be found in a text."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        tokens = tuple(tokens)
        first = [token for token in tokens if not token.normalized]
        second = [token for token in tokens if token.normalized]
        self._passes = [Matcher(group) for group in (first, second) if group]

    def split(self, text: str, special_tokens: bool) -> list[Part]:
        """``text`` cut at its added tokens; without parts that are empty."""
        parts = [Part(0, len(text), None)] if text else []
        for matcher in self._passes:
            parts = [
                inner
                for part in parts
                for inner in ([part] if part.token else matcher.split(text, part, special_tokens))
            ]
        return parts


class Matcher:
    """Finds the tokens of one pass."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self._tokens = {token.content: token for token in tokens}
        # Of alternatives the first that matches is taken, so the longest come first.
        contents = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(content) for content in contents))

    def split(self, text: str, part: Part, special_tokens: bool) -> Iterator[Part]:
        """``part`` cut at these tokens. What lies outside the part is not looked at."""
        sentence = text[part.start : part.end]
        done = 0  # in characters of the sentence
        for match in self._pattern.finditer(sentence):
            token = self._tokens[match[0]]
            # A match that does not count still hides shorter tokens inside it.
            if (token.special and not special_tokens) or not stands_alone(token, sentence, match):
                continue
            start, end = match.span()
            while token.lstrip and start > done and SPACE.match(sentence, start - 1):
                start -= 1
            while token.rstrip and SPACE.match(sentence, end):
                end += 1
            if token.lstrip and done >= end:
                continue  # white space that belongs to the token before it
            if done < start:
                yield Part(part.start + done, part.start + start, None)
            yield Part(part.start + start, part.start + end, token)
            done = end
        if done < len(sentence):
            yield Part(part.start + done, part.end, None)


def stands_alone(token: AddedToken, sentence: str, match: re.Match[str]) -> bool:
    """Whether the token may be here: anywhere, unless it must be a word of its own."""
    if not token.single_word:
        return True
    before, after = sentence[: match.start()][-1:], sentence[match.end() :][:1]
    return not WORD_CHARACTER.match(before) and not WORD_CHARACTER.match(after)
