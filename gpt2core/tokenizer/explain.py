"""How :meth:`Encoder.encode` gets from a text to its ids: every pre-token, every merge.

The page that explains BPE shows this. Stands above :mod:`gpt2core.tokenizer.bpe`.

Invariant: the ids are those of ``encode``, because :func:`explain_encoding` runs the same code,
:meth:`Encoder.merge_by_scanning`, and asks it for a record of its merges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2core.tokenizer.bpe import Encoder, Merge
from gpt2core.tokenizer.decoding import replace_surrogates
from gpt2core.tokenizer.pattern import (
    SPLIT_ALTERNATIVES,
    SPLIT_PATTERN_IN_GROUPS,
    PatternAlternative,
)

ADDED_TOKEN = PatternAlternative(
    "added token", "", "a token that this model adds to the pieces of BPE: found before any split"
)


@dataclass(frozen=True)
class MergeStep:
    """One merge inside a pre-token.

    ``ranks`` are the ranks of all neighbouring pairs before the merge, None for a pair
    that no merge joins. ``rank`` is the lowest of them and ``position`` its index.
    ``left`` and ``right`` are the two symbols joined; ``symbols`` are all symbols after it.
    """

    rank: int
    position: int
    left: str
    right: str
    ranks: tuple[int | None, ...]
    symbols: tuple[str, ...]

    @property
    def result(self) -> str:
        """The new symbol."""
        return self.left + self.right


@dataclass(frozen=True)
class PreToken:
    """A part of the text that the split pattern cut out, and how it became tokens.

    ``start`` is the index of its first character in the text, ``alternative`` the part of
    the pattern that matched, or ``ADDED_TOKEN``. ``symbols`` are its bytes in the byte
    alphabet, ``pieces`` and ``ids`` its tokens. ``steps`` is None if it was too long to
    record its merges. What becomes one token without merging has that as its only symbol.
    """

    text: str
    start: int
    alternative: PatternAlternative
    symbols: tuple[str, ...]
    steps: tuple[MergeStep, ...] | None
    pieces: tuple[str, ...]
    ids: tuple[int, ...]

    @property
    def n_merges(self) -> int:
        """How many merges were made. Each makes one symbol of two."""
        return len(self.symbols) - len(self.ids)


def explain_encoding(
    encoder: Encoder,
    text: str,
    max_symbols: int = 64,
    special_tokens: bool | None = None,
) -> list[PreToken]:
    """The pre-tokens of ``text`` in order, each with its merges and its ids.

    An added token is a pre-token of its own. A pre-token of more than ``max_symbols`` bytes
    has no steps, because their record grows with the square of its length.
    """
    text = replace_surrogates(text)
    pre_tokens = [added_pre_token(encoder, "", 0, first) for first in encoder.rules.first_ids]
    for start, end, added in encoder.split_at_added(text, special_tokens):
        if added:
            pre_tokens.append(added_pre_token(encoder, text[start:end], start, added.id))
            continue
        ordinary = encoder.with_prefix(text[start:end])
        shift = end - len(ordinary)  # the position of its first character in the text
        for match in SPLIT_PATTERN_IN_GROUPS.finditer(ordinary):
            position = max(match.start() + shift, start)
            alternative = matched_alternative(match.groups())
            pre_tokens.append(
                explain_pre_token(encoder, match[0], position, alternative, max_symbols)
            )
    return pre_tokens


def added_pre_token(encoder: Encoder, text: str, start: int, token_id: int) -> PreToken:
    """A token that was not made by BPE: found in the text, or put before it."""
    pieces = to_pieces(encoder, [token_id])
    return PreToken(text, start, ADDED_TOKEN, pieces, (), pieces, (token_id,))


def explain_pre_token(
    encoder: Encoder, text: str, start: int, alternative: PatternAlternative, max_symbols: int
) -> PreToken:
    """One pre-token that the split pattern cut out."""
    unmerged = encoder.unmerged_id(text)
    if unmerged is not None:
        pieces = to_pieces(encoder, [unmerged])
        return PreToken(text, start, alternative, pieces, (), pieces, (unmerged,))
    byte_ids = encoder.byte_ids(text)
    symbols = to_pieces(encoder, byte_ids)
    steps: tuple[MergeStep, ...] | None = None
    if len(byte_ids) > max_symbols:
        ids = encoder.merge_with_heap(byte_ids)
    else:
        record: list[Merge] = []
        ids = encoder.merge_by_scanning(byte_ids, record)
        steps = merge_steps(encoder, symbols, record)
    pieces = to_pieces(encoder, ids)
    return PreToken(text, start, alternative, symbols, steps, pieces, tuple(ids))


def matched_alternative(groups: Sequence[str | None]) -> PatternAlternative:
    """The alternative that matched: the one whose group holds text."""
    return next(one for one, group in zip(SPLIT_ALTERNATIVES, groups, strict=True) if group)


def merge_steps(
    encoder: Encoder, symbols: tuple[str, ...], record: Sequence[Merge]
) -> tuple[MergeStep, ...]:
    """The recorded merges in symbols, beginning with the bytes ``symbols``."""
    steps = []
    for merge in record:
        left, right = symbols[merge.position : merge.position + 2]
        symbols = to_pieces(encoder, merge.ids)
        step = MergeStep(merge.rank, merge.position, left, right, merge.ranks, symbols)
        steps.append(step)
    return tuple(steps)


def to_pieces(encoder: Encoder, ids: Sequence[int]) -> tuple[str, ...]:
    """The ids spelled in the byte alphabet."""
    return tuple(encoder.decoder[token_id] for token_id in ids)
