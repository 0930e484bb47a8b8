"""From the bytes of tokens to text: character by character in a stream, and by position.

A token may end inside a character: an emoji is often three tokens, none of which is text
by itself. Used by the command line and the web page, which show text while it is
generated, and by :mod:`gpt2core.tokenizer.bpe`. Knows nothing of a vocabulary.

Invariant: bytes that are not UTF-8 become U+FFFD, exactly as ``bytes.decode`` with
``errors="replace"`` makes them.
"""

import codecs
import re
from collections.abc import Sequence

LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class StreamDecoder:
    """Bytes in, complete characters out.

    The bytes of an unfinished character are kept for the next call. Bytes that can no
    longer become a character are returned as U+FFFD. ``flush()`` ends the text::

        >>> decoder = StreamDecoder()
        >>> decoder.feed(b"caf\\xc3"), decoder.feed(b"\\xa9"), decoder.flush()
        ('caf', 'é', '')
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """The characters that ``data`` completes, possibly none."""
        return self._decoder.decode(data)

    @property
    def pending(self) -> bytes:
        """The bytes of a character that is not complete yet."""
        return self._decoder.getstate()[0]

    def flush(self) -> str:
        """The pending bytes as U+FFFD; the decoder is then ready for a new text."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def token_spans(text: str, tokens: Sequence[bytes]) -> list[tuple[int, int]]:
    """For each token of ``text``, the characters its bytes belong to: ``text[start:end]``.

    ``tokens`` joined must be the UTF-8 of ``text``. Two tokens that share a character
    have overlapping spans::

        >>> token_spans("a🦄", [b"a", b"\\xf0\\x9f", b"\\xa6\\x84"])
        [(0, 1), (1, 2), (1, 2)]
    """
    char_of_byte: list[int] = []
    for position, char in enumerate(replace_surrogates(text)):
        char_of_byte += [position] * len(char.encode("utf-8"))
    spans, first = [], 0
    for token in tokens:
        last = first + len(token) - 1
        spans.append((char_of_byte[first], char_of_byte[last] + 1))
        first = last + 1
    return spans


def replace_surrogates(text: str) -> str:
    """``text`` with each lone surrogate, which UTF-8 cannot encode, as U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return LONE_SURROGATE.sub("\ufffd", text)
    return text


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is valid UTF-8, that is, complete characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
