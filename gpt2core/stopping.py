"""Stop strings: a text that is generated ends before the first of them.

Between the tokens of a generation and :class:`gpt2core.continuation.Continuation`, which adds
only tokens that :class:`UntilStop` has passed on.

Invariants: where a text ends does not depend on how it is cut into pieces. Text that may be
the beginning of a stop string is held back until it cannot be one. The stop string is no part
of the text. Of several matches, the one that is complete first counts; if two are complete at
the same character, the longer one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gpt2core.engine.sequence import GeneratedToken
from gpt2core.errors import InputError
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import StreamDecoder

MAX_STOPS = 4
MAX_STOP_CHARS = 500  # of one string; bounds the comparisons for each piece of text


def check_stops(stops: Collection[str]) -> None:
    """Raise InputError unless ``stops`` are at most ``MAX_STOPS`` strings of sensible length."""
    if len(stops) > MAX_STOPS:
        raise InputError(
            f"There are {len(stops)} stop strings; at most {MAX_STOPS} are possible.",
            "stop",
            n_stops=len(stops),
            maximum=MAX_STOPS,
        )
    for stop in stops:
        if not stop:
            raise InputError("A stop string is empty; it must have a character.", "stop")
        if len(stop) > MAX_STOP_CHARS:
            raise InputError(
                f"A stop string is {len(stop):,} characters long; at most {MAX_STOP_CHARS} "
                "are possible.",
                "stop",
                n_chars=len(stop),
                maximum=MAX_STOP_CHARS,
            )


class StopMatcher:
    """Text in, piece by piece; out comes what stands before the first stop string.

    >>> matcher = StopMatcher(["\\n\\n"])
    >>> matcher.feed("one\\n"), matcher.feed("two\\n"), matcher.feed("\\nthree"), matcher.stopped
    ('one', '\\ntwo', '', True)
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = stops
        self._held = ""  # the end of the text so far; may be the beginning of a stop string
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that can no longer belong to a stop string; nothing after a match."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        n_free = len(text) - self._n_to_hold(text)
        self._held = text[n_free:]
        return text[:n_free]

    def flush(self) -> str:
        """The text that is held back: no more follows, so it begins no stop string."""
        text, self._held = self._held, ""
        return text

    def _n_to_hold(self, text: str) -> int:
        """The length of the longest end of ``text`` with which a stop string begins."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for n in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-n:]) for stop in self._stops):
                return n
        return 0


@dataclass(frozen=True)
class _Held:
    """A token that is held back. Characters of the text are counted from its beginning.

    Its own text is ``start`` to ``end``; ``touched`` is one more if it ends inside a character.
    """

    token: GeneratedToken
    start: int
    end: int
    touched: int


class UntilStop:
    """Generated tokens in; out come those before the first stop string.

    A token is passed on when all its text is certain to stand before a stop string. After a
    match, tokens that begin before the stop string are passed on, and the others are dropped.
    """

    def __init__(self, encoder: Encoder, stops: Sequence[str]):
        self._encoder, self._stops = encoder, stops
        self._matcher, self._decoder = StopMatcher(stops), StreamDecoder()
        self._held: list[_Held] = []
        self._n_chars = 0  # decoded so far
        self._n_free = 0  # of these, certain to stand before a stop string

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found. Nothing is passed on after that."""
        return self._matcher.stopped

    def skip(self, token_id: int) -> None:
        """Take a token that stands before the generated ones; its text is not searched."""
        self._decoder.feed(self._encoder.token_bytes(token_id))

    def add(self, token: GeneratedToken) -> list[tuple[GeneratedToken, int]]:
        """The tokens that can be passed on now, and how many last characters each loses.

        Only a token that a stop string begins in loses any.
        """
        if not self._stops:
            return [(token, 0)]
        if self.stopped:
            return []
        self._read(token)
        if self.stopped:
            passed = [one for one in self._held if self._is_before_stop(one)]
        else:
            n_passed = 0
            while n_passed < len(self._held) and self._held[n_passed].touched <= self._n_free:
                n_passed += 1
            passed, self._held = self._held[:n_passed], self._held[n_passed:]
        return [(one.token, max(0, one.end - self._n_free)) for one in passed]

    def _read(self, token: GeneratedToken) -> None:
        """Decode a token, look for stop strings, and hold it."""
        text = ""
        if token.id not in self._encoder.rules.end_ids:  # such a token is no part of the text
            text = self._decoder.feed(self._encoder.token_bytes(token.id))
        if token.finish_reason:
            text += self._decoder.flush()
        start, self._n_chars = self._n_chars, self._n_chars + len(text)
        touched = self._n_chars + bool(self._decoder.pending)
        self._held.append(_Held(token, start, self._n_chars, touched))
        self._n_free += len(self._matcher.feed(text))
        if token.finish_reason and not self.stopped:
            self._n_free += len(self._matcher.flush())

    def _is_before_stop(self, one: _Held) -> bool:
        return one.start < self._n_free or one.touched <= self._n_free
