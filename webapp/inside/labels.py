"""Tokens as labels of rows, columns and chips.

A label comes from the token's bytes. Tokens that share a character keep the bracket that
the token strip gives them, so that no label claims to be a character that it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2core.continuation import Continuation, TextToken
from gpt2core.tokenizer.bpe import Encoder
from webapp.chips import VISIBLE_CHARACTERS, colour, describe_token


@dataclass(frozen=True)
class Label:
    """One token of the text; ``at`` counts from 1. ``generated`` tokens were kept ones."""

    at: int
    id: int
    piece: str
    note: str
    bytes: str
    start: int
    end: int
    generated: bool

    @property
    def colour(self) -> int:
        return colour(self.at - 1)

    @property
    def spoken(self) -> str:
        """The token in a sentence: its piece, and its note where it has one."""
        return f"“{self.piece}” ({self.note})" if self.note else f"“{self.piece}”"


@dataclass(frozen=True)
class LabelGroup:
    """Tokens that share a character, and that character; mostly one token without a text."""

    labels: tuple[Label, ...]
    text: str


@dataclass(frozen=True)
class Piece:
    """A token of the vocabulary, without a place in the text."""

    id: int
    piece: str
    note: str


def labels_of(
    encoder: Encoder, prompt: str, ids: Sequence[int], n_prompt: int
) -> tuple[tuple[Label, ...], str]:
    """A label for each of ``ids``, of which ``n_prompt`` are the prompt's, and the whole text."""
    whole = Continuation(encoder, prompt, ids[:n_prompt], ids[n_prompt:])
    tokens = [*whole.prompt_tokens, *(step.token for step in whole.steps)]
    labels = (label_of(token, encoder, token.index >= n_prompt) for token in tokens)
    return tuple(labels), prompt + "".join(step.text for step in whole.steps)


def label_of(token: TextToken, encoder: Encoder, generated: bool) -> Label:
    return Label(
        token.index + 1,
        token.id,
        token.piece,
        describe_token(encoder, token.id),
        token.data.hex(),
        token.start,
        token.end,
        generated,
    )


def piece_of(encoder: Encoder, id: int) -> Piece:
    return Piece(id, encoder.decoder[id], describe_token(encoder, id))


def group_labels(labels: Sequence[Label], text: str) -> list[LabelGroup]:
    """Labels in brackets where they share a character of ``text``."""
    groups: list[list[Label]] = []
    for label in labels:
        if groups and label.start < groups[-1][-1].end:
            groups[-1].append(label)
        else:
            groups.append([label])
    return [LabelGroup(tuple(group), shared_text(group, text)) for group in groups]


def shared_text(group: Sequence[Label], text: str) -> str:
    if len(group) == 1:
        return ""
    return text[group[0].start : group[-1].end].translate(VISIBLE_CHARACTERS)
