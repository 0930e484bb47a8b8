"""GPT-2's byte-level BPE tokenizer: text to token ids and back, exactly as OpenAI's does it.

The first and the last step of generating text. Encoding takes five steps::

    "Not all"  -> pre-tokens "Not", " all"           SPLIT_PATTERN
               -> bytes      4e 6f 74, 20 61 6c 6c   UTF-8
               -> symbols    N o t, Ġ a l l          byte_alphabet()
               -> merges     Not, Ġall               vocab.bpe, lowest rank first
               -> ids        3673, 477

In code, symbols are ids from the start: each byte has a token id, and a merge replaces two
ids by one. A *piece* is a token spelled in the byte alphabet (``Ġall``); its *bytes* are
what it stands for (``b" all"``).

Trap: a token is a sequence of bytes, not of characters. An emoji is often three tokens,
none of which is text by itself. :meth:`Encoder.decode` therefore joins all bytes before it
decodes them, and a stream goes through :class:`gpt2core.tokenizer.decoding.StreamDecoder`.

A folder's tokenizer may add to this: tokens of its own, which are found in the text first,
and the few :class:`Rules` beside them.

Invariants: ``decode(encode(text)) == text`` for every text that UTF-8 can encode, unless
the rules add a space or a first token, or let a token take the white space beside it; a
lone surrogate becomes U+FFFD. ``encode`` never fails. A pre-token's ids are what its merges
make, never the id of a piece looked up. The cache holds at most ``CACHE_SIZE`` pre-tokens.

Sources: Sennrich et al. (2016) for BPE; OpenAI's released ``encoder.py`` for the byte
alphabet, the split pattern and the files.
"""

import heapq
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from gpt2core.display import Display, token_columns
from gpt2core.errors import InputError
from gpt2core.tokenizer.added import AddedToken, AddedTokens, Part, Rules
from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.decoding import replace_surrogates, token_spans
from gpt2core.tokenizer.pattern import SPLIT_PATTERN
from gpt2core.tokenizer.table import (
    ENDOFTEXT,
    VocabularyError,
    build_vocabulary,
    check_ids,
    default_rules,
)

CACHE_SIZE = 65_536  # pre-tokens cached with their ids
LONG_PRE_TOKEN = 48  # symbols; from this length on the heap is faster than scanning
REMOVED = -1  # in place of an id that was merged into the one before it


class Merge(NamedTuple):
    """One merge as :meth:`Encoder.merge_by_scanning` records it.

    ``ranks`` are the ranks of all neighbouring pairs before it (None: no merge joins the
    pair), ``rank`` the lowest of them, ``position`` its index. ``ids`` are all ids after it.
    """

    rank: int
    position: int
    ranks: tuple[int | None, ...]
    ids: tuple[int, ...]


class Token(NamedTuple):
    """A token of a text: its id and the characters ``text[start:end]`` it stands for.

    Two tokens that share a character have overlapping spans. A token without a character
    in the text, such as one that precedes every text, has an empty span.
    """

    id: int
    start: int
    end: int


