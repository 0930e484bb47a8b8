"""One text cut into tokens, and what it costs: for the gallery and for the comparison of two."""

from functools import cached_property

from gpt2core.continuation import text_tokens
from gpt2core.tokenizer.bpe import Encoder
from webapp.chips import ChipGroup, TokenChip, group_chips, make_chip
from webapp.formatting import plural, ratio


class Cut:
    """Its properties are what pages print; the gallery's sentences and conditions read them too."""

    def __init__(self, encoder: Encoder, text: str, special_tokens: bool | None = None):
        self._encoder, self.text = encoder, text
        self.ids = encoder.encode(text, special_tokens)

    @property
    def id(self) -> str:
        """The ids: ``1110, 318``."""
        return ", ".join(map(str, self.ids))

    @property
    def pieces(self) -> list[str]:
        return [self._encoder.decoder[token_id] for token_id in self.ids]

    @property
    def cuts(self) -> str:
        """The pieces with dots between: ``Ġcap · es``."""
        return " · ".join(self.pieces)

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def n_chars(self) -> int:
        return len(self.text)

    @property
    def n_bytes(self) -> int:
        return len(self.text.encode())

    @property
    def tokens(self) -> str:
        return counted(self.n, "token")

    @property
    def characters(self) -> str:
        return counted(self.n_chars, "character")

    @property
    def bytes(self) -> str:
        return counted(self.n_bytes, "byte")

    @property
    def cost(self) -> float:
        """Tokens for each character."""
        return self.n / self.n_chars

    @property
    def per_character(self) -> str:
        return ratio(self.n, self.n_chars)

    @property
    def per_byte(self) -> str:
        return ratio(self.n, self.n_bytes)

    @cached_property
    def chips(self) -> list[TokenChip]:
        tokens = text_tokens(self._encoder, self.text, self.ids)
        return [make_chip(self._encoder, token) for token in tokens]

    def groups(self, start: int = 0, stop: int | None = None) -> list[ChipGroup]:
        """The chips from ``start`` to ``stop``, grouped where they share a character."""
        return group_chips(self.chips[start:stop], self.text)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {plural(noun, number)}"