class Encoder:
    """A byte-level BPE tokenizer over one vocabulary.

    ``encoder`` maps piece -> id, ``decoder`` id -> piece, ``merge_ranks`` a pair of ids to
    the rank of the merge that joins it. The piece of an added token is its content.
    Threads may share one.
    """

    def __init__(
        self,
        merges: Sequence[tuple[str, str]],
        encoder: dict[str, int] | None = None,
        rules: Rules | None = None,
    ) -> None:
        """``encoder`` is the table of an ``encoder.json``; without it, ids follow from merges.

        Without ``rules``, ``<|endoftext|>`` is the only added token, if it is in the table.
        Raises VocabularyError if the three do not belong together.
        """
        vocabulary = build_vocabulary(merges) if encoder is None else encoder
        self.rules = rules = default_rules(vocabulary) if rules is None else rules
        added = {token.content: token.id for token in rules.added_tokens}
        self.encoder = vocabulary | added
        check_ids(self.encoder)
        self.decoder = {token_id: piece for piece, token_id in self.encoder.items()}

        # Each byte starts as a token of its own, and each merge joins two tokens into one.
        symbols = byte_alphabet()
        try:
            self._byte_ids = [vocabulary[symbols[byte]] for byte in range(256)]
            pairs = [(vocabulary[left], vocabulary[right]) for left, right in merges]
            self._merged_ids = [vocabulary[left + right] for left, right in merges]
        except KeyError as error:
            raise VocabularyError(
                f"the vocabulary has no id for {error}, which its merges need."
            ) from error
        # The rank of a merge is its line in vocab.bpe, counted from 0.
        self.merge_ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._rank_of_id = {token_id: rank for rank, token_id in enumerate(self._merged_ids)}

        # An added token stands for its content, every other token for the bytes of its symbols.
        byte_of = {symbol: byte for byte, symbol in symbols.items()}
        self._bytes = {
            token_id: bytes(byte_of[symbol] for symbol in piece)
            if piece not in added and byte_of.keys() >= set(piece)
            else piece.encode()
            for piece, token_id in self.encoder.items()
        }
        self.special_tokens = {
            token.content: token.id for token in rules.added_tokens if token.special
        }
        self._added = AddedTokens(rules.added_tokens)
        self._added_by_id = {token.id: token for token in rules.added_tokens}
        # Pre-tokens that become one token without merging.
        self._unmerged = vocabulary if rules.ignore_merges else {}
        # Trap: a pre-token that is a piece must be merged all the same. Of the merges (a b),
        # (b c), (a bc) the first keeps the last from ever making "abc" one token.
        self._cache: dict[str, tuple[int, ...]] = {}

    @property
    def n_vocab(self) -> int:
        """The highest token id + 1 (50,257 for GPT-2). Not every id need be a token's."""
        return max(self.decoder) + 1

    @property
    def endoftext(self) -> int | None:
        """The id of ``<|endoftext|>`` (50256 for GPT-2), or None if there is none."""
        return self.encoder.get(ENDOFTEXT)

    def encode(self, text: str, special_tokens: bool | None = None) -> list[int]:
        """Token ids of ``text``.

        ``<|endoftext|>`` in the text is encoded as ordinary characters, because a user
        may have typed it; with ``special_tokens`` it becomes the one special token::

            >>> encoder.encode("Not all<|endoftext|>", special_tokens=True)
            [3673, 477, 50256]

        None is the tokenizer's own default, ``rules.reads_special_tokens``. Added tokens
        that are not special are found in any text.
        """
        text = replace_surrogates(text)
        ids = list(self.rules.first_ids)
        for part in self.split_at_added(text, special_tokens):
            if part.token:
                ids.append(part.token.id)
            else:
                self._encode_ordinary(self.with_prefix(text[part.start : part.end]), ids)
        return ids

    def tokens(self, text: str, special_tokens: bool | None = None) -> list[Token]:
        """The ids of :meth:`encode`, each with the characters it stands for."""
        text = replace_surrogates(text)
        tokens = [Token(token_id, 0, 0) for token_id in self.rules.first_ids]
        for start, end, added in self.split_at_added(text, special_tokens):
            if added:
                tokens.append(Token(added.id, start, end))
                continue
            ordinary = self.with_prefix(text[start:end])
            ids: list[int] = []
            self._encode_ordinary(ordinary, ids)
            spans = token_spans(ordinary, [self._bytes[token_id] for token_id in ids])
            # A space that was put before the text is no character of it.
            shift = end - len(ordinary)
            tokens += [
                Token(token_id, max(first + shift, start), last + shift)
                for token_id, (first, last) in zip(ids, spans, strict=True)
            ]
        return tokens

    def show(self, text: str, special_tokens: bool | None = None) -> Display:
        """The tokens of ``text``: coloured chips in a notebook, two lines of text elsewhere."""
        tokens = [(self.decoder[i], str(i)) for i in self.encode(text, special_tokens)]
        return Display(
            token_columns(tokens), lambda views: views.tokens(self, text, special_tokens)
        )

    def split_at_added(self, text: str, special_tokens: bool | None) -> list[Part]:
        """``text`` cut at the added tokens in it."""
        if special_tokens is None:
            special_tokens = self.rules.reads_special_tokens
        return self._added.split(text, special_tokens)

    def with_prefix(self, text: str) -> str:
        """``text`` as BPE gets it: with a space before it, if the tokenizer's rules say so."""
        prefix = self.rules.add_prefix_space and not text.startswith(" ")
        return f" {text}" if prefix else text

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        Raises InputError for an id outside the vocabulary.
        """
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for. Raises InputError if there is no such token."""
        try:
            return self._bytes[int(token_id)]
        except KeyError:
            raise InputError(
                f"Token id {token_id} is not in the vocabulary of {self.n_vocab:,} tokens.",
                n_vocab=self.n_vocab,
            ) from None

    def added_token(self, token_id: int) -> AddedToken | None:
        """The added token of this id, or None if there is none."""
        return self._added_by_id.get(token_id)

    def merge_rank(self, token_id: int) -> int | None:
        """Rank of the merge that makes a token; None for single bytes and special tokens."""
        return self._rank_of_id.get(token_id)

    def byte_ids(self, text: str) -> list[int]:
        """The ids that BPE starts from: one for each byte of ``text``, which must be UTF-8."""
        return [self._byte_ids[byte] for byte in text.encode("utf-8")]

    def unmerged_id(self, pre_token: str) -> int | None:
        """The id of a pre-token that becomes one token without merging; else None."""
        if not self._unmerged:
            return None
        symbols = byte_alphabet()
        return self._unmerged.get("".join(symbols[byte] for byte in pre_token.encode()))

    def _encode_ordinary(self, text: str, ids: list[int]) -> None:
        """Append the ids of ``text``, in which added tokens are plain characters, to ``ids``."""
        cached = self._cache.get
        for pre_token in SPLIT_PATTERN.findall(text):
            pre_token_ids = cached(pre_token)
            if pre_token_ids is None:
                pre_token_ids = self._encode_pre_token(pre_token)
                cached = self._cache.get  # the cache may have been replaced
            ids += pre_token_ids

    def _encode_pre_token(self, pre_token: str) -> tuple[int, ...]:
        """Ids of a pre-token that is not in the cache; adds it."""
        unmerged = self.unmerged_id(pre_token)
        ids = self.byte_ids(pre_token)
        if unmerged is not None:
            merged: tuple[int, ...] = (unmerged,)
        elif len(ids) < LONG_PRE_TOKEN:
            merged = tuple(self.merge_by_scanning(ids))
        else:
            merged = tuple(self.merge_with_heap(ids))
        # A long pre-token rarely comes twice, and takes memory.
        if len(pre_token) < LONG_PRE_TOKEN:
            if len(self._cache) >= CACHE_SIZE:
                # Start over: simpler than evicting one by one, and common words return soon.
                self._cache = {}
            self._cache[pre_token] = merged
        return merged

    def merge_by_scanning(self, ids: list[int], record: list[Merge] | None = None) -> list[int]:
        """Merge the pair of lowest rank until no pair can be merged; ``ids`` is changed.

        This is BPE by its definition. Looking at every pair before each merge takes
        quadratic time, which is fast for a word. Appends each merge to ``record``, if given.
        """
        # A pair that no merge joins ranks behind all others.
        no_merge = len(self._merged_ids)
        rank_of = self.merge_ranks.get
        while len(ids) > 1:
            ranks = [rank_of(pair, no_merge) for pair in pairwise(ids)]
            rank = min(ranks)
            if rank == no_merge:
                break
            # Of equal ranks the leftmost is merged first.
            position = ranks.index(rank)
            ids[position : position + 2] = [self._merged_ids[rank]]
            if record is not None:
                known = tuple(None if one == no_merge else one for one in ranks)
                record.append(Merge(rank, position, known, tuple(ids)))
        return ids

    def merge_with_heap(self, ids: list[int]) -> list[int]:
        """The same merges as :meth:`merge_by_scanning` in O(n log n); ``ids`` is changed.

        A heap gives the pair of lowest rank, and a doubly linked list over the positions
        gives a symbol's neighbours. Without it, a text that is one very long word would
        take quadratic time.
        """
        ranks, end = self.merge_ranks, len(ids)
        # The neighbours of each position; -1 and ``end`` lie outside.
        previous_of = list(range(-1, end - 1))
        next_of = list(range(1, end + 1))
        # All pairs that a merge joins. Equal ranks are ordered by position: leftmost first.
        heap = [
            (ranks[pair], position, pair)
            for position, pair in enumerate(pairwise(ids))
            if pair in ranks
        ]
        heapq.heapify(heap)
        while heap:
            rank, left, pair = heapq.heappop(heap)
            right = next_of[left]
            # Trap: a merge leaves the pairs of its two symbols in the heap. Such a pair is
            # outdated, and is skipped because the ids at its positions have changed.
            if right == end or (ids[left], ids[right]) != pair:
                continue
            # The left position gets the new id; the right one leaves the linked list.
            ids[left] = self._merged_ids[rank]
            ids[right] = REMOVED
            following = next_of[right]
            next_of[left] = following
            if following < end:
                previous_of[following] = left
            # The new symbol makes a new pair with each of its neighbours.
            for start in (previous_of[left], left):
                if start >= 0 and next_of[start] < end:
                    pair = (ids[start], ids[next_of[start]])
                    if pair in ranks:
                        heapq.heappush(heap, (ranks[pair], start, pair))
        return [token_id for token_id in ids if token_id != REMOVED]
